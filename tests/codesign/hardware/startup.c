/* Starts a Cortex-M from reset, runs and times job(), hands its output to the emulator that is the
   host (semihosting), and ends. SRAM_END, OUT_BYTES are replaced. Timed by SysTick, which counts the
   core's clock down; with a fixed time an instruction (-icount) that counts instructions. */
#include <stddef.h>
#include <stdint.h>

int job(uint8_t *out);
extern uint8_t data_from[], data_at[], data_end[], bss_at[], bss_end[];
static uint8_t out[OUT_BYTES] __attribute__((aligned(8)));

__asm__(
    ".section .text.vectors, \"ax\"\n"
    ".global vectors\n"
    "vectors: .word SRAM_END, reset\n"
    ".rept 14\n.word failed\n.endr\n"
    ".text\n");

__attribute__((naked)) static uintptr_t host(int operation, const void *argument) {
    __asm__ volatile("bkpt 0xab\nbx lr");
}

__attribute__((noreturn)) static void end(uintptr_t reason) {
    host(0x18, (const void *)reason);
    for (;;) {}
}

__attribute__((used, noreturn)) void failed(void) { end(0x20023); }

/* Reads the clock, calls, reads it again: in between lie BLX, the function, and one LDR. */
__attribute__((naked)) static uint32_t timed(
    volatile uint32_t *clock, int (*function)(uint8_t *), int *value, uint8_t *to) {
    __asm__ volatile(
        "push {r4, r5, r6, lr}\nmov r4, r0\nmov r6, r2\nmov r0, r3\n"
        "ldr r5, [r4]\n"
        "blx r1\n"
        "ldr r4, [r4]\n"
        "str r0, [r6]\nsubs r0, r5, r4\npop {r4, r5, r6, pc}");
}

static void write(uintptr_t file, const void *from, size_t count) {
    const uintptr_t words[] = {file, (uintptr_t)from, count};
    host(0x05, words);
}

__attribute__((used, noreturn)) void reset(void) {
    for (size_t i = 0; i < (size_t)(data_end - data_at); i++) data_at[i] = data_from[i];
    for (volatile uint8_t *at = bss_at; at < bss_end; at++) *at = 0;
#if __ARM_FP
    *(volatile uint32_t *)0xE000ED88 |= 0xfu << 20; /* the floating-point unit on */
    __asm__ volatile("dsb\nisb");
#endif
    volatile uint32_t *systick = (volatile uint32_t *)0xE000E010;
    systick[1] = 0xffffff; /* reload */
    systick[2] = 0;
    systick[0] = 5; /* the core's clock, no interrupt, on */
    int result[2];
    result[0] = (int)timed(systick + 2, job, result + 1, out);
    static const char console[] = ":tt";
    const uintptr_t open[] = {(uintptr_t)console, 4, sizeof console - 1}; /* "w": standard output */
    uintptr_t file = host(0x01, open);
    write(file, result, sizeof result);
    write(file, out, sizeof out);
    end(0x20026);
}
