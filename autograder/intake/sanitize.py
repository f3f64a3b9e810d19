"""Sanitize students' cell output and Markdown before anybody opens it.

nbgrader renders a judged notebook as it is, and formgrader does so on the origin of the
instructor's own Jupyter server, where a script could do whatever she can. So what is stored is
already harmless: outputs are text and bitmaps, and an answer in Markdown renders without script,
raw HTML, or anything that is fetched from elsewhere. What mistune's own safe mode renders alike
stays letter for letter; anything else is rendered and goes through bleach.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import lru_cache
from html import escape
from pathlib import Path
from tempfile import gettempdir

import bleach
from bleach.css_sanitizer import CSSSanitizer
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments.token import STANDARD_TYPES

from autograder.contract.said import visible

IMAGES, BASE64 = ("image/png", "image/jpeg"), re.compile(r"[A-Za-z0-9+/=\s]*")
MAX_MARKDOWN = 20_000  # characters; mistune takes seconds for some texts of ten times as many
LINK = re.compile(r"https?://|mailto:|#", re.IGNORECASE)  # nothing on the reader's own server
BLOCKS = "div p br hr h1 h2 h3 h4 h5 h6 pre dl dt dd details summary table thead tbody tr th td"
INLINE = "del kbd mark s small span sub sup u"
ALIGN = re.compile(r"text-align: ?(left|center|right);?")
TEXTS = ("text", "evalue", "traceback")  # of a stream, of an error
HIGHLIGHTED = {"highlight", *STANDARD_TYPES.values()}  # classes that nbconvert gives to code

TAGS = {*bleach.ALLOWED_TAGS, *BLOCKS.split(), *INLINE.split()}
CSS = CSSSanitizer(allowed_css_properties=["text-align"])


class Plain(IPythonRenderer):
    """nbconvert's Markdown renderer without links to the reader's server and without images."""

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """The link, or its text alone."""
        return super().link(text, url, title) if LINK.match(url) else text

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """A link: an image would be fetched at once and tell its host who reads this when."""
        return self.link(text or escape(url), url, title)

    def block_mermaidjs(self, code: str) -> str:
        """Source text; nbconvert would write it into the page as HTML."""
        return f"<pre>{escape(code)}</pre>"


def markdown(source: str) -> str:
    """Sanitize Markdown, changing only what nbconvert would render as something harmful.

    What has HTML in it is stored as the HTML it renders to, where bleach finds nothing to refuse;
    else as a block of code, so that a person still sees all that was written.
    """
    try:
        if len(source) > MAX_MARKDOWN:
            return _as_written(source)
        if _rendered(source) == _rendered(source, Plain(escape=True)):
            return source
        return _cleaned(source) or _as_written(source)
    except Exception:  # nbgrader would stumble over it, too: a missing attachment is enough
        return _as_written(source)


def _cleaned(source: str) -> str | None:
    """The answer as one HTML block, or None if not everything in it may be shown."""
    refused = []

    def allowed(tag: str, name: str, value: str) -> bool:
        if not _is_allowed(tag, name, value):
            refused.append(name)
        return not refused

    page = _rendered(source, Plain(escape=False, exclude_anchor_links=True))
    clean = {
        bleach.clean(page, TAGS, allowed, {"http", "https", "mailto"}, strip, css_sanitizer=CSS)
        for strip in (False, True)  # a tag that is not allowed: as text, not at all
    }
    block = f"<div>{clean.pop().strip()}</div>".replace("\n", "&#10;")  # a blank line ends a block
    return None if clean or refused or _rendered(block).strip() != block else block


def _is_allowed(tag: str, name: str, value: str) -> bool:
    if tag == "a":
        return name == "title" or (name == "href" and LINK.match(value) is not None)
    if name == "style":
        return tag in ("td", "th") and ALIGN.fullmatch(value) is not None
    return name == "class" and tag in ("div", "span") and value in HIGHLIGHTED


def _rendered(source: str, renderer: IPythonRenderer | None = None) -> str:
    """Render ``source`` as HTML, by default as nbgrader does."""
    return MarkdownWithMath(renderer=renderer or IPythonRenderer(escape=False)).render(source)


def _as_written(source: str) -> str:
    return f"*Shown as it was written:*\n\n{fenced(source)}"


def fenced(source: str) -> str:
    """Fence ``source`` as a block of code, which no renderer looks into."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", source)), default=0))
    return f"{fence}\n{source}\n{fence}"


def output(made: NotebookNode) -> NotebookNode:
    """Keep of a cell's output what cannot run in a browser."""
    if "data" in made:
        made.data = {
            kind: content
            for kind, content in made.data.items()
            if kind == "text/plain" or (kind in IMAGES and BASE64.fullmatch(str(content)))
        }
        made.metadata = {}
    return made


def without_paths(made: NotebookNode) -> NotebookNode:
    """Remove this machine's paths of Python and the course from an output."""
    return _rewritten(made, text)


def make_visible(made: NotebookNode) -> NotebookNode:
    """Write out the control characters in an output's texts, but for a terminal's colours."""
    return _rewritten(made, lambda said: visible(said, colours=True))


def _rewritten(made: NotebookNode, change: Callable[[str], str]) -> NotebookNode:
    for holder, names in ((made, TEXTS), (made.get("data", {}), ("text/plain",))):
        for name in names:
            if isinstance(said := holder.get(name), list):
                holder[name] = [change(part) for part in said]
            elif said is not None:
                holder[name] = change(said)
    return made


def text(said: str) -> str:
    """Remove the folders of this machine that tracebacks mention from ``said``."""
    for folder, name in _folders():
        said = said.replace(folder, name)
    return said


@lru_cache(maxsize=1)
def _folders() -> list[tuple[str, str]]:
    """The folders and what stands for them, inner ones first."""
    course = Path(__file__).resolve().parents[2]
    python = (Path(sys.prefix), Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve())
    names = {f"{Path.home()}/": "~/", str(course): "[course]"}
    names[f"{gettempdir()}/codesign-"] = "[judge]/"  # a kernel sees where its folders come from
    names |= {str(folder): "[python]" for folder in python if not folder.is_relative_to("/usr")}
    return sorted(names.items(), key=lambda pair: -len(pair[0]))
