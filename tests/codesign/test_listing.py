"""What a notebook shows of the library is what stands there, numbered as there."""

from pathlib import Path

import pytest

import codesign
from codesign import cost, listing
from codesign.listing import show

LIBRARY = Path(codesign.__file__).parent


def test_a_function_is_shown_as_it_stands_with_its_line_numbers():
    shown = show(cost.nm_bytes)
    source = (LIBRARY / "cost.py").read_text().splitlines()
    lines = shown.text.splitlines()
    assert shown.name == "codesign/cost.py"
    assert source[shown.first - 1 : shown.first - 1 + len(lines)] == lines
    assert lines[0].startswith("def nm_bytes(")
    assert f"{shown.first:4}  def nm_bytes(" in str(shown)


def test_a_file_is_shown_in_part():
    whole = show("kernels/fp32_gemm.c")
    source = (LIBRARY / "kernels" / "fp32_gemm.c").read_text()
    assert (whole.first, whole.text) == (1, source.rstrip())
    words = source.splitlines()
    begin, end = next(i for i, line in enumerate(words) if "(" in line), len(words) - 1
    part = show("kernels/fp32_gemm.c", start=words[begin], stop=words[end])
    assert part.first == begin + 1
    assert part.text.splitlines()[0].strip() == words[begin].strip()


def test_a_method_is_moved_to_the_margin():
    assert show(listing.Listing.__str__).text.startswith("def __str__(self)")


def test_a_module_and_a_class():
    assert show(listing).first == 1
    assert show(listing.Listing).text.startswith("@dataclass(frozen=True)\nclass Listing")


def test_html_is_highlighted_and_the_lines_are_counted():
    shown = show("kernels/fp32_gemm.c")
    bundle = shown._repr_mimebundle_()
    filled = [line for line in shown.text.splitlines() if line.strip()]
    assert bundle[listing.MIME]["lines"] == len(filled)
    assert bundle["text/html"].count("<span") > len(filled)
    assert bundle["text/plain"] == str(shown)


@pytest.mark.parametrize(
    ("what", "start", "match"),
    [
        ("kernels/none.c", None, "allowed: a .py, .c, .h file of the library"),
        ("kernels", None, "allowed: a .py, .c, .h file"),
        (len, None, "allowed: what has source code"),
        (cost.nm_bytes, "no such line", "a line of codesign/cost.py from 1 on contains"),
    ],
)
def test_what_has_no_source_is_refused(what, start, match):
    with pytest.raises(ValueError, match=match):
        show(what, start)
