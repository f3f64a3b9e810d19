"""Forgeries of the int8 kernel: other C, or the reference with a part changed."""

from __future__ import annotations

from autograder.proof.mutants import Forge, edited, forged, stored
from codesign import native

LOOP = """
#include <stdint.h>
void int8_gemm(const int8_t *a, const int8_t *b, int32_t *c, int m, int n, int k) {
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            int32_t sum = 0;
            for (int p = 0; p < k; p++) sum += a[i * k + p] * b[j * k + p];
            c[i * n + j] = sum;
        }
}
"""

GEMM = "int8_gemm"
FIRST = "const __m256i ones"  # statement of the reference


def _calls_the_system(registers: str) -> Forge:
    call = f'__asm__ volatile("syscall" : : {registers} : "rcx", "r11");'
    return edited(GEMM, (FIRST, f"{call}\n    {FIRST}"))


MUTANTS = forged(
    GEMM,
    as_handed_out=stored(GEMM, LOOP),
    in_fp32=stored(GEMM, LOOP.replace("int32_t sum", "float sum")),
    nothing=stored(GEMM, LOOP.split("{")[0] + "{}"),
    no_c=stored(GEMM, "int8_gemm = numpy.matmul"),
    another_function=stored(GEMM, LOOP.replace("int8_gemm", "gemm")),
    another_peer=stored(GEMM, native.shipped("fp32_gemm")),
    int16_sums=stored(GEMM, LOOP.replace("int32_t sum", "int16_t sum")),
    one_product_less=stored(GEMM, LOOP.replace("p < k", "p < k - 1")),
    one_product_more=stored(GEMM, LOOP.replace("p < k", "p <= k")),
    writes_beyond=stored(
        GEMM, LOOP.replace("c[i * n + j] = sum;", "c[i * n + j] = sum; c[m * n] = sum;")
    ),
    endless=stored(GEMM, LOOP.replace("i < m; i++", "i < m; i += 0")),
    asks_the_system=_calls_the_system('"a"(39L)'),
    ends_early=_calls_the_system('"a"(60L), "D"(0L)'),
    saturates=edited(GEMM, ("_mm256_maddubs_epi16(size, y)", "_mm256_maddubs_epi16(x, y)")),
    without_signs=edited(
        GEMM, ("_mm256_sign_epi8(load(b + (j + v) * k + p), x)", "load(b + (j + v) * k + p)")
    ),
    transposed=edited(GEMM, ("c[(i + u) * n + j + v] =", "c[(j + v) * m + i + u] =")),
    only_sixteen_columns=edited(GEMM, (FIRST, f"if (n % 16) return;\n    {FIRST}")),
    only_sixteen_rows=edited(GEMM, (FIRST, f"if (m % 16) return;\n    {FIRST}")),
    only_even_steps=edited(GEMM, (FIRST, f"if (k % 64) k -= 32;\n    {FIRST}")),
    columns_in_sixteens=edited(GEMM, ("j < n; j += COLUMNS", "j < n / 16 * 16; j += COLUMNS")),
    rows_in_sixteens=edited(GEMM, ("i < m; i += ROWS", "i < m / 16 * 16; i += ROWS")),
    adds_to_what_is_there=edited(GEMM, ("+ v] = total", "+ v] += total")),
    half_of_the_products=edited(GEMM, ("p += STEP", "p += 2 * STEP")),
)
