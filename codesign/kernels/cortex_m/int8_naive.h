/* The operators of int8_simd.h as one writes them first: loops over indices, a test at every border,
   one product at a time. For cores without the DSP instructions, and to be compared with. */
#include <stdint.h>
#define INLINE static inline __attribute__((always_inline))

typedef struct {
    int32_t bias, mantissa, offset, shift;
} Output;

INLINE int8_t saturated(int32_t value) {
    return (int8_t)(value < -128 ? -128 : value > 127 ? 127 : value);
}

INLINE int8_t requantized(int32_t sum, const Output *o) {
    int64_t product = (int64_t)sum * o->mantissa + ((int64_t)o->offset << 32);
    return saturated((int32_t)(product >> 32) >> o->shift);
}

/* weight: [outputs][kernel][kernel][channels]. */
INLINE void conv(
    const int8_t *in, int in_row, int in_h, int in_w, int top, int left, int channels, int kernel,
    int stride, int8_t *out, int out_row, int out_h, int out_w, int outputs, const int8_t *weight,
    const Output *o, int zero, void *scratch) {
    (void)scratch;
    for (int y = 0; y < out_h; y++)
        for (int x = 0; x < out_w; x++)
            for (int i = 0; i < outputs; i++) {
                int32_t sum = o[i].bias;
                for (int k = 0; k < kernel; k++)
                    for (int l = 0; l < kernel; l++)
                        for (int c = 0; c < channels; c++) {
                            int row = y * stride + k - top, column = x * stride + l - left;
                            int is_in = row >= 0 && row < in_h && column >= 0 && column < in_w;
                            int value = is_in ? in[row * in_row + column * channels + c] : zero;
                            sum += value * weight[((i * kernel + k) * kernel + l) * channels + c];
                        }
                out[y * out_row + x * outputs + i] = requantized(sum, o + i);
            }
}

/* weight: [kernel][kernel][channels]; the output may not lie where the input lies. */
INLINE void depthwise(
    const int8_t *in, int in_row, int in_h, int in_w, int top, int left, int channels, int kernel,
    int stride, int8_t *out, int out_row, int out_h, int out_w, const int8_t *weight,
    const Output *o, int zero, void *scratch) {
    (void)scratch;
    for (int y = 0; y < out_h; y++)
        for (int x = 0; x < out_w; x++)
            for (int c = 0; c < channels; c++) {
                int32_t sum = o[c].bias;
                for (int k = 0; k < kernel; k++)
                    for (int l = 0; l < kernel; l++) {
                        int row = y * stride + k - top, column = x * stride + l - left;
                        int is_in = row >= 0 && row < in_h && column >= 0 && column < in_w;
                        int value = is_in ? in[row * in_row + column * channels + c] - zero : 0;
                        sum += value * weight[(k * kernel + l) * channels + c];
                    }
                out[y * out_row + x * channels + c] = requantized(sum, o + c);
            }
}

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

INLINE void linear(
    const int8_t *in, int inputs, int32_t *out, int outputs, const int8_t *weight,
    const int32_t *bias) {
    for (int o = 0; o < outputs; o++) {
        out[o] = bias[o];
        for (int i = 0; i < inputs; i++) out[o] += in[i] * weight[o * inputs + i];
    }
}
