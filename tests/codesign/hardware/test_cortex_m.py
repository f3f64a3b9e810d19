"""The emulated microcontroller: what it computes, what it counts, and how it refuses."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.hardware.board import BOARDS, CORES, Board
from codesign.hardware.cortex_m import Firmware, FirmwareError, InFlash
from codesign.native import CompileError

DOT = """
#include <stdint.h>
int32_t dot(const int8_t *x, const int8_t *w, int n) {
    int32_t sum = 0;
    for (int i = 0; i < n; i++) sum += x[i] * w[i];
    return sum;
}
void scale(int16_t *x, int n, int a, int b, int by, int add) {
    for (int i = 0; i < n; i++) x[i] = x[i] * by + add + a - b;
}
"""


def assembly(body: str, board: str = "m4") -> Firmware:
    lines = "".join(f'"{line.strip()}\\n"' for line in body.strip().splitlines())
    source = f"__attribute__((naked)) void f(void) {{ __asm__ volatile({lines}); }}"
    return Firmware(source, board, keep=["f"])


@pytest.fixture(scope="module")
def dot():
    return Firmware(DOT, keep=["dot", "scale"])


@given(st.integers(0, 200), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_integers_are_exact(dot, size, seed):
    x, w = np.random.default_rng(seed).integers(-128, 128, (2, size), dtype=np.int8)
    for counted in (True, False):
        run = dot.run("dot", x, InFlash(w), size, counted=counted)
        assert run.value == int(x.astype(int) @ w.astype(int))
        assert (run.outputs[0] == x).all()
        assert len(run.outputs) == 1  # what lies in flash is no output


@pytest.mark.parametrize("board", BOARDS)
def test_every_core_computes_the_same(board):
    source = """
int divide(int a, int b) { return a / b; }
int shift(int a, int b, int by) { return (int)(((long long)a * b) >> by); }
"""
    firmware = Firmware(source, board, keep=["divide", "shift"])
    for a, b in ((-1_000, 7), (1_000, -7), (2**31 - 1, 3), (5, 9)):
        assert firmware.run("divide", a, b).value == int(a / b)
    for by in (0, 7, 31, 33, 40):
        expected = (-(2**30) * 123_457 >> by) & 0xFFFF_FFFF
        assert firmware.run("shift", -(2**30), 123_457, by).value & 0xFFFF_FFFF == expected


def test_arguments_beyond_the_fourth_are_on_the_stack(dot):
    x = np.arange(5, dtype=np.int16)
    run = dot.run("scale", x, 5, 100, 50, 3, 7)
    assert run.outputs[0].tolist() == [3 * i + 57 for i in range(5)]
    assert run.stack_bytes >= 8


def test_the_state_is_that_after_reset():
    source = "static int calls = 3; int next(void) { return ++calls; }"
    firmware = Firmware(source, keep=["next"])
    assert [firmware.run("next").value for _ in range(2)] == [4, 4]


def test_floating_point_where_the_core_has_it():
    source = "int f(int x) { float y = x; return (int)(y * 1.5f + 0.25f); }"
    assert Firmware(source, "m4", keep=["f"]).run("f", 11).value == 16
    with pytest.raises(FirmwareError, match="__aeabi_"):
        Firmware(source, "small", keep=["f"])


# --- what is counted -----------------------------------------------------------------------------

LOOP = """
movs r0, #10
1: subs r0, #1
bne 1b
bx lr
"""


@pytest.mark.parametrize(("board", "refill"), [("m4", 2), ("stm32f746", 2), ("small", 1)])
def test_a_loop_by_the_manual(board, refill):
    """1 + 10 (1 + 1) + 1 instructions of a cycle each; 9 branches and the return refill."""
    run = assembly(LOOP, board).run("f")
    assert run.instructions == 22
    assert run.cycles == 22 + 10 * refill
    assert run.mix == {"subs": 10, "bne": 10, "movs": 1, "bx": 1}


@pytest.mark.parametrize(
    ("body", "cycles"),
    [
        ("nop", 1),
        ("ldr r1, [r0]", 2),
        ("ldr r1, [r0]\nldr r2, [r0, #4]\nldrsb r3, [r0, #1]", 4),  # pipelined: 2 + 1 + 1
        ("ldr r1, [r0]\nnop\nldr r2, [r0, #4]", 5),
        ("str r1, [r0]", 2),
        ("ldrd r1, r2, [r0]", 3),
        ("ldm r0, {r1, r2, r3}", 4),
        ("push {r4, r5}\npop {r4, r5}", 6),
        ("smlad r1, r2, r3, r1", 1),
        ("smull r1, r2, r3, r1", 1),
        ("sdiv r1, r2, r3", 12),
        ("vmov s0, r1\nvmul.f32 s0, s0, s0", 2),
        ("vdiv.f32 s0, s0, s0", 14),
        ("vfma.f32 s0, s0, s0", 3),
        ("cmp r0, #0\nit eq\nmoveq r1, #1", 3),
    ],
)
def test_cycles_of_a_cortex_m4(body, cycles):
    run = assembly(f"{body}\nbx lr").run("f", np.zeros(8, np.int32))
    assert run.cycles == cycles + 1 + CORES["cortex-m4"].refill


def test_a_cortex_m3_takes_longer_for_products():
    board = Board("m3", "cortex-m3", 2**20, 2**16, 1e8)
    for body, cycles in (
        ("mul r1, r2, r3", 1),
        ("mla r1, r2, r3, r1", 2),
        ("umull r1, r2, r3, r1", 4),
    ):
        assert assembly(f"{body}\nbx lr", board).run("f").cycles == cycles + 3


def test_two_products_an_instruction():
    source = """
