
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { ROWS = 2, COLUMNS = 4, STEP = 32 };

static __m256i load(const int8_t *from) { return _mm256_loadu_si256((const __m256i *)from); }

static int32_t total(__m256i v) {
    __m128i x = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xb1)));
}

/* Each load of a row of A serves four columns, each of B two rows. vpmaddubsw wants one operand
   unsigned: |a| times b with a's sign. Its pairs reach 2 * 128 * 127, which int16 holds. */
void int8_gemm(const int8_t *a, const int8_t *b, int32_t *c, int m, int n, int k) {
    const __m256i ones = _mm256_set1_epi16(1);
    for (int i = 0; i < m; i += ROWS)
        for (int j = 0; j < n; j += COLUMNS) {
            __m256i sum[ROWS][COLUMNS];
            memset(sum, 0, sizeof sum);
            for (int p = 0; p < k; p += STEP)
                for (int u = 0; u < ROWS; u++) {
                    __m256i x = load(a + (i + u) * k + p), size = _mm256_abs_epi8(x);
                    for (int v = 0; v < COLUMNS; v++) {
                        __m256i y = _mm256_sign_epi8(load(b + (j + v) * k + p), x);
                        __m256i pairs = _mm256_maddubs_epi16(size, y);
                        sum[u][v] = _mm256_add_epi32(sum[u][v], _mm256_madd_epi16(pairs, ones));
                    }
                }
            for (int u = 0; u < ROWS; u++)
                for (int v = 0; v < COLUMNS; v++) c[(i + u) * n + j + v] = total(sum[u][v]);
        }
}
