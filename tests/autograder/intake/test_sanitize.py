"""Students' Markdown and outputs: what honest ones write stays, nothing of the others' runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import bs4
import nbformat
import pytest
from nbconvert.exporters import HTMLExporter
from written_lab import ANSWER, HTML, MARKDOWN

from autograder.intake import sanitize

HONEST = {
    "stub": "*Your answer here.*",
    "empty": "",
    "inline math": "The knee is at $a<b$, \\\\(c > d\\\\) and $x_{i<n} & y$.",
    "display math": "$$\n\\sum_{i<n} x_i > 0 \\\\[2pt]\n$$\n\n\\begin{align}a &< b\\end{align}",
    "comparisons": "a < b, 3 > 2, x<5 && y>7, 1<<3, \"quoted\" & 'single', it's",
    "code": "```python\nif a < b and c > d:\n    print('<b>')\n```\n\n    <code>\n\n`<script>`",
    "table": "|a|b|\n|:-|-:|\n|1 < 2|**x**|\n",
    "lists": "1. one\n   - two\n\n> quote\n\n# Heading & more\n\n---\n*em* ~~no~~\n\n- [x] done",
    "links": "[docs](https://pytorch.org/docs?a=1&b=2 't'), <https://x.org>, <me@x.org>, [up](#a)",
    "letters": "≥ × µs — 日本",
    "everything": ANSWER,
}
HOSTILE = {
    "script": "<script>pwned()</script>",
    "handler": "<img src=x onerror=pwned()>",
    "svg": "a <svg onload=pwned()></svg>",
    "frame": "<iframe src='javascript:pwned()'></iframe>",
    "style": "<style>@import '//evil.example/s.css'</style>",
    "form": "<form action=//evil.example><input name=a></form>",
    "refresh": "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "overlay": "<b id=why class=score style='position:fixed'>x</b>",
    "link": "[x](javascript:pwned())",
    "link in disguise": "[x](JaVa&#115;cript&colon;pwned()) [x](<java\tscript:pwned()>)",
    "autolink": "<javascript:pwned()>",
    "reference": "[x]\n\n[x]: javascript:pwned()",
    "link in HTML": "<a href='&#1;javascript:pwned()'>x</a>",
    "data": "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "own page": "[x](page.html) [y](/api/shutdown) [z](//evil.example)",
    "image": "![p](https://evil.example/p.png) ![p](p.svg)",
    "mermaid": "```mermaid\n<img src=x onerror=pwned()>\n```",
    "math": "$<img src=x onerror=pwned()>$ $$<script>pwned()</script>$$",
    "environment": "\\begin{x}<script>pwned()</script>\\end{x}",
    "mutation": "<math><mtext><table><mglyph><style><img src=x onerror=pwned()>",
    "attribute": '<noscript><p title="</noscript><img src=x onerror=pwned()>">',
    "broken tag": "<div\n\n<script>pwned()</script>",
    "block and math": "<pre>\n$$ </pre></div><script>pwned()</script> $$</pre>",
    "fences": "```` ``` <b>\n```\n<script>pwned()</script>",
    "long": "x" * sanitize.MAX_MARKDOWN
    + "<script>pwned()</script>\n\n```\n\n<script>pwned()</script>",
    "deep": "<div>" * 3_000 + "> " * 2_000,
    "HTML": HTML,
    "Markdown": MARKDOWN,
}
TAGS = (
    "p|a|div|em|strong|code|pre|span|br|del|sub|sup|b|hr|h1|blockquote|ul|ol|li|details|summary|"
    "table|thead|tbody|tr|th|td"
)
ALLOWED = {"a": {"href", "title"}, "td": {"style"}, "th": {"style"}, "span": {"class"}}
ALLOWED |= {"div": {"class"}, "h1": {"id"}}


def page(source: str) -> bs4.BeautifulSoup:
    """One Markdown cell as nbgrader's feedback shows it."""
    cell = nbformat.v4.new_markdown_cell(source)
    made, _ = HTMLExporter(template_name="basic").from_notebook_node(
        nbformat.v4.new_notebook(cells=[cell])
    )
    return bs4.BeautifulSoup(made, "html.parser").select_one(".text_cell_render")


@pytest.mark.parametrize("source", HONEST.values(), ids=HONEST)
def test_what_is_harmless_stays_letter_for_letter(source):
    assert sanitize.markdown(source) == source


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
def test_nothing_live_is_left(source):
    shown = page(sanitize.markdown(source))
    for tag in shown.find_all(True):
        assert re.fullmatch(TAGS, tag.name), tag
        assert set(tag.attrs) <= ALLOWED.get(tag.name, set()), tag
        assert tag.get("href", "#").startswith(("#", "http://", "https://", "mailto:")), tag
        assert "position" not in tag.get("style", "")


def test_harmless_html_is_shown_as_meant():
    shown = page(
        sanitize.markdown("H<sub>2</sub>O<br>$a<b$\n\n|a|\n|-:|\n|1<br>2|\n\n```\nx\n\ny\n```")
    )
    assert (shown.sub.text, len(shown.find_all("br"))) == ("2", 2)
    assert "$a<b$" in shown.text
    assert shown.td["style"].startswith("text-align:right")
    assert shown.pre.text == "x\n\ny\n"


@pytest.mark.parametrize("source", ["a<b and c>d", "![plot](attachment:plot.png)", HTML])
def test_what_cannot_be_shown_is_shown_as_it_was_written(source):
    shown = page(sanitize.markdown(source))
    assert shown.pre.text.rstrip("\n") == source.rstrip("\n")


def test_an_image_becomes_a_link():
    shown = page(sanitize.markdown("![the knee](https://x.org/a.png) ![other](b.png)"))
    assert (shown.a["href"], shown.a.text) == ("https://x.org/a.png", "the knee")
    assert shown.find("img") is None
    assert "other" in shown.text


@pytest.fixture
def elsewhere(monkeypatch):
    """A Python that is not the system's."""
    sanitize._folders.cache_clear()
    monkeypatch.setattr(sys, "prefix", "/opt/grading")
    yield
    sanitize._folders.cache_clear()


@pytest.mark.usefixtures("elsewhere")
def test_outputs_say_nothing_of_this_machine():
    inside = f"{sys.prefix}/lib/torch.py {Path(sanitize.__file__).parents[1]} {Path.home()}/x"
    error = nbformat.v4.new_output("error", ename="E", evalue=inside, traceback=[inside, "in f"])
    told = sanitize.without_paths(error)
    for text in (told.evalue, told.traceback[0]):
        assert text == "[python]/lib/torch.py [course]/autograder ~/x"
    shown = nbformat.v4.new_output("display_data", data={"text/plain": inside})
    assert sys.prefix not in sanitize.without_paths(shown).data["text/plain"]