#include <stdint.h>
#include <string.h>
int dot(const int16_t *a, const int16_t *b, int n) {
    int sum = 0;
    for (int i = 0; i < n; i += 2) {
        int x, y;
        memcpy(&x, a + i, 4);
        memcpy(&y, b + i, 4);
        __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(x), "r"(y));
    }
    return sum;
}
"""
    a, b = np.random.default_rng(0).integers(-2_000, 2_000, (2, 64), dtype=np.int16)
    run = Firmware(source, keep=["dot"]).run("dot", a, b, 64)
    assert run.value == int(a.astype(int) @ b.astype(int))
    assert run.mix["smlad"] == 32


def test_figures_are_the_same_every_time(dot):
    x = np.ones(100, np.int8)
    runs = [dot.run("dot", x, x, 100) for _ in range(2)]
    assert runs[0].cycles == runs[1].cycles > runs[0].instructions > 100
    again = Firmware(DOT, keep=["dot", "scale"]).run("dot", x, x, 100)
    assert again.cycles == runs[0].cycles
    assert dot.run("dot", x, x, 100, counted=False).cycles == 0


def test_memory_is_counted():
    source = """
#include <string.h>
static char big[1000];
static int started = 5;
const char table[300] = {1, 2, 3};
int f(int i) { char local[200]; memset(local, i, 200); memset(big, i, sizeof big);
    started++; return table[i] + local[i] + big[i] + *(volatile char *)(local + i); }
