
#include <arm_acle.h>

/* shift >= 33: the low word of the product does not matter. */
static inline int8_t conv3x3_out(int32_t sum, const Channel *c, int zero_out) {
    int32_t high = (int32_t)((int64_t)sum * c->mantissa >> 32);
    return (int8_t)__ssat((((high >> (c->shift - 33)) + 1) >> 1) + zero_out, 8);
}

/* Two pixels times two outputs under three rows; the second pixel begins one pixel further. */
static inline void conv3x3_tile(
    const uint32_t *const *rows, int at, const int8_t *w, int channels, int32_t *sum) {
    const uint32_t *p = (const uint32_t *)w, *q = (const uint32_t *)(w + 9 * channels);
    int32_t a = 0, b = 0, c = 0, d = 0;
    for (int k = 0; k < 3; k++) {
        const uint32_t *x = rows[k] + at, *y = x + channels / 2;
        for (int i = 3 * channels / 4; i > 0; i--, x += 2, y += 2) {
            uint32_t v = *p++, u = *q++;
            uint32_t v0 = __sxtb16(v), v1 = __sxtb16(__ror(v, 8));
            uint32_t u0 = __sxtb16(u), u1 = __sxtb16(__ror(u, 8));
            a = __smlad(x[0], v0, a), b = __smlad(x[0], u0, b);
            a = __smlad(x[1], v1, a), b = __smlad(x[1], u1, b);
            c = __smlad(y[0], v0, c), d = __smlad(y[0], u0, d);
            c = __smlad(y[1], v1, c), d = __smlad(y[1], u1, d);
        }
    }
    sum[0] = a, sum[1] = b, sum[2] = c, sum[3] = d;
}

/* One row of the input, widened, with a pixel of padding on both sides. */
static inline void conv3x3_fill(
    const int8_t *in, int row, int height, int width, int channels, int zero, uint32_t *to) {
    uint32_t pair = (uint16_t)zero * 0x10001u;
    for (int i = 0; i < (width + 2) * channels / 2; i++) to[i] = 0;
    if (row < 0 || row >= height) return;
    const uint32_t *from = (const uint32_t *)(in + row * width * channels);
    to += channels / 2;
    for (int i = 0; i < width * channels / 4; i++, to += 2) {
        to[0] = __ssub16(__sxtb16(from[i]), pair);
        to[1] = __ssub16(__sxtb16(__ror(from[i], 8)), pair);
    }
}

void conv3x3(
    const int8_t *in, int height, int width, int channels, const int8_t *weight,
    const Channel *channel, int zero_in, int zero_out, int8_t *out, int outputs,
    int16_t *scratch) {
    uint32_t *ring = (uint32_t *)scratch;
    int row = (width + 2) * channels / 2;
    conv3x3_fill(in, -1, height, width, channels, zero_in, ring + 2 * row);
    conv3x3_fill(in, 0, height, width, channels, zero_in, ring);
    for (int y = 0; y < height; y++) {
        conv3x3_fill(in, y + 1, height, width, channels, zero_in, ring + (y + 1) % 3 * row);
        const uint32_t *rows[3];
        for (int k = 0; k < 3; k++) rows[k] = ring + (y + k + 2) % 3 * row;
        for (int x = 0; x < width; x += 2) {
            int start = x + 1 < width ? x : width - 2; /* the last two pixels, one of them again */
            for (int o = 0; o < outputs; o += 2) {
                int32_t sum[4];
                int8_t *to = out + (y * width + start) * outputs + o;
                conv3x3_tile(rows, start * channels / 2, weight + 9 * o * channels, channels, sum);
                for (int i = 0; i < 4; i++) {
                    const Channel *c = &channel[o + i % 2];
                    to[i / 2 * outputs + i % 2] = conv3x3_out(c->bias + sum[i], c, zero_out);
                }
            }
        }
    }
}
