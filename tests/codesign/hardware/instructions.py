"""Random instructions with random operands, as a C function that stores registers after each.

r1 to r6 and s0 to s7 are operands, r7 receives the flags, r0 is where registers go.
"""

import random

import numpy as np

EVERY = 5  # instructions, then operands are drawn again
INTEGERS = (0, 1, 2**32 - 1, 2**31, 2**31 - 1, 0x7FFF8000, 0x80808080)
FLOATS = (0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 3.4e38, 0.5, 1.5, 2.5, -2.5, 65504, 1e10)


def named(names: str, operands: str) -> list[str]:
    """``operands`` behind each of the ``names``."""
    return [f"{name} {operands}" for name in names.split()]


THUMB1 = [
    *named("adds subs", "{a}, {b}, {c}"),
    *named("adcs sbcs muls lsls lsrs asrs rors ands orrs eors bics", "{a}, {a}, {b}"),
    *named("mvns rsbs0 cmp cmn tst rev rev16 revsh sxtb sxth uxtb uxth", "{a}, {b}"),
    "lsls {a}, {b}, #{n}", "lsrs {a}, {b}, #{n}", "asrs {a}, {b}, #{n}", "adds {a}, #{n}",
    "push {{{a}}}\npop {{{b}}}", "push {{r1-r5}}\nldr {a}, [sp, #8]\npop {{r2-r6}}",
    "cmp {a}, {b}\nblt 1f\nadds {a}, #1\n1:", "bl 1f\nb 2f\n1: bx lr\n2:",
]  # fmt: skip
THUMB1 = [line.replace("rsbs0 {a}, {b}", "rsbs {a}, {b}, #0") for line in THUMB1]

INTEGER = [
    "adds {a}, {b}, {c}", "adcs {a}, {b}, {c}, lsl #{n}", "subs {a}, {b}, {c}, asr #{n}",
    "sbcs {a}, {b}, {c}", "rsbs {a}, {b}, {c}, lsr #{n}", "ands {a}, {b}, {c}, ror #{n}",
    "orrs {a}, {b}, {c}, asr #{n}", "eors {a}, {b}, {c}, lsl #{n}", "bics {a}, {b}, {c}",
    "orns {a}, {b}, {c}", "mvns {a}, {b}, lsr #{n}", "rrxs {a}, {b}", "addw {a}, {b}, #{m}",
    *named("lsls lsrs asrs rors mul sdiv udiv", "{a}, {b}, {c}"),
    *named("mla mls umull smull umlal smlal", "{a}, {b}, {c}, {d}"),
    *named("clz rbit rev rev16 revsh sxth uxtb", "{a}, {b}"), *named("cmp cmn tst teq", "{a}, {b}"),
    *named("ubfx sbfx bfi", "{a}, {b}, #{m}, #{m}"), "bfc {a}, #{m}, #{m}",
    "ssat {a}, #{m}, {b}, asr #{n}", "usat {a}, #{m}, {b}, lsl #{n}",
    "sxtb {a}, {b}, ror #8", "uxth {a}, {b}, ror #16", "movw {a}, #0x{h}", "movt {a}, #0x{h}",
    "ite lt\naddlt {a}, {b}, #1\nsubge {a}, {b}, #2", "itt hi\nmovhi {a}, {b}\nmovhi {c}, #3",
    "ittee vs\nmvnvs {a}, {b}\nmovvs {b}, #1\nmovvc {b}, #2\nmovvc {c}, #3",
    "cbz {a}, 1f\nmovs {b}, #0\n1:", "cmp {a}, {b}\nbhi.w 1f\nmvns {b}, {c}\n1:",
    # Memory, unaligned too; below the stack pointer there is room.
    "str {a}, [sp, #-{k}]\nldr {b}, [sp, #-{k}]", "strh {a}, [sp, #-{k}]\nldrsh {b}, [sp, #-{k}]",
    "strb {a}, [sp, #-{k}]\nldrsb {b}, [sp, #-{k}]", "strd {a}, {b}, [sp, #-8]\nldr {c}, [sp, #-8]",
    "str {a}, [sp, #-8]!\nldr {b}, [sp], #8", "strd {a}, {b}, [sp, #-8]!\nldrd {a}, {c}, [sp], #8",
    "stmdb sp!, {{r1-r4}}\nldmia sp!, {{r2-r5}}", "ldrex {a}, [r0]\nstrex {b}, {c}, [r0]",
]  # fmt: skip

