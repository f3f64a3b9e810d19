"""The emulated Cortex-M beside QEMU, and zig beside GCC: same outputs, same instruction counts."""

import zlib
from collections.abc import Callable

import instructions
import numpy as np
import pytest
import torch
from qemu import COMPILERS, MACHINES, constant, image, needed

from codesign import checkpoints
from codesign.hardware import engine
from codesign.hardware.cortex_m import FirmwareError
from codesign.post_training import quantize

pytestmark = [needed, pytest.mark.qemu]
WITH_FLOATS = ("cortex-m4", "cortex-m7")
RANDOM = np.random.default_rng(0)


def naked(*lines: str) -> str:
    text = "".join(f'"{part}\\n"' for line in lines for part in line.split("\n"))
    return f"__attribute__((naked)) int job(unsigned char *out) {{ __asm__ volatile({text}); }}"


# --- kernels, each with what it has to write, computed by numpy ----------------------------------


def matrix_product() -> tuple[str, bytes]:
    """int8 [6, 20] x [12, 20]^T, requantized by 64-bit products, with SMLAD where there is one."""
    x, w = (RANDOM.integers(-128, 128, (rows, 20), np.int8) for rows in (6, 12))
    bias, mantissa = RANDOM.integers(-9_000, 9_000, 12, np.int32), np.int32(1_518_500_250)
    sums = x.astype(np.int64) @ w.T.astype(np.int64) + bias
    shifted = (sums * mantissa + (1 << 38)) >> 39
    source = """
#include <stdint.h>
#include <string.h>
#if __ARM_FEATURE_DSP
#include <arm_acle.h>
static int32_t four(const int8_t *x, const int8_t *w, int32_t sum) {
    uint32_t a, b;
    memcpy(&a, x, 4), memcpy(&b, w, 4);
    sum = __smlad(__sxtb16(a), __sxtb16(b), sum);
    return __smlad(__sxtb16(a >> 8 | a << 24), __sxtb16(b >> 8 | b << 24), sum);
}
#else
static int32_t four(const int8_t *x, const int8_t *w, int32_t sum) {
    for (int i = 0; i < 4; i++) sum += x[i] * w[i];
    return sum;
}
#endif
int job(int8_t *out) {
    for (int row = 0; row < 6; row++)
        for (int column = 0; column < 12; column++) {
            int32_t sum = bias[column];
            for (int i = 0; i < 20; i += 4) sum = four(x + 20 * row + i, w + 20 * column + i, sum);
            int64_t shifted = ((int64_t)sum * MANTISSA + (1ll << 38)) >> 39;
            *out++ = (int8_t)(shifted < -128 ? -128 : shifted > 127 ? 127 : shifted);
        }
    return 0;
}
""".replace("MANTISSA", str(mantissa))
    constants = constant("x", x) + constant("w", w) + constant("bias", bias)
    return headed(constants, source), shifted.clip(-128, 127).astype(np.int8).tobytes()


