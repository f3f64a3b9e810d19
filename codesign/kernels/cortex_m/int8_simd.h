/* int8 operators of the inference engine for cores with the DSP instructions (Cortex-M4, M7).

   Tensors lie as height, width, channel. A call works on a window: `in` and `out` point to its first
   value, `in_row` and `out_row` are the bytes from a row to the next; `top` and `left` are the
   padding before it. Everything is inlined where the engine calls, with constant shapes.

   Convolution: two outputs of two neighbouring pixels at a time, four inputs a step, 15 instructions
   for 16 products. Inputs are widened once to pairs of halfwords, four values (a, b, c, d) to (a, c)
   and (b, d), which is what SXTB16 makes of four weights; so SMLAD finds fitting pairs. The weights
   of two outputs alternate, four of each. Widened rows lie in a ring of K rows with the padding
   around them; under a row of the kernel, K * C inputs lie together and nothing asks for borders.
   The input's zero point is in the bias.

   Depthwise: one channel after the other is widened into a padded plane and filtered from there, so
   the output may overwrite the input: of both, channel c lies at the addresses c modulo C. */
#include "int8_common.h"
#include <arm_acle.h>

/* Written one by one and read in pairs: without the attribute a compiler may exchange the two. */
typedef int16_t __attribute__((may_alias)) Half;

INLINE int8_t saturated(int32_t value) { return (int8_t)__ssat(value, 8); }

INLINE uint32_t four(const int8_t *at) {
    uint32_t value;
    __builtin_memcpy(&value, at, 4);
    return value;
}

/* Becomes part of SXTB16; GCC 12 has no __ror. */
INLINE uint32_t ror8(uint32_t value) { return value >> 8 | value << 24; }

/* `groups` steps of four inputs; x of the second pixel lies dx bytes behind that of the first. */
#define RUN(w, x, a, groups, unroll_, dx_)                                                         \
    do {                                                                                           \
        uint32_t p, q, r, s, t, u;                                                                 \
        const uint32_t *x_ = (x), *end_ = (w) + 2 * (groups);                                      \
        __asm__ volatile("1:\n.rept %c[unroll]\n"                                                  \
                         "ldrd %[p], %[q], [%[w_]], #8\n"                                          \
                         "ldrd %[t], %[u], [%[px], %[dx]]\n"                                       \
                         "sxtb16 %[r], %[p]\n"                                                     \
                         "sxtb16 %[p], %[p], ror #8\n"                                             \
                         "sxtb16 %[s], %[q]\n"                                                     \
                         "sxtb16 %[q], %[q], ror #8\n"                                             \
                         "smlad %[a2], %[r], %[t], %[a2]\n"                                        \
                         "smlad %[a3], %[s], %[t], %[a3]\n"                                        \
                         "smlad %[a2], %[p], %[u], %[a2]\n"                                        \
                         "smlad %[a3], %[q], %[u], %[a3]\n"                                        \
                         "ldrd %[t], %[u], [%[px]], #8\n"                                          \
                         "smlad %[a0], %[r], %[t], %[a0]\n"                                        \
                         "smlad %[a1], %[s], %[t], %[a1]\n"                                        \
                         "smlad %[a0], %[p], %[u], %[a0]\n"                                        \
                         "smlad %[a1], %[q], %[u], %[a1]\n"                                        \
                         ".endr\n.if %c[loops]\ncmp %[w_], %[end]\nbne 1b\n.endif"                  \
                         : [w_] "+r"(w), [px] "+r"(x_), [a0] "+r"((a)[0]), [a1] "+r"((a)[1]),       \
                           [a2] "+r"((a)[2]), [a3] "+r"((a)[3]), [p] "=&r"(p), [q] "=&r"(q),        \
                           [r] "=&r"(r), [s] "=&r"(s), [t] "=&r"(t), [u] "=&r"(u)                  \
                         : [end] "r"(end_), [dx] "i"(dx_), [unroll] "i"(unroll_),                   \
                           [loops] "i"((groups) > (unroll_))                                        \
                         : "cc", "memory");                                                        \
    } while (0)

