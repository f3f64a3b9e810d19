/* Naive int8 operators: loops over indices, a test at every border, one product at a time. For cores
   without the DSP instructions, and the baseline of int8_simd.h, which has the same signatures. */
#include "int8_common.h"

INLINE int8_t saturated(int32_t value) {
    return (int8_t)(value < -128 ? -128 : value > 127 ? 127 : value);
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

INLINE void linear(
    const int8_t *in, int inputs, int32_t *out, int outputs, const int8_t *weight,
    const int32_t *bias) {
    for (int o = 0; o < outputs; o++) {
        out[o] = bias[o];
        for (int i = 0; i < inputs; i++) out[o] += in[i] * weight[o * inputs + i];
    }
}