def division() -> tuple[str, bytes]:
    a, b = (RANDOM.integers(-(2**31), 2**31, 60, np.int64) >> s for s in (0, 16))
    a[:3], b[:3], b[b == 0] = (-1, 0, 2**31 - 1), (1, -1, -(2**15)), 7
    quotient = np.trunc(a / b).astype(np.int64)
    ua, ub = a.astype(np.uint32), b.astype(np.uint32)
    found = (quotient, a - quotient * b, ua // ub, ua % ub)
    expected = np.stack([part.astype(np.uint32) for part in found], 1)
    source = """
int job(uint32_t *out) {
    for (int i = 0; i < 60; i++) {
        *out++ = (uint32_t)(a[i] / b[i]);
        *out++ = (uint32_t)(a[i] % b[i]);
        *out++ = (uint32_t)a[i] / (uint32_t)b[i];
        *out++ = (uint32_t)a[i] % (uint32_t)b[i];
    }
    return 0;
}
"""
    constants = constant("a", a.astype(np.int32)) + constant("b", b.astype(np.int32))
    return headed(constants, source), expected.tobytes()


def numbers() -> tuple[str, bytes]:
    """Each step is a statement, which neither compiler may fuse with the next."""
    x, y = (RANDOM.normal(0, 10, 50).astype(np.float32) for _ in range(2))
    product = x * y
    total = product + np.float32(0.3)
    root = np.sqrt(np.abs(total))
    ratio = root / y
    rounded = ratio.astype(np.int32)
    expected = np.stack([v.view(np.int32) for v in (product, total, root, ratio)] + [rounded], 1)
    source = """
static float number(uint32_t bits) { float f; memcpy(&f, &bits, 4); return f; }
static uint32_t bits(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }
int job(uint32_t *out) {
    for (int i = 0; i < 50; i++) {
        float product = number(x[i]) * number(y[i]);
        float sum = product + 0.3f;
        float root, size = sum < 0 ? -sum : sum;
        __asm__("vsqrt.f32 %0, %1" : "=t"(root) : "t"(size));
        float ratio = root / number(y[i]);
        *out++ = bits(product), *out++ = bits(sum), *out++ = bits(root), *out++ = bits(ratio);
        *out++ = (uint32_t)(int32_t)ratio;
    }
    return 0;
}
"""
    return headed(constant("x", x) + constant("y", y), source), expected.tobytes()


def control() -> tuple[str, bytes]:
    """Recursion, a switch, calls by pointer, a table that is written, and a checksum bit by bit."""
    values = RANDOM.integers(0, 2**16, 64, np.uint16)
    kinds = {0: lambda v: v + 1, 1: lambda v: v ^ 0x5A5A, 2: lambda v: v * 3, 3: lambda v: v >> 2,
             4: lambda v: ~v, 5: lambda v: v << 1, 6: lambda v: v - 9, 7: lambda v: v}  # fmt: skip
    changed = np.array([kinds[int(v) % 8](int(v)) & 0xFFFF for v in values], np.uint16)
    expected = np.sort(changed)
    source = """
static uint16_t work[64] = {1, 2, 3};
static unsigned calls = 40;
static uint16_t change(uint16_t v) {
    calls++;
    switch (v % 8) {
        case 0: return v + 1;
        case 1: return v ^ 0x5a5a;
        case 2: return v * 3;
        case 3: return v >> 2;
        case 4: return ~v;
        case 5: return v << 1;
        case 6: return v - 9;
        default: return v;
    }
}
static uint16_t (*volatile by_pointer)(uint16_t) = change;
__attribute__((noinline)) static void sort(uint16_t *at, int n) {
    if (n < 2) return;
    uint16_t pivot = at[(n - 1) / 2];
    int i = -1, j = n;
    for (;;) {
        while (at[++i] < pivot) {}
        while (at[--j] > pivot) {}
        if (i >= j) break;
        uint16_t t = at[i];
        at[i] = at[j], at[j] = t;
    }
    sort(at, j + 1);
    sort(at + j + 1, n - j - 1);
}
int job(uint8_t *out) {
    for (int i = 0; i < 64; i++) work[i] = by_pointer(values[i]);
    sort(work, 64);
    memcpy(out, work, sizeof work);
    uint32_t sum = ~0u;
    for (unsigned i = 0; i < sizeof work; i++) {
        sum ^= out[i];
        for (int bit = 0; bit < 8; bit++) sum = sum & 1 ? sum >> 1 ^ 0xedb88320u : sum >> 1;
    }
    sum = ~sum;
    memcpy(out + 128, &sum, 4);
    out[132] = (uint8_t)calls;
    return 0;
}
"""
    checksum = zlib.crc32(expected.tobytes()).to_bytes(4, "little")
    return headed(constant("values", values), source), expected.tobytes() + checksum + bytes([104])


def headed(constants: str, source: str) -> str:
    return f"#include <stdint.h>\n#include <string.h>\n{constants}{source}"


KERNELS = {kernel.__name__: kernel() for kernel in (matrix_product, division, numbers, control)}


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(
    ("kernel", "core"),
    [(k, core) for k in KERNELS for core in MACHINES if k != "numbers" or core in WITH_FLOATS],
)
def test_kernels_compute_and_count_the_same(kernel, core, compiler):
    source, expected = KERNELS[kernel]
    job = image(source, core, len(expected), compiler)
    emulated, reference = job.in_unicorn(), job.in_qemu()
    assert emulated.out == reference.out == expected
    assert emulated.instructions == reference.instructions > 500


def test_the_kernels_use_what_they_are_for():
    mixes = {}
    for name in ("matrix_product", "division", "numbers"):
        source, expected = KERNELS[name]
        firmware = image(source, "cortex-m4", len(expected)).firmware
        mixes[name] = firmware.run("job", np.zeros(len(expected), np.uint8)).mix
    long = sum(mixes["matrix_product"].get(name, 0) for name in ("smull", "umull", "smlal"))
    assert mixes["matrix_product"]["smlad"] == 6 * 12 * 10
    assert long >= 6 * 12
    assert mixes["division"]["sdiv"] == mixes["division"]["udiv"] == 60
    assert mixes["numbers"]["vdiv"] == mixes["numbers"]["vsqrt"] == 50


# --- instructions --------------------------------------------------------------------------------


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("core", MACHINES)
def test_a_loop_takes_what_its_instructions_say(core, compiler):
    """1 + 10 x 4 + 2: both counts begin with the function and end with its return."""
    source = naked("movs r1, #10", "1: strb r1, [r0]", "adds r0, #1", "subs r1, #1", "bne 1b",
                   "movs r0, #7", "bx lr")  # fmt: skip
    job = image(source, core, 12, compiler)
    for outcome in (job.in_unicorn(), job.in_qemu()):
        assert outcome.instructions == 43
        assert (outcome.value, outcome.out) == (7, bytes([*range(10, 0, -1), 0, 0]))


@pytest.mark.parametrize("core", MACHINES)
def test_random_instructions_leave_the_same_registers(core):
    """Assembled by GNU: decoder, zig and unicorn share none of its tables."""
    source, out_bytes, filled = instructions.program(core, seed=1, times=3)
    job = image(source, core, out_bytes, "gcc")
    emulated, reference = job.in_unicorn(), job.in_qemu()
    assert emulated.instructions == reference.instructions > 3 * len(filled)
    size = out_bytes // len(filled)
    parts = [slice(i * size, (i + 1) * size) for i in range(len(filled))]
    assert [
        line
        for line, part in zip(filled, parts, strict=True)
        if emulated.out[part] != reference.out[part]
    ] == []
    assert len({emulated.out[part] for part in parts}) > 0.9 * len(filled)


# What each is, and the cores that execute it; as numbers, since no assembler would take them.
EXECUTED = {
    "sdiv": ("movs r1, #1\n.inst.w 0xfb91f2f1", ("cortex-m3", "cortex-m4", "cortex-m7")),
    "clz": (".inst.w 0xfab1f181", ("cortex-m3", "cortex-m4", "cortex-m7")),
    "vadd.f32": (".inst.w 0xee300a00", ("cortex-m4", "cortex-m7")),
    "vrinta.f32": (".inst.w 0xfeb80a40", ("cortex-m7",)),
    "udf": (".inst.n 0xde00", ()),
    "call of ARM code": ("subs r1, r1\nbx r1", ()),
    "ldr, not aligned": ("adds r0, #1\nldr r1, [r0]", ("cortex-m3", "cortex-m4", "cortex-m7")),
    "ldm, not aligned": ("adds r0, #2\nldmia r0!, {r1, r2}", ()),
    "ldrd, not aligned": ("adds r0, #2\n.inst.w 0xe9d01200", ()),
    "vldr, not aligned": ("adds r0, #2\n.inst.w 0xedd00a00", ()),
}


@pytest.mark.parametrize("core", MACHINES)
def test_what_stops_one_stops_the_other(core):
    expected = [name for name, (_, cores) in EXECUTED.items() if core in cores]
    executed: dict[str, list[str]] = {"unicorn": [], "qemu": []}
    for name, (lines, _) in EXECUTED.items():
        job = image(naked(lines, "bx lr"), core, 16, "gcc")
        executed["unicorn"] += [name] if ends(lambda job=job: job.in_unicorn(guarded=True)) else []
        executed["qemu"] += [name] if ends(job.in_qemu) else []
    assert executed == {"unicorn": expected, "qemu": expected}


def ends(run: Callable[[], object]) -> bool:
    try:
        run()
    except (FirmwareError, RuntimeError):
        return False
    return True


# --- a whole network -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    """ResNet-8 of integers and an image; random images set its ranges, so no data set is needed."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), np.uint8))
    model = checkpoints.load(checkpoints.shipped("resnet8", "glyphs"))
    return quantize(model, images), images[:1]


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("core", WITH_FLOATS)
def test_a_generated_firmware(network, core, compiler):
    """13.5 million instructions; the timer is read in steps of 1.25 of them."""
    integers, one = network
    source = f"""
#include <stdint.h>
void infer(const int8_t *, int32_t *);
{constant("image", integers.codes(one)[0])}
int job(void *out) {{ infer(image, out); return 0; }}
"""
    sources = {"job.c": source, **engine.generate(integers).sources}
    job = image(sources, core, 40, compiler)
    emulated, reference = job.in_unicorn(), job.in_qemu(shift=5)
    expected = integers.logits(one)[0].numpy().astype(np.int32).tobytes()
    assert emulated.out == reference.out == expected
    assert abs(emulated.instructions - reference.instructions) <= 3
    assert emulated.instructions > 10_000_000
