
#include <arm_acle.h>

/* shift >= 33: the low word of the product does not matter. */
static inline int8_t conv1x1_out(int32_t sum, const Channel *c, int zero_out) {
    int32_t high = (int32_t)((int64_t)sum * c->mantissa >> 32);
    return (int8_t)__ssat((((high >> (c->shift - 33)) + 1) >> 1) + zero_out, 8);
}

/* Two pixels times two outputs: x holds both pixels, widened, channels / 2 words each. */
static inline void conv1x1_tile(
    const uint32_t *x, const int8_t *w, int channels, int32_t *sum) {
    const uint32_t *p = (const uint32_t *)w, *q = (const uint32_t *)(w + channels);
    const uint32_t *y = x + channels / 2;
    int32_t a = 0, b = 0, c = 0, d = 0;
    for (int i = channels / 4; i > 0; i--, x += 2, y += 2) {
        uint32_t v = *p++, u = *q++;
        uint32_t v0 = __sxtb16(v), v1 = __sxtb16(__ror(v, 8));
        uint32_t u0 = __sxtb16(u), u1 = __sxtb16(__ror(u, 8));
        a = __smlad(x[0], v0, a), b = __smlad(x[0], u0, b);
        a = __smlad(x[1], v1, a), b = __smlad(x[1], u1, b);
        c = __smlad(y[0], v0, c), d = __smlad(y[0], u0, d);
        c = __smlad(y[1], v1, c), d = __smlad(y[1], u1, d);
    }
    sum[0] = a, sum[1] = b, sum[2] = c, sum[3] = d;
}

void conv1x1(
    const int8_t *in, int pixels, int channels, const int8_t *weight, const Channel *channel,
    int zero_in, int zero_out, int8_t *out, int outputs, int16_t *scratch) {
    uint32_t zero = (uint16_t)zero_in * 0x10001u;
    for (int p = 0; p < pixels; p += 2, out += 2 * outputs) {
        uint32_t *x = (uint32_t *)scratch;
        int two = p + 1 < pixels;
        const uint32_t *from = (const uint32_t *)(in + p * channels);
        for (int i = 0; i < (1 + two) * channels / 4; i++, x += 2) {
            x[0] = __ssub16(__sxtb16(from[i]), zero);
            x[1] = __ssub16(__sxtb16(__ror(from[i], 8)), zero);
        }
        for (int o = 0; o < outputs; o += 2) {
            int32_t sum[4];
            conv1x1_tile((uint32_t *)scratch, weight + o * channels, channels, sum);
            for (int i = 0; i < 2 + 2 * two; i++) {
                const Channel *c = &channel[o + i % 2];
                out[i / 2 * outputs + o + i % 2] = conv1x1_out(c->bias + sum[i], c, zero_out);
            }
        }
    }
}
