"""Energy of arithmetic and of data movement in picojoules, at 45 nm: an estimate, never measured.

What an operation costs beside what it costs to fetch its operands. Leaves out leakage, control,
instruction fetch and everything newer than 45 nm: ratios age better than absolute values. Taught in
Lecture 1, used wherever a count of operations is turned into joules.

Sources: M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014,
figure 1.1.9 (arithmetic, 8 KiB cache); Han et al., "Learning both weights and connections for
efficient neural networks", NeurIPS 2015, figure 1 (32-bit register, SRAM, DRAM).
"""

from __future__ import annotations

from collections.abc import Mapping

OPERATION_PJ: Mapping[str, float] = {
    "int8 add": 0.03,
    "int16 add": 0.05,
    "int32 add": 0.1,
    "int8 multiply": 0.2,
    "fp16 add": 0.4,
    "fp32 add": 0.9,
    "fp16 multiply": 1.1,
    "int32 multiply": 3.1,
    "fp32 multiply": 3.7,
}
WORD_BITS = 32
WORD_PJ: Mapping[str, float] = {"register": 1.0, "SRAM": 5.0, "DRAM": 640.0}  # 32 bits; SRAM: 8 KiB
ACCUMULATOR = {"int8": "int32", "fp16": "fp16", "fp32": "fp32"}


def mac_pj(kind: str) -> float:
    """Picojoules of one multiply–accumulate: ``"int8"`` (added in int32), ``"fp16"``, ``"fp32"``.

    Raises:
        ValueError: another kind of number.
    """
    if kind not in ACCUMULATOR:
        raise ValueError(f"got {kind!r}; allowed: {', '.join(ACCUMULATOR)}")
    return OPERATION_PJ[f"{kind} multiply"] + OPERATION_PJ[f"{ACCUMULATOR[kind]} add"]


def access_pj(memory: str, bits: float = WORD_BITS) -> float:
    """Picojoules of moving ``bits`` from or to ``memory``, in proportion to a 32-bit word.

    Raises:
        ValueError: an unknown memory, or fewer than 0 bits.
    """
    if memory not in WORD_PJ or bits < 0:
        raise ValueError(
            f"got {bits} bits of {memory!r}; allowed: >= 0 bits of {', '.join(WORD_PJ)}"
        )
    return WORD_PJ[memory] * bits / WORD_BITS


def inference_pj(macs: float, kind: str, weight_bits: float, memory: str) -> float:
    """Picojoules of ``macs`` operations and of fetching ``weight_bits`` once from ``memory``.

    Activations are left out: small networks keep them on the chip.
    """
    return macs * mac_pj(kind) + access_pj(memory, weight_bits)
