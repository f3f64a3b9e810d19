/* Requantization, addition and mean in int8: what int8_naive.h and int8_simd.h share.

   Each of the two defines `saturated` in its own way. Generated C is one file: this text stands in
   it where they include it. */
#include <stdint.h>
#define INLINE static inline __attribute__((always_inline))

/* value, clamped to -128..127 */
INLINE int8_t saturated(int32_t value);

/* bias without the zero point; offset = 2^(n - 33) + (Z << (n - 32)), shift = n - 32, for a
   requantization by mantissa * 2^-n with n >= 33: then the low word of the product does not matter. */
typedef struct {
    int32_t bias, mantissa, offset, shift;
} Output;

INLINE int8_t requantized(int32_t sum, const Output *o) {
    int64_t product = (int64_t)sum * o->mantissa + ((int64_t)o->offset << 32);
    return saturated((int32_t)(product >> 32) >> o->shift);
}

/* ((a * by_a + b * by_b + offset) >> shift), saturated; the offset holds zero points and rounding. */
INLINE void add(
    const int8_t *a, int a_row, const int8_t *b, int b_row, int8_t *out, int out_row, int height,
    int values, int32_t by_a, int32_t by_b, int32_t offset, int shift) {
    for (int y = 0; y < height; y++)
        for (int i = 0; i < values; i++) {
            int32_t sum = a[y * a_row + i] * by_a + b[y * b_row + i] * by_b + offset;
            out[y * out_row + i] = saturated(sum >> shift);
        }
}

INLINE void mean(const int8_t *in, int pixels, int channels, int8_t *out, const Output *o) {
    for (int c = 0; c < channels; c++) {
        int32_t sum = o->bias;
        for (int i = 0; i < pixels; i++) sum += in[i * channels + c];
        out[c] = requantized(sum, o);
    }
}
