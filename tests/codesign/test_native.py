"""C on this machine: what compiles computes, what does not says why and where."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from codesign import native

SOURCE = """
#include <stdint.h>
#include <string.h>

int dot(const int8_t *a, const int8_t *b, int n) {
    int sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}
void scale(float *x, int n, float by) { for (int i = 0; i < n; i++) x[i] *= by; }
void clear(char *x, int n) { memset(x, 0, n); }
static int hidden(void) { return 1; }
int wraps(int x) { return x + 1; }
"""


@pytest.fixture(scope="module")
def built():
    return native.build(SOURCE)


@pytest.mark.parametrize("size", [0, 1, 31, 1_000])
def test_integers_are_exact(built, size):
    a, b = torch.randint(-128, 128, (2, size), dtype=torch.int8)
    assert built.dot(a, b, size) == int(a.long() @ b.long())


def test_a_kernel_writes_into_its_tensor_and_array(built):
    x, y = torch.arange(5.0), np.arange(5, dtype=np.float32)
    built.scale(x, 5, 0.5)
    built.scale(y, 5, 0.5)
    assert x.tolist() == y.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    built.clear(x, 20)
    assert not x.any()


def test_overflow_wraps_without_a_trap(built):
    """The compiler's own checks are off: they would cost time that no compiler else takes."""
    assert built.wraps(2**31 - 1) == -(2**31)


def test_an_error_names_the_line():
    with pytest.raises(native.CompileError, match=r"kernel\.c:2:22: error: .*'missing'"):
        native.build("// a comment\nint f(void) { return missing; }")


def test_a_missing_function_is_named(built):
    with pytest.raises(AttributeError, match="'hidden'; the source defines no function"):
        built.hidden()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.zeros(4, 4).T, "strides"),
        (torch.zeros(4, requires_grad=True), "requires_grad=True"),
        (np.zeros((4, 4))[:, ::2], "not contiguous"),
        (2**31, "no C int"),
        ("text", "got a str"),
        (True, "got a bool"),
        (None, "got a NoneType"),
    ],
)
def test_what_c_cannot_take_is_refused(built, value, said):
    with pytest.raises(ValueError, match=f"argument 0 of dot: .*{said}"):
        built.dot(value, torch.zeros(4, dtype=torch.int8), 4)


def test_the_second_time_nothing_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(native, "_folder", lambda: tmp_path)
    source = "int one(void) { return 1; }"
    assert native.build(source).one() == 1
    kept = [path.name for path in tmp_path.glob("*")]
    monkeypatch.setattr(native, "zig", lambda *_, **__: pytest.fail("it compiled again"))
    assert native.build(source).one() == 1
    assert [name for name in kept if name.endswith(".so")] == [
        f"{native._key(source, native.NATIVE)}.so"
    ]


def test_another_processor_or_source_is_another_library(monkeypatch):
    keys = {native._key("int a;", "native"), native._key("int b;", "native")}
    keys.add(native._key("int a;", "x86_64_v3"))
    monkeypatch.setattr(native, "_processor", lambda: "another")
    keys.add(native._key("int a;", "native"))
    assert len(keys) == 4


@pytest.mark.skipif(os.name != "posix", reason="folders without write permission")
def test_a_cache_that_cannot_be_written_does_not_matter(tmp_path):
    place = tmp_path / "file"
    place.write_text("no folder")
    program = "from codesign import native; print(native.build('int f(void){return 7;}').f())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "CODESIGN_CACHE": str(place)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "7\n", done.stderr