/* The largest number up to 6 that divides n. */
#define UNROLL(n) ((n) % 6 == 0 ? 6 : (n) % 5 == 0 ? 5 : (n) % 4 == 0 ? 4 : (n) % 3 == 0 ? 3 : (n) % 2 == 0 ? 2 : 1)

/* All outputs of two pixels, the second one only if `more`. */
INLINE void two_pixels(
    const uint32_t *const *rows, int at, int dx, int kernel, int groups, int8_t *out, int outputs,
    int more, const uint32_t *w, const Output *o) {
    for (int i = 0; i < outputs; i += 2, o += 2) {
        int32_t sum[4] = {o[0].bias, o[1].bias, o[0].bias, o[1].bias};
        for (int k = 0; k < kernel; k++) RUN(w, rows[k] + at, sum, groups, UNROLL(groups), dx);
        int8_t first = requantized(sum[0], o), other = requantized(sum[2], o);
        out[i] = first;
        if (more) out[outputs + i] = other;
        if (outputs % 2 && i + 1 == outputs) break;
        first = requantized(sum[1], o + 1), other = requantized(sum[3], o + 1);
        out[i + 1] = first;
        if (more) out[outputs + i + 1] = other;
    }
}

/* Pixels to pairs of halfwords; three channels become four. */
INLINE uint32_t *widened(const int8_t *in, uint32_t *to, int pixels, int channels) {
    if (channels == 3) {
        for (; pixels--; in += 3) {
            *to++ = (uint16_t)in[0] | (uint32_t)in[2] << 16;
            *to++ = (uint16_t)in[1];
        }
        return to;
    }
    for (int i = pixels * channels / 4; i--; in += 4) {
        uint32_t value = four(in);
        *to++ = __sxtb16(value);
        *to++ = __sxtb16(ror8(value));
    }
    return to;
}

INLINE uint32_t *filled(uint32_t *to, int words, int zero) {
    for (; words--; to++) *to = (uint16_t)zero * 0x10001u;
    return to;
}

/* scratch: kernel * (out_w * stride + kernel) pixels, widened: the second pixel of an odd row reads
   what nobody wrote, and its sums are dropped; of a 1x1 kernel two pixels. */
INLINE void conv(
    const int8_t *in, int in_row, int in_h, int in_w, int top, int left, int channels, int kernel,
    int stride, int8_t *out, int out_row, int out_h, int out_w, int outputs,
    const uint32_t *weight, const Output *o, int zero, uint32_t *scratch) {
    int words = (channels + 3) / 4 * 2, groups = kernel * words / 2; /* words of a pixel */
    const uint32_t *rows[7];
    if (kernel == 1) {
        rows[0] = scratch;
        for (int y = 0; y < out_h; y++)
            for (int x = 0; x < out_w; x += 2) {
                const int8_t *from = in + y * stride * in_row + x * stride * channels;
                uint32_t *to = widened(from, scratch, 1, channels);
                int more = x + 1 < out_w;
                if (more) widened(from + stride * channels, to, 1, channels);
                two_pixels(rows, 0, 4 * words, 1, groups, out + y * out_row + x * outputs, outputs,
                           more, weight, o);
            }
        return;
    }
    int wide = (out_w - 1) * stride + kernel, next = -top;
    int inside = in_w < wide - left ? in_w : wide - left;
    for (int k = 0; k < kernel; k++) rows[k] = scratch + k * (wide + stride) * words;
    for (int y = 0; y < out_h; y++) {
        for (int fresh = y ? stride : kernel; fresh--; next++) {
            uint32_t *to = (uint32_t *)rows[0];
            for (int k = 0; k + 1 < kernel; k++) rows[k] = rows[k + 1];
            rows[kernel - 1] = to;
            if (next < 0 || next >= in_h) {
                filled(to, wide * words, zero);
                continue;
            }
            to = filled(to, left * words, zero);
            to = widened(in + next * in_row, to, inside, channels);
            filled(to, (wide - left - inside) * words, zero);
        }
        for (int x = 0; x < out_w; x += 2)
            two_pixels(rows, x * stride * words, 4 * stride * words, kernel, groups,
                       out + y * out_row + x * outputs, outputs, x + 1 < out_w, weight, o);
    }
}

