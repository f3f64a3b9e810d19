/* What compilers call by themselves: memory functions, and division for cores without it.
   Linked into every firmware; what is not used is left out. */
#include <stddef.h>
#include <stdint.h>

void *memset(void *to, int value, size_t count) {
    volatile uint8_t *t = to;
    while (count--) *t++ = (uint8_t)value;
    return to;
}
void *memcpy(void *restrict to, const void *restrict from, size_t count) {
    volatile uint8_t *t = to;
    const uint8_t *f = from;
    while (count--) *t++ = *f++;
    return to;
}
void *memmove(void *to, const void *from, size_t count) {
    volatile uint8_t *t = to;
    const uint8_t *f = from;
    if (t < f)
        while (count--) *t++ = *f++;
    else
        while (count--) t[count] = f[count];
    return to;
}
int memcmp(const void *a, const void *b, size_t count) {
    const uint8_t *x = a, *y = b;
    for (; count--; x++, y++)
        if (*x != *y) return *x - *y;
    return 0;
}
void __aeabi_memcpy(void *to, const void *from, size_t count) { memcpy(to, from, count); }
void __aeabi_memcpy4(void *to, const void *from, size_t count) { memcpy(to, from, count); }
void __aeabi_memcpy8(void *to, const void *from, size_t count) { memcpy(to, from, count); }
void __aeabi_memmove(void *to, const void *from, size_t count) { memmove(to, from, count); }
void __aeabi_memset(void *to, size_t count, int value) { memset(to, value, count); }
void __aeabi_memset4(void *to, size_t count, int value) { memset(to, value, count); }
void __aeabi_memset8(void *to, size_t count, int value) { memset(to, value, count); }
void __aeabi_memclr(void *to, size_t count) { memset(to, 0, count); }
void __aeabi_memclr4(void *to, size_t count) { memset(to, 0, count); }
void __aeabi_memclr8(void *to, size_t count) { memset(to, 0, count); }

#if __ARM_ARCH_6M__
unsigned __aeabi_uidiv(unsigned number, unsigned by) {
    unsigned quotient = 0, rest = 0;
    for (int bit = 31; bit >= 0; bit--) {
        rest = rest << 1 | (number >> bit & 1);
        if (rest >= by) rest -= by, quotient |= 1u << bit;
    }
    return quotient;
}
int __aeabi_idiv(int number, int by) {
    unsigned n = number < 0 ? 0u - (unsigned)number : (unsigned)number;
    unsigned quotient = __aeabi_uidiv(n, by < 0 ? 0u - (unsigned)by : (unsigned)by);
    return (number < 0) != (by < 0) ? (int)(0u - quotient) : (int)quotient;
}
long long __aeabi_lmul(long long a, long long b) {
    uint64_t x = (uint64_t)a, y = (uint64_t)b;
    uint32_t xl = (uint32_t)x & 0xffff, xh = (uint32_t)x >> 16;
    uint32_t yl = (uint32_t)y & 0xffff, yh = (uint32_t)y >> 16;
    uint32_t low = xl * yl, middle = xh * yl + (low >> 16), other = xl * yh + (middle & 0xffff);
    uint32_t high = xh * yh + (middle >> 16) + (other >> 16);
    high += (uint32_t)(x >> 32) * (uint32_t)y + (uint32_t)x * (uint32_t)(y >> 32);
    return (long long)((uint64_t)high << 32 | (low & 0xffff) | other << 16);
}
long long __aeabi_lasr(long long value, int by) {
    uint32_t low = (uint32_t)value;
    int32_t high = (int32_t)((uint64_t)value >> 32);
    if (by >= 32) return (long long)((uint64_t)(uint32_t)(high >> 31) << 32 | (uint32_t)(high >> (by - 32)));
    if (by) low = low >> by | (uint32_t)high << (32 - by), high >>= by;
    return (long long)((uint64_t)(uint32_t)high << 32 | low);
}
#endif
