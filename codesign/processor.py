"""Describe this machine's processor: name, family and model, instruction sets, cores.

A figure of speed means little without them: two processors of one brand name differ twofold. Linux
tells all in ``/proc/cpuinfo``; elsewhere ``platform`` knows a name and the number of cores. Leaves
out clock rates, which change while one measures, and caches. Used by :mod:`codesign.measure`.
"""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# What matters for the course's kernels: flags of Linux, and the field's name for them.
X86 = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "avx_vnni": "VNNI",
       "amx_tile": "AMX"}  # fmt: skip
ARM = {"asimd": "NEON", "neon": "NEON", "asimddp": "DotProd", "i8mm": "I8MM", "sve": "SVE",
       "sve2": "SVE2"}  # fmt: skip
# Arm names no processor in cpuinfo, only numbers: the main ID register's part (Arm, technical
# reference manual of each core, MIDR_EL1).
ARM_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd08": "Cortex-A72",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse N1",
    "0xd40": "Neoverse V1",
    "0xd49": "Neoverse N2",
    "0xd4f": "Neoverse V2",
}


@dataclass(frozen=True)
class Processor:
    """A processor as far as the operating system names it.

    Args:
        name: without trademarks.
        model: family and model (x86) or implementer and part (Arm); "" where nothing tells.
        instruction_sets: those that the course's kernels could use; empty where nothing tells.
        cores: that this process may run on; two threads of one core count once.
    """

    name: str
    model: str
    instruction_sets: tuple[str, ...]
    cores: int

    def __str__(self) -> str:
        named = f"{self.name} ({self.model})" if self.model else self.name
        sets = " ".join(self.instruction_sets)
        cores = f"{self.cores} core{'s' if self.cores > 1 else ''}"
        return ", ".join(part for part in (named, sets, cores) if part)


@lru_cache(maxsize=1)
def this() -> Processor:
    """The processor that runs this."""
    text = CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.exists() else ""
    return described(text, usable())


def usable() -> set[int]:
    """Numbers of the logical processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def described(cpuinfo: str, allowed: set[int]) -> Processor:
    """The processor that a text of ``/proc/cpuinfo`` describes; "" if there is no such file.

    Args:
        allowed: numbers of the logical processors that count.
    """
    blocks = [facts for block in cpuinfo.split("\n\n") if (facts := _facts(block))]
    listed = [facts for facts in blocks if facts.get("processor", "").isdecimal()]
    first = listed[0] if listed else {}
    flags = first.get("flags", first.get("Features", "")).split()
    known = X86 if "flags" in first else ARM
    sets = tuple(dict.fromkeys(name for flag, name in known.items() if flag in flags))
    name, model = _named(first)
    return Processor(name, model, sets, _cores(listed, allowed))


def _facts(block: str) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in block.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _named(facts: dict[str, str]) -> tuple[str, str]:
    if "cpu family" in facts and "model" in facts:
        model = f"family {facts['cpu family']} model {facts['model']}"
        return _plain(facts.get("model name", "")) or facts.get("vendor_id", "x86"), model
    if "CPU part" in facts:
        implementer, part = facts.get("CPU implementer", ""), facts["CPU part"]
        # Others than Arm (0x41) number their own parts.
        name = f"Arm {ARM_PARTS[part]}" if implementer == "0x41" and part in ARM_PARTS else "Arm"
        return name, f"implementer {implementer} part {part}"
    return _plain(facts.get("model name", "")) or platform.processor() or platform.machine(), ""


def _plain(name: str) -> str:
    """A brand name without trademarks, clock rate and the word for what it is."""
    name = re.sub(r"\((R|TM)\)|\bCPU\b|@.*", "", name, flags=re.I)
    return " ".join(name.split())


def _cores(blocks: list[dict[str, str]], allowed: set[int]) -> int:
    used = [facts for facts in blocks if int(facts["processor"]) in allowed]
    # Two threads of a core share its number; without numbers, as in many virtual machines, each
    # logical processor is a core.
    cores = {(facts.get("physical id"), facts.get("core id", facts["processor"])) for facts in used}
    return len(cores) or len(allowed)