/* Two outputs of a row of three inputs each, at `stride` 1; w: (w0, w1) and (w1, w2). */
#define ROW3(at, w)                                                                                \
    do {                                                                                           \
        int32_t near = ((const int32_t *)(const void *)(at))[0];                                   \
        int32_t far = ((const int32_t *)(const void *)(at))[1];                                    \
        first = __smlad(near, (w)[0], first);                                                      \
        first = __smlabt(far, (w)[1], first);                                                      \
        if (stride == 1) second = __smlatb(near, (w)[0], second);                                  \
        if (stride == 1) second = __smlad(far, (w)[1], second);                                    \
    } while (0)

INLINE int wide_plane(int out_w, int kernel, int stride) {
    return ((out_w - 1) * stride + kernel + 3) & ~1;
}

/* weight: 3x3 kernels six words a channel, others kernel * kernel halfwords.
   scratch: a padded plane of halfwords, ((out_h - 1) * stride + kernel) * wide_plane. */
INLINE void depthwise(
    const int8_t *in, int in_row, int in_h, int in_w, int top, int left, int channels, int kernel,
    int stride, int8_t *out, int out_row, int out_h, int out_w, const int32_t *weight,
    const Output *o, int zero, Half *scratch) {
    int wide = wide_plane(out_w, kernel, stride), high = (out_h - 1) * stride + kernel;
    int columns = in_w < wide - left ? in_w : wide - left;
    int lines = in_h < high - top ? in_h : high - top;
    filled((uint32_t *)(void *)scratch, high * wide / 2, 0);
    for (int c = 0; c < channels; c++, o++) {
        for (int y = 0; y < lines; y++) {
            const int8_t *from = in + y * in_row + c;
            Half *to = scratch + (top + y) * wide + left;
            for (int x = columns; x--; from += channels) *to++ = (Half)(*from - zero);
        }
        if (kernel == 3) {
            int32_t w[6];
            __builtin_memcpy(w, weight, sizeof w);
            weight += 6;
            for (int y = 0; y < out_h; y++) {
                const Half *line = scratch + y * stride * wide;
                int8_t *to = out + y * out_row + c;
                for (int x = 0; x < out_w; x += stride == 1 ? 2 : 1, line += 2) {
                    int32_t first = o->bias, second = first;
                    ROW3(line, w);
                    ROW3(line + wide, w + 2);
                    ROW3(line + 2 * wide, w + 4);
                    *to = requantized(first, o), to += channels;
                    if (stride == 1 && x + 1 < out_w) *to = requantized(second, o), to += channels;
                }
            }
            continue;
        }
        const Half *w = (const Half *)(const void *)weight + c * kernel * kernel;
        for (int y = 0; y < out_h; y++)
            for (int x = 0; x < out_w; x++) {
                int32_t sum = o->bias;
                const Half *at = scratch + y * stride * wide + x * stride;
                for (int k = 0; k < kernel; k++, at += wide)
                    for (int l = 0; l < kernel; l++) sum += at[l] * w[k * kernel + l];
                out[y * out_row + x * channels + c] = requantized(sum, o);
            }
    }
}

INLINE void linear(
    const int8_t *in, int inputs, int32_t *out, int outputs, const int8_t *weight,
    const int32_t *bias) {
    for (int o = 0; o < outputs; o++, weight += inputs) {
        int32_t sum = bias[o];
        int i = 0;
        for (; i + 4 <= inputs; i += 4) {
            uint32_t x = four(in + i), w = four(weight + i);
            sum = __smlad(__sxtb16(x), __sxtb16(w), sum);
            sum = __smlad(__sxtb16(ror8(x)), __sxtb16(ror8(w)), sum);
        }
        for (; i < inputs; i++) sum += in[i] * weight[i];
        out[o] = sum;
    }
}