"""
    firmware = Firmware(source, keep=["f"])
    assert 1_004 <= firmware.data_bytes <= 1_016
    assert 300 + 4 <= firmware.flash_bytes < 1_000
    run = firmware.run("f", 2)
    assert 200 <= run.stack_bytes <= 300
    assert run.sram_bytes == firmware.data_bytes + run.stack_bytes
    wide = firmware.run("f", 2, np.zeros(5_000, np.int8))
    assert wide.sram_bytes - run.sram_bytes in range(5_000, 5_004)
    assert firmware.seconds(100e6) == 1.0


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("void f(int *x) { *x = 1; }", r"stopped at f\+\d+: it wrote to 0x00000000"),
        ("int f(int *x) { return x[1 << 20]; }", "it read from 0x00400000"),
        ("const int t[2] = {1, 2}; void f(void) { *(volatile int *)t = 3; }", r"near t\+0"),
        ("void f(void) { ((void (*)(void))0x30000001)(); }", "it jumped to 0x30000000"),
        ("void f(void) { for (;;); }", "executed more than 1,000,000 instructions"),
        (
            "int f(int n) { volatile char b[256]; b[n & 255] = n; return f(n + 1) + b[0]; }",
            "the stack grew out of SRAM",
        ),
        ('void f(void) { __asm__ volatile(".short 0xde00"); }', "stopped at"),
    ],
)
def test_what_stops(body, said):
    with pytest.raises(FirmwareError, match=said):
        Firmware(body, keep=["f"]).run("f", 0, budget=1_000_000)


@pytest.mark.parametrize(
    ("core", "instruction"),
    [
        ("cortex-m0+", "0xfb91f2f1"),  # sdiv
        ("cortex-m0+", "0xf2400101"),  # movw
        ("cortex-m0+", "0xfb211101"),  # smlad
        ("cortex-m3", "0xee300a00"),  # vadd.f32
        ("cortex-m4", "0xfeb80a40"),  # vrinta.f32, of the M7
    ],
)
def test_a_core_has_its_own_instructions_only(core, instruction):
    """Written as numbers, which no compiler checks."""
    board = Board("x", core, 2**20, 2**15, 1e6)
    source = """
        __attribute__((naked)) void f(void) {
            __asm__ volatile("movs r1, #1\\n.inst.w INSTRUCTION\\nbx lr");
        }"""
    firmware = Firmware(source.replace("INSTRUCTION", instruction), board, keep=["f"])
    with pytest.raises(FirmwareError, match=rf"stopped at f\+2: .*that a {core.replace('+', '.')}"):
        firmware.run("f")


def accesses(bodies: list[str], board: str) -> Firmware:
    """f0, f1, ...: each with its access at the address r0 + r1 = r12."""
    body = "__attribute__((naked)) void f%d(void) { __asm__ volatile(%s); }"
    lines = '"add r0, r1\\nmov r12, r0\\n%s\\nbx lr"'
    sources = [body % (i, lines % each) for i, each in enumerate(bodies)]
    return Firmware("\n".join(sources), board, keep=[f"f{i}" for i in range(len(bodies))])


def test_only_the_small_core_asks_for_alignment():
    bodies = ["ldr r1, [r0]", "ldrh r1, [r0]", "str r1, [r0]"]
    large, small = accesses(bodies, "m4"), accesses(bodies, "small")
    for i in range(len(bodies)):
        assert large.run(f"f{i}", np.zeros(8, np.int8), 1, guarded=True).instructions == 4
        assert small.run(f"f{i}", np.zeros(8, np.int8), 4).instructions == 4
        with pytest.raises(FirmwareError, match=rf"stopped at f{i}\+4: .*unaligned access"):
            small.run(f"f{i}", np.zeros(8, np.int8), 1)


@pytest.mark.parametrize("access", ["ldr", "ldrb", "str", "strh", "strb"])
@pytest.mark.parametrize("size", [5, 6, 8])
def test_guards_around_an_array(access, size):
    """Also a write that begins in the array; of such a read nothing tells."""
    width, reads = {"h": 2, "b": 1}.get(access[3:], 4), access.startswith("ld")
    firmware = accesses([f"{access} r2, [r0]"], "m4")
    for at in range(-4, size + 4):
        inside = at >= 0 and (at < size if reads else at + width <= size)
        if inside:
            assert firmware.run("f0", np.zeros(size, np.int8), at, guarded=True).instructions == 4
            continue
        where = f"{-at} bytes before" if at < 0 else f"({at + width - size} bytes )?past"
        verb = "read" if reads else "wrote"
        with pytest.raises(FirmwareError, match=f"it {verb} {where} the array of argument 0"):
            firmware.run("f0", np.zeros(size, np.int8), at, 0x5A5A_5A5A, guarded=True)


@pytest.mark.parametrize(
    "access", ["ldrsbeq r2, [r0]", "streq r2, [r0, #4]", "ldrdeq r2, r3, [r0]"]
)
def test_guards_change_nothing_else(access):
    """Unicorn loses count of an IT block in which a hook was called, and skips what follows."""
    body = f"""
