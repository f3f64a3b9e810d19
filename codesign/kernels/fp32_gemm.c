/* C[m,n] = A[m,k] · B[k,n] in fp32, the peers of the course's integer kernels (Lecture 5, Lab 2).

   Both leave vectorization to the compiler: the inner loop runs over neighbouring columns of B and C,
   because a sum over k may not be reordered in floating point. */

/* As one writes it: C is read and written once for every k. */
void fp32_gemm(const float *a, const float *b, float *c, int m, int n, int k) {
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) c[i * n + j] = 0;
        for (int p = 0; p < k; p++)
            for (int j = 0; j < n; j++) c[i * n + j] += a[i * k + p] * b[p * n + j];
    }
}

enum { ROWS = 4, COLUMNS = 16 };

/* Tuned: a tile of C stays in registers while k runs; m a multiple of 4, n of 16. */
void fp32_gemm_tiled(const float *a, const float *b, float *c, int m, int n, int k) {
    for (int j = 0; j < n; j += COLUMNS)
        for (int i = 0; i < m; i += ROWS) {
            float sum[ROWS][COLUMNS] = {{0}};
            for (int p = 0; p < k; p++)
                for (int u = 0; u < ROWS; u++)
                    for (int v = 0; v < COLUMNS; v++)
                        sum[u][v] += a[(i + u) * k + p] * b[p * n + j + v];
            for (int u = 0; u < ROWS; u++)
                for (int v = 0; v < COLUMNS; v++) c[(i + u) * n + j + v] = sum[u][v];
        }
}
