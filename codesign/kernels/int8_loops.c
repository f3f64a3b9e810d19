/* Operators of an int8 network as plain loops: what Lab 5 hands out, and its judge compares with.

   Tensors lie as height, width, channel. The output of a channel is
   clamp(((sum * mantissa + 2^(shift - 1)) >> shift) + zero_out, -128, 127), shift from 33 to 55,
   with sum = bias + the sum of (q - zero_in) * weight; padding counts as zero_in. `scratch` is
   memory that may be used during the call. Each of the first three is left out where OWN_CONV1X1,
   OWN_DEPTHWISE or OWN_CONV3X3 is defined. */
#include <stdint.h>

typedef struct {
    int32_t bias, mantissa, shift;
} Channel;

static inline int8_t clamped(int32_t value) {
    return (int8_t)(value < -128 ? -128 : value > 127 ? 127 : value);
}

static inline int8_t requantized(int32_t sum, const Channel *c, int zero_out) {
    int64_t product = (int64_t)sum * c->mantissa + ((int64_t)1 << (c->shift - 1));
    return clamped((int32_t)(product >> c->shift) + zero_out);
}

/* --- 1: yours in section 4. weight [outputs][channels], scratch 2 * channels halfwords. --------- */
#ifndef OWN_CONV1X1
void conv1x1(
    const int8_t *in, int pixels, int channels, const int8_t *weight, const Channel *channel,
    int zero_in, int zero_out, int8_t *out, int outputs, int16_t *scratch) {
    (void)scratch;
    for (int p = 0; p < pixels; p++)
        for (int o = 0; o < outputs; o++) {
            int32_t sum = channel[o].bias;
            for (int c = 0; c < channels; c++)
                sum += (in[p * channels + c] - zero_in) * weight[o * channels + c];
            out[p * outputs + o] = requantized(sum, &channel[o], zero_out);
        }
}
#endif

/* --- 2: yours in section 5. 3x3, padding 1, stride 1 or 2; the output lies where the input lay.
       weight [3][3][channels], scratch (height + 2) * (width + 4) halfwords. ------------------ */
#ifndef OWN_DEPTHWISE
void depthwise(
    int8_t *data, int height, int width, int channels, int stride, const int8_t *weight,
    const Channel *channel, int zero_in, int zero_out, int16_t *scratch) {
    int out_h = (height + stride - 1) / stride, out_w = (width + stride - 1) / stride;
    for (int c = 0; c < channels; c++) {
        for (int i = 0; i < height * width; i++) scratch[i] = data[i * channels + c];
        for (int y = 0; y < out_h; y++)
            for (int x = 0; x < out_w; x++) {
                int32_t sum = channel[c].bias;
                for (int k = 0; k < 3; k++)
                    for (int l = 0; l < 3; l++) {
                        int row = y * stride + k - 1, column = x * stride + l - 1;
                        if (row >= 0 && row < height && column >= 0 && column < width)
                            sum += (scratch[row * width + column] - zero_in) *
                                   weight[(k * 3 + l) * channels + c];
                    }
                data[(y * out_w + x) * channels + c] = requantized(sum, &channel[c], zero_out);
            }
    }
}
#endif

/* --- 3: yours in section 6. 3x3, padding 1, stride 1. weight [outputs][3][3][channels],
       scratch 3 * (width + 2) * channels halfwords. ------------------------------------------- */
#ifndef OWN_CONV3X3
void conv3x3(
    const int8_t *in, int height, int width, int channels, const int8_t *weight,
    const Channel *channel, int zero_in, int zero_out, int8_t *out, int outputs,
    int16_t *scratch) {
    (void)scratch;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int o = 0; o < outputs; o++) {
                int32_t sum = channel[o].bias;
                for (int k = 0; k < 3; k++)
                    for (int l = 0; l < 3; l++) {
                        int row = y + k - 1, column = x + l - 1;
                        if (row < 0 || row >= height || column < 0 || column >= width) continue;
                        for (int c = 0; c < channels; c++)
                            sum += (in[(row * width + column) * channels + c] - zero_in) *
                                   weight[((o * 3 + k) * 3 + l) * channels + c];
                    }
                out[(y * width + x) * outputs + o] = requantized(sum, &channel[o], zero_out);
            }
}
#endif

/* --- given. ----------------------------------------------------------------------------------- */

/* For a depthwise convolution whose input is still needed. */
void copy(const int8_t *from, int8_t *to, int count) {
    for (int i = 0; i < count; i++) to[i] = from[i];
}

/* RGB gets a fourth channel, so that four values are one word. */
void four_channels(const int8_t *in, int pixels, int zero, int8_t *out) {
    for (int p = 0; p < pixels; p++) {
        for (int c = 0; c < 3; c++) out[4 * p + c] = in[3 * p + c];
        out[4 * p + 3] = (int8_t)zero;
    }
}

/* (a * by_a + b * by_b + offset) >> shift; `out` may be `a`. */
void add(
    const int8_t *a, const int8_t *b, int8_t *out, int count, int32_t by_a, int32_t by_b,
    int32_t offset, int shift) {
    for (int i = 0; i < count; i++) out[i] = clamped((a[i] * by_a + b[i] * by_b + offset) >> shift);
}

void mean(
    const int8_t *in, int pixels, int channels, const Channel *channel, int zero_in, int zero_out,
    int8_t *out) {
    for (int c = 0; c < channels; c++) {
        int32_t sum = channel[c].bias;
        for (int p = 0; p < pixels; p++) sum += in[p * channels + c] - zero_in;
        out[c] = requantized(sum, &channel[c], zero_out);
    }
}

/* The last layer: its sums are the logits. */
void linear(
    const int8_t *in, int inputs, const int8_t *weight, const int32_t *bias, int zero_in,
    int32_t *out, int outputs) {
    for (int o = 0; o < outputs; o++) {
        out[o] = bias[o];
        for (int i = 0; i < inputs; i++) out[o] += (in[i] - zero_in) * weight[o * inputs + i];
    }
}