push {{r4, lr}}
mov r1, #5
cmp r0, r0
ite eq
{access}
movne r1, #9
b 1f
1: add r1, #16
add r1, #32
mov r0, r1
pop {{r4, pc}}
"""
    firmware = assembly(body)
    for guarded in (False, True):
        assert firmware.run("f", np.zeros(8, np.int8), guarded=guarded).value == 53


def test_several_words_are_aligned_on_every_core():
    """A core faults; the emulator alone would let it pass."""
    bodies = ["ldrd r1, r2, [r0]", "ldrd r1, r2, [r0, #4]!", "strd r1, r2, [r0], #8",
              "ldm r0, {r1, r2}", "ldm r12, {r1, r2}", "ldmdb r0, {r1, r2}", "stm r0!, {r1, r2}",
              "stmdb r0!, {r1, r2}", "vldr s0, [r0]", "vstr d0, [r0, #8]", "vldmia r0, {s0, s1}",
              "vstmia r0!, {s0, s1}"]  # fmt: skip
    firmware = accesses(bodies, "m4")
    for i in range(len(bodies)):
        assert firmware.run(f"f{i}", np.zeros(40, np.int8), 8, guarded=True).instructions == 4
        for by in (9, 10, 11):
            with pytest.raises(FirmwareError, match=rf"stopped at f{i}\+4: .*not aligned to four"):
                firmware.run(f"f{i}", np.zeros(40, np.int8), by, guarded=True)


@pytest.mark.parametrize("move", ["vmov r2, r0, d0", "vmov d0, r2, r0", "vmov r2, r0, s0, s1"])
def test_moves_between_registers_touch_no_memory(move):
    """They have the coprocessor of VLDR and VSTR, and any number in their registers."""
    firmware = accesses([move], "m4")
    for at in (8, 9, 11):
        assert firmware.run("f0", np.zeros(40, np.int8), at, guarded=True).instructions == 4


def test_calls_without_a_reset_in_between():
    """What earlier calls left in variables and in shared arrays is there; other arrays are new."""
    source = "int n; void f(signed char *a, signed char *b) { a[0] += ++n; b[0] += n; }"
    firmware = Firmware(source, keep=["f"])
    shared, own = np.zeros(1, np.int8), np.zeros(1, np.int8)
    before = [(shared, np.zeros(1, np.int8)), (shared, np.zeros(1, np.int8))]
    run = firmware.run("f", shared, own, counted=False, before=before)
    assert [int(one[0]) for one in run.outputs] == [1 + 2 + 3, 3]
    assert not shared.any()
    assert firmware.run("f", shared, shared).outputs[0].tolist() == [1]  # two arrays in one call


def test_assembly_is_that_of_one_function():
    firmware = Firmware(
        "int f(int a) { return a + 1; } int g(int a) { return a * a; }", keep=["f", "g"]
    )
    assert "muls" in firmware.assembly("g")
    assert "muls" not in firmware.assembly("f")
    assert len(firmware.assembly("f").splitlines()) == 2
    with pytest.raises(FirmwareError, match="got function 'h'; the firmware has"):
        firmware.assembly("h")


def test_asm_and_typeof_compile():
    source = 'int f(int a) { typeof(a) b = a; asm volatile("adds %0, #2" : "+r"(b)); return b; }'
    assert Firmware(source, keep=["f"]).run("f", 40).value == 42


def test_an_endless_loop_that_is_not_counted_ends_by_the_clock():
    firmware = Firmware("void f(void) { for (;;); }", keep=["f"])
    with pytest.raises(FirmwareError, match=r"not done within 0\.2 s"):
        firmware.run("f", counted=False, seconds=0.2)


def test_what_does_not_become_firmware():
    with pytest.raises(CompileError, match=r"kernel\.c:1:\d+: error"):
        Firmware("int f(void) { return x; }")
    with pytest.raises(CompileError, match=r"other\.c:2:"):
        Firmware({"kernel.c": "int f;", "other.c": "\nint g(;"})
    with pytest.raises(FirmwareError, match="undefined symbol: g"):
        Firmware("void g(void); void f(void) { g(); }", keep=["f"])
    with pytest.raises(FirmwareError, match=r"SRAM.*overflowed by 3\d{5} bytes"):
        Firmware("char big[600000]; char *f(void) { return big; }", keep=["f"])
    with pytest.raises(FirmwareError, match=r"FLASH.*overflowed"):
        Firmware("const char big[2000000] = {1}; const char *f(void) { return big; }", keep=["f"])
    with pytest.raises(ValueError, match="got board 'esp32'"):
        Firmware("int x;", "esp32")
    with pytest.raises(ValueError, match="got core"):
        Board("x", "cortex-m99", 2**20, 2**16, 1e6)
    with pytest.raises(ValueError, match="sram_bytes 100"):
        Board("x", "cortex-m4", 2**20, 100, 1e6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((np.zeros(300_000, np.int8),), "300,000 bytes do not fit into SRAM"),
        ((InFlash(np.zeros(2**20, np.int8)),), "do not fit into flash"),
        ((np.zeros(262_100, np.int8),), "nothing is left for the stack"),
        ((np.zeros(3),), "got float64; allowed"),
        (("text",), "got str"),
        ((2**32,), "no register holds"),
    ],
)
def test_arguments_that_do_not_fit(dot, arguments, said):
    with pytest.raises(FirmwareError, match=said):
        dot.run("dot", *arguments)


def test_a_missing_function_is_named(dot):
    with pytest.raises(FirmwareError, match=r"got function 'f'; the firmware has \['dot', 'scale'"):
        dot.run("f")


def test_twelve_million_products_in_time():
    """What a small network takes: uncounted within 2 s, counted within 20 s (on one core)."""
    import time

    x = np.random.default_rng(0).integers(-128, 128, 50_000, dtype=np.int8)
    source = (
        DOT
        + """
int many(const int8_t *x, const int8_t *w, int n, int times) {
    int sum = 0;
    for (int t = 0; t < times; t++) sum += dot(x, w + (t & 7), n - 8);
    return sum;
}
"""
    )
    firmware = Firmware(source, keep=["many"])
    spent = {}
    for counted in (False, True):
        start = time.process_time()
        run = firmware.run("many", x, InFlash(x), 50_000, 250, counted=counted)
        spent[counted] = time.process_time() - start
    assert run.instructions > 12_500_000
    assert spent[False] < 2
    assert spent[True] < 20


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_an_emulator_gives_its_addresses_back(dot):
    """Each reserves a gigabyte; in a sandbox a handful that wait for collection is the end."""

    def reserved() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmSize"))

    numbers = np.ones(4, np.int8)
    before = reserved()
    for counted in (True, False) * 4:
        dot.run("dot", numbers, numbers, 4, counted=counted, guarded=True)
        with pytest.raises(FirmwareError):
            dot.run("dot", 0x6000_0000, numbers, 4)
    assert reserved() < before + 2**20  # KiB
