"""The toy lab with a written answer that a person grades, and submissions that attack her browser.

``ada`` is honest. ``eve`` tries everything that a cell can print and display, and raw HTML in her
answer; ``bob`` tries what Markdown alone can do. Whatever script runs calls ``pwned``.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
from toy_lab import CHANNELS, CONFIG, DOUBLE, LAB, code, half_zero, hand_in, notebook

from autograder.contract import cells
from autograder.intake import release
from autograder.intake.course import Course
from codesign.models import VGG

EVIL_HOST = "http://evil.example"
ANSWER = """# net

Because $a<b$, `x<y` and 1 < 2:

| n | time |
|--:|-----:|
| 1 | 2 ms |

```python
if a < b: pass
```
"""
PRINTS = r"""
from IPython.display import HTML, IFrame, Javascript, Markdown, SVG, display
display(HTML('<script>pwned(1)</script><img src=x onerror=pwned(2)><a href="javascript:pwned(3)">'))
display(Javascript('pwned(4)'), IFrame('http://evil.example/', 9, 9))
display(SVG('<svg xmlns="http://www.w3.org/2000/svg" onload="pwned(5)"/>'))
display(Markdown('<script>pwned(6)</script>'))
display({'text/latex': '<script>pwned(7)</script>', 'text/plain': '<script>pwned(8)</script>'},
        raw=True)
display({'image/png': '"><script>pwned(9)</script>'}, raw=True)
print('\x1b[31m<script>pwned(10)</script>\x1b]8;;javascript:pwned(11)\x07link\x1b]8;;\x07')
import sys, torch
print(sys.path, sys.executable, open('/proc/self/mountinfo').read(), 'y' * 300_000)
def double(x):
    raise ValueError(r'<script>pwned(12)</script> $\href{javascript:pwned(13)}{x}$ ' + sys.prefix)
torch.nn.Linear(2, 3)(torch.ones(5))
"""
HTML = """Nice <script>pwned(20)</script><img src=http://evil.example/p.png onerror=pwned(21)>
<svg onload=pwned(22)></svg><iframe src="javascript:pwned(23)"></iframe>
<style>@import 'http://evil.example/s.css'; body { background: url(http://evil.example/b) }</style>
<b id="why" style="position:fixed">x</b>
"""
MARKDOWN = r"""See $a<b$ ![p](http://evil.example/q.png), [click](javascript:pwned(30)) and
[mine](page.html), [x](&#106;avascript&colon;pwned(31)) and <javascript:pwned(32)>

```mermaid
<img src=x onerror=pwned(33)>
```

# net

$\href{javascript:pwned(34)}{x}$
"""


def make(root: Path) -> Course:
    """The course, released, with the three submissions handed in; the lab is registered already."""
    source = root / "solutions" / LAB
    source.mkdir(parents=True)
    (root / "nbgrader_config.py").write_text(CONFIG)
    made = notebook(
        code("ready = True"),
        code(DOUBLE, "solution_double", solution=True),
        written("why", points=4),  # before the checks: its headings' ids would come first
        code("lab.check('double')", "double", points=2),
        code("lab.check('net')", "net", points=3),
    )
    nbformat.write(made, source / f"{LAB}.ipynb")
    release.release(root, LAB)
    course = Course.at(root)
    submit(course, "ada", "def double(x):\n    return 2 * x", ANSWER, half_zero())
    submit(course, "bob", "def double(x):\n    return None", MARKDOWN, VGG(CHANNELS))
    submit(course, "eve", PRINTS, HTML, VGG(CHANNELS))
    return course


def written(grade_id: str, points: float):
    """A Markdown cell that a student fills and a person grades."""
    cell = nbformat.v4.new_markdown_cell("*Your answer here.*", id=grade_id)
    graded = code("", grade_id, points=points, solution=True)
    cell.metadata = graded.metadata
    return cell


def submit(course: Course, student: str, source: str, answer: str, model: VGG) -> None:
    """Hand in the lab with these two answers, and a page of the student's own beside it."""
    folder = hand_in(course, student, source, model)
    path = folder / f"{LAB}.ipynb"
    made = nbformat.read(path, as_version=4)
    (why,) = (cell for cell in made.cells if cells.grade_id(cell) == "why")
    why.source = answer
    nbformat.write(made, path)
    (folder / "page.html").write_text("<script>pwned(40)</script>")
