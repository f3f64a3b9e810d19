
#include <arm_acle.h>

/* shift >= 33: the low word of the product does not matter. */
static inline int8_t depthwise_out(int32_t sum, const Channel *c, int zero_out) {
    int32_t high = (int32_t)((int64_t)sum * c->mantissa >> 32);
    return (int8_t)__ssat((((high >> (c->shift - 33)) + 1) >> 1) + zero_out, 8);
}

/* One row of three inputs: two neighbouring outputs at stride 1, the first one else. */
static inline void depthwise_row(const int16_t *at, const int32_t *w, int32_t *sum, int stride) {
    int32_t near = ((const int32_t *)at)[0], far = ((const int32_t *)at)[1];
    sum[0] = __smlabt(far, w[1], __smlad(near, w[0], sum[0]));
    if (stride == 1) sum[1] = __smlad(far, w[1], __smlatb(near, w[0], sum[1]));
}

void depthwise(
    int8_t *data, int height, int width, int channels, int stride, const int8_t *weight,
    const Channel *channel, int zero_in, int zero_out, int16_t *scratch) {
    int wide = (width + 4) & ~1, out_h = (height + stride - 1) / stride;
    int out_w = (width + stride - 1) / stride;
    for (int i = 0; i < (height + 2) * wide; i++) scratch[i] = 0;
    for (int c = 0; c < channels; c++, channel++) {
        const int8_t *from = data + c;
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++, from += channels)
                scratch[(y + 1) * wide + x + 1] = (int16_t)(*from - zero_in);
        int32_t w[6];
        for (int k = 0; k < 3; k++) {
            const int8_t *row = weight + 3 * k * channels + c;
            w[2 * k] = (uint16_t)row[0] | row[channels] << 16;
            w[2 * k + 1] = (uint16_t)row[channels] | row[2 * channels] << 16;
        }
        int8_t *out = data + c;
        for (int y = 0; y < out_h; y++)
            for (int x = 0; x < out_w; x += 3 - stride) {
                const int16_t *at = scratch + y * stride * wide + x * stride;
                int32_t sum[2] = {channel->bias, channel->bias};
                for (int k = 0; k < 3; k++) depthwise_row(at + k * wide, w + 2 * k, sum, stride);
                *out = depthwise_out(sum[0], channel, zero_out), out += channels;
                if (stride == 1 && x + 1 < out_w)
                    *out = depthwise_out(sum[1], channel, zero_out), out += channels;
            }
    }
}
