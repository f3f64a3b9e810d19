/* The program around a student's function; run_native.py fills in DECLARATION and CALL.
   No C library: the start, five system calls and the mem* functions that compilers rely on. */
#include <stddef.h>
#include <stdint.h>

DECLARATION;

#if defined(__x86_64__)
enum { MMAP = 9, PRCTL = 157, READ = 0, WRITE = 1, EXIT = 60, MACHINE = 0xc000003e };
static long system_call(long n, long a, long b, long c, long d, long e, long f) {
    long result;
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(result)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
__attribute__((naked, noreturn)) void harness_entry(void) {
    __asm__ volatile("xor %ebp, %ebp\n\tand $-16, %rsp\n\tcall harness_main\n\thlt");
}
#else
enum { MMAP = 222, PRCTL = 167, READ = 63, WRITE = 64, EXIT = 93, MACHINE = 0xc00000b7 };
static long system_call(long n, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c, x3 __asm__("x3") = d, x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc #0" : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
__attribute__((naked, noreturn)) void harness_entry(void) {
    __asm__ volatile("mov x29, #0\n\tbl harness_main\n\tbrk #1");
}
#endif

__attribute__((weak)) void *memset(void *to, int value, size_t count) {
    for (size_t i = 0; i < count; i++) ((volatile unsigned char *)to)[i] = (unsigned char)value;
    return to;
}
__attribute__((weak)) void *memcpy(void *restrict to, const void *restrict from, size_t count) {
    unsigned char *t = to;
    const unsigned char *f = from;
    for (size_t i = 0; i < count; i++) t[i] = f[i];
    return to;
}
__attribute__((weak)) void *memmove(void *to, const void *from, size_t count) {
    unsigned char *t = to;
    const unsigned char *f = from;
    if (t < f) for (size_t i = 0; i < count; i++) t[i] = f[i];
    else for (size_t i = count; i > 0; i--) t[i - 1] = f[i - 1];
    return to;
}
__attribute__((weak)) int memcmp(const void *a, const void *b, size_t count) {
    const unsigned char *x = a, *y = b;
    for (size_t i = 0; i < count; i++) if (x[i] != y[i]) return x[i] - y[i];
    return 0;
}

static void end(long code) {
    for (;;) system_call(EXIT, code, 0, 0, 0, 0, 0);
}

static void take(void *to, long count) {
    for (long got = 0; got < count;) {
        long n = system_call(READ, 0, (long)to + got, count - got, 0, 0, 0);
        if (n <= 0) end(3);
        got += n;
    }
}

/* Only read, write and exit from here on. A filter, because the kernel around has one already, and
   the strict mode, which means the same, cannot follow a filter. */
static long keep_three_calls(void) {
    static const struct { uint16_t code; uint8_t yes, no; uint32_t k; } filter[] = {
        {0x20, 0, 0, 4}, {0x15, 0, 4, MACHINE}, /* load the architecture; another one: kill */
        {0x20, 0, 0, 0}, {0x15, 3, 0, READ}, {0x15, 2, 0, WRITE}, {0x15, 1, 0, EXIT},
        {0x06, 0, 0, 0}, {0x06, 0, 0, 0x7fff0000}, /* kill; allow */
    };
    const struct { uint16_t count; const void *filter; } program = {8, filter};
    if (system_call(PRCTL, 38, 1, 0, 0, 0, 0)) return 1; /* PR_SET_NO_NEW_PRIVS */
    return system_call(PRCTL, 22, 2, (long)&program, 0, 0, 0); /* PR_SET_SECCOMP, filter */
}

#define MAX_ARGUMENTS 16
#define GUARD (1l << 20) /* unmapped bytes after each array */

__attribute__((noreturn, used)) void harness_main(void) {
    static int64_t words[1 + 3 * MAX_ARGUMENTS], base[MAX_ARGUMENTS];
    char go;
    take(words, 8);
    if (words[0] < 0 || words[0] > MAX_ARGUMENTS) end(4);
    take(words + 1, 24 * words[0]);
    long total = GUARD;
    for (int i = 0; i < words[0]; i++) total += words[2 + 3 * i] + GUARD;
    /* PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE */
    long next = system_call(MMAP, 0, total, 0, 0x4022, -1, 0);
    if (next < 0) end(5);
    next += GUARD;
    for (int i = 0; i < words[0]; i++) {
        int64_t offset = words[1 + 3 * i], bytes = words[2 + 3 * i], inside = words[3 + 3 * i];
        base[i] = inside;
        if (bytes == 0) continue; /* a number */
        /* read and write, MAP_SHARED | MAP_FIXED | MAP_POPULATE, of the file that is stderr */
        if (system_call(MMAP, next, bytes, 3, 0x8011, 2, offset) != next) end(6);
        base[i] = next + inside;
        next += bytes + GUARD;
    }
    if (keep_three_calls()) end(7);
    system_call(WRITE, 1, (long)"r", 1, 0, 0, 0);
    take(&go, 1);
    CALL;
    end(0);
    __builtin_unreachable();
}
