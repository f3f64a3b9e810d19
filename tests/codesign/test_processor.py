"""What texts of /proc/cpuinfo say of a processor, and what is said where there is none."""

from __future__ import annotations

import platform
import re

import pytest

from codesign import processor
from codesign.processor import described

INTEL = """
processor	: {number}
vendor_id	: GenuineIntel
cpu family	: 6
model		: 207
model name	: Intel(R) Xeon(R) Processor @ 2.10GHz
physical id	: 0
core id		: {core}
flags		: fpu sse2 avx avx2 avx512f avx512bw avx_vnni avx512_vnni amx_bf16 amx_tile amx_int8
"""
AMD = """
processor	: {number}
vendor_id	: AuthenticAMD
cpu family	: 25
model		: 1
model name	: AMD EPYC
physical id	: 0
core id		: {core}
flags		: fpu sse2 avx avx2 sha_ni
"""
ARM = """
processor	: {number}
BogoMIPS	: 243.75
Features	: fp asimd evtstrm aes asimdhp asimddp
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x3
CPU part	: {part}
"""
THREADS = 4  # of two cores


def text(block: str, **facts: str) -> str:
    blocks = (block.format(number=i, core=i // 2, **facts) for i in range(THREADS))
    return "\n".join(block.lstrip() for block in blocks)


def test_intel():
    assert str(described(text(INTEL), set(range(THREADS)))) == (
        "Intel Xeon Processor (family 6 model 207), AVX2 AVX-512 VNNI AMX, 2 cores"
    )


def test_amd_of_the_same_brand_name_differ_by_model():
    milan = described(text(AMD), set(range(THREADS)))
    assert str(milan) == "AMD EPYC (family 25 model 1), AVX2, 2 cores"
    genoa = text(AMD).replace("model		: 1", "model		: 17").replace("sha_ni", "avx512f")
    assert str(described(genoa, {0})) == "AMD EPYC (family 25 model 17), AVX2 AVX-512, 1 core"


def test_arm():
    found = described(text(ARM, part="0xd0c"), set(range(THREADS)))
    assert str(found) == ("Arm Neoverse N1 (implementer 0x41 part 0xd0c), NEON DotProd, 4 cores")
    assert described(text(ARM, part="0xfff"), {0}).name == "Arm"
    apple = text(ARM, part="0xd0c").replace("0x41", "0x61")  # another maker's part of that number
    assert described(apple, {0}).name == "Arm"


@pytest.mark.parametrize("cpuinfo", ["", "\n\n\x00\n", "processor\t: x\n", "no colon\n\nprocessor"])
def test_nothing_is_said_where_nothing_is_known(monkeypatch, cpuinfo):
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert str(described(cpuinfo, {0, 1, 2})) == "riscv64, 3 cores"


def test_only_the_cores_that_may_be_used_count():
    """Two threads of one core, one thread of another, and all of them."""
    for allowed, cores in (({0, 1}, 1), ({1, 2}, 2), ({0, 1, 2, 3}, 2)):
        assert described(text(INTEL), allowed).cores == cores


def test_this_machine(monkeypatch, tmp_path):
    processor.this.cache_clear()
    found = processor.this()
    assert 1 <= found.cores <= len(processor.usable())
    assert re.fullmatch(r"[^,()]+( \([^()]+\))?(, [A-Z][\w -]+)?, \d+ cores?", str(found))
    processor.this.cache_clear()
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "none")
    assert processor.this().model == ""
    processor.this.cache_clear()