DSP = [
    *named("smlad smladx smlsd smlsdx smlabb smlabt smlatb smlatt", "{a}, {b}, {c}, {d}"),
    *named("smlawb smlawt smmla smmlar smmls smmlsr usada8", "{a}, {b}, {c}, {d}"),
    *named("smlald smlaldx smlsld smlsldx smlalbb smlaltt umaal", "{a}, {b}, {c}, {d}"),
    *named("smuad smuadx smusd smusdx smulbb smultt smulwb smulwt", "{a}, {b}, {c}"),
    *named("smmul smmulr qadd qsub qdadd qdsub sel usad8 sxtab16 uxtab16", "{a}, {b}, {c}"),
    *(f"{p}{o} {{a}}, {{b}}, {{c}}" for p in ("s", "u", "q", "uq", "sh", "uh")
      for o in ("add8", "add16", "sub8", "sub16", "asx", "sax")),
    "pkhbt {a}, {b}, {c}, lsl #{n}", "pkhtb {a}, {b}, {c}, asr #{n}", "sxtb16 {a}, {b}, ror #8",
    "uxtb16 {a}, {b}", "ssat16 {a}, #{m}, {b}", "usat16 {a}, #{m}, {b}",
    "sxtab {a}, {b}, {c}, ror #16", "uxtah {a}, {b}, {c}",
]  # fmt: skip

FLOAT = [
    *named("vadd.f32 vsub.f32 vmul.f32 vnmul.f32 vdiv.f32 vfma.f32 vfms.f32", "{s}, {t}, {u}"),
    *named("vfnma.f32 vfnms.f32 vmla.f32 vmls.f32 vnmla.f32 vnmls.f32", "{s}, {t}, {u}"),
    *named("vsqrt.f32 vabs.f32 vneg.f32 vmov.f32", "{s}, {t}"),
    "vcmp.f32 {s}, {t}\nvmrs APSR_nzcv, fpscr", "vcmpe.f32 {s}, #0\nvmrs APSR_nzcv, fpscr",
    *named("vcvt.s32.f32 vcvt.u32.f32 vcvtr.s32.f32 vcvt.f32.s32 vcvt.f32.u32", "{s}, {t}"),
    *named("vcvtb.f16.f32 vcvtt.f16.f32 vcvtb.f32.f16 vcvtt.f32.f16", "{s}, {t}"),
    *named("vcvt.s32.f32 vcvt.f32.s16", "{s}, {s}, #{m}"),
    "vmov {s}, {a}", "vmov {a}, {s}", "vmov.f32 {s}, #1.5", "vmrs {a}, fpscr",
    "vpush {{s1-s3}}\nvpop {{s4-s6}}", "vstr {s}, [sp, #-8]\nvldr {t}, [sp, #-8]",
]  # fmt: skip

FPV5 = [
    *named("vrinta.f32 vrintn.f32 vrintp.f32 vrintm.f32 vrintz.f32 vrintx.f32", "{s}, {t}"),
    *named("vmaxnm.f32 vminnm.f32 vselge.f32 vselgt.f32 vseleq.f32 vselvs.f32", "{s}, {t}, {u}"),
    "vcvta.s32.f32 {s}, {t}", "vcvtn.u32.f32 {s}, {t}",
]  # fmt: skip

OF_CORE = {
    "cortex-m0+": THUMB1,
    "cortex-m3": INTEGER,
    "cortex-m4": [*INTEGER, *DSP, *FLOAT],
    "cortex-m7": [*INTEGER, *DSP, *FLOAT, *FPV5],
}


def program(core: str, seed: int, times: int) -> tuple[str, int, list[str]]:
    """C source of ``job``, the bytes that it writes, and its instructions in order."""
    draw = random.Random(seed)
    templates = OF_CORE[core] * times
    draw.shuffle(templates)
    floats = core in ("cortex-m4", "cortex-m7")
    filled = [_filled(draw, template) for template in templates]
    lines = ["push {r4-r7, lr}", "movs r1, #0", "adds r1, #0"]  # the flags are known now
    for i, line in enumerate(filled):
        lines += _operands(draw, floats) if i % EVERY == 0 else []
        lines += [line, "mrs r7, apsr", "stmia r0!, {r1-r7}"]
        lines += ["vstmia r0!, {s0-s7}"] if floats else []
    text = "".join(
        f'"{part}\\n"' for line in [*lines, "pop {r4-r7, pc}"] for part in line.split("\n")
    )
    source = f"__attribute__((naked)) int job(unsigned char *out) {{ __asm__ volatile({text}); }}"
    return source, len(filled) * (60 if floats else 28), filled


def _filled(draw: random.Random, template: str) -> str:
    a, b, c, d = draw.sample(range(1, 7), 4)
    s, t, u = (draw.randrange(8) for _ in range(3))
    return template.format(
        a=f"r{a}", b=f"r{b}", c=f"r{c}", d=f"r{d}", s=f"s{s}", t=f"s{t}", u=f"s{u}",
        n=draw.randrange(1, 31), m=draw.randrange(1, 16), k=draw.randrange(4, 20),
        h=f"{draw.randrange(2**16):x}",
    )  # fmt: skip


def _operands(draw: random.Random, floats: bool) -> list[str]:
    def integer() -> int:
        return draw.choice([draw.randrange(2**32), draw.choice(INTEGERS)])

    lines = [f"ldr r{i}, ={integer()}" for i in range(1, 7)]
    for i in range(8 if floats else 0):
        value = np.float32(draw.choice([draw.uniform(-100, 100), draw.choice(FLOATS)]))
        lines += [f"ldr r7, ={value.view(np.uint32)}", f"vmov s{i}, r7"]
    return [*lines, "b 1f", ".ltorg", "1:"]
