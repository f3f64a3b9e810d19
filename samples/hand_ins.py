"""How a lab comes back from its reader: the ways in which editors and people change a notebook.

Each case takes the whole answer in the released notebook and does to it what Colab, VS Code, a
converter, or a reader in a hurry does. All of it is honest work; what each is worth in grading is
tried by the tests and, in the sandbox, by ``benchmarks/hand_ins.py``.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from autograder.contract.cells import grade_id, is_solution
from autograder.intake import release
from autograder.intake.course import Course
from samples import editors

Change = Callable[[NotebookNode], NotebookNode | None]
PLOTS_BYTES = 25 * 2**20
STUBS = "stubs"  # metadata of `solved`: what was handed out, by grade id
MARKS = ("### BEGIN SOLUTION", "### END SOLUTION")


@dataclass(frozen=True)
class HandIn:
    """One way in which a notebook comes back.

    Args:
        name: what was done to it.
        change: alters the notebook in place, or returns another one.
        encode: the file's bytes from its JSON.
        keeps: whether all of its points stay.
        told: a word of what the feedback says about it; empty: nothing.
    """

    name: str
    change: Change = lambda notebook: None
    encode: Callable[[str], bytes] = lambda text: text.encode()
    keeps: bool = True
    told: str = ""

    def write(self, notebook: NotebookNode, path: Path) -> None:
        """Write the changed ``notebook``, which stays as it is, to ``path``."""
        changed = self.changed(notebook)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.encode(json.dumps(changed, ensure_ascii=False)))

    def changed(self, notebook: NotebookNode) -> NotebookNode:
        """A changed copy of ``notebook``."""
        copied = copy.deepcopy(notebook)
        copied = self.change(copied) or copied
        copied.metadata.pop(STUBS, None)
        return copied


def solved(course: Course, lab: str) -> NotebookNode:
    """The release with every answer of the reference in it: what a student has on the screen."""
    notebook = release.base(course, lab)
    source = course.folder("source", ".", lab) / f"{lab}.ipynb"
    texts = {grade_id(cell): cell.source for cell in nbformat.read(source, as_version=4).cells}
    notebook.metadata[STUBS] = {}
    for cell in notebook.cells:
        if is_solution(cell):
            notebook.metadata[STUBS][grade_id(cell)] = cell.source
            lines = texts[grade_id(cell)].splitlines()
            cell.source = "\n".join(line for line in lines if line.strip() not in MARKS)
            cell.source += "" if cell.cell_type == "code" else "\n\nIn my own words."
    return notebook


def answer(notebook: NotebookNode) -> NotebookNode:
    """The first function that the lab asks for."""
    return next(
        cell for cell in notebook.cells if is_solution(cell) and cell.source.startswith("def ")
    )


def _place(notebook: NotebookNode) -> int:
    return notebook.cells.index(answer(notebook))


def _retyped(notebook: NotebookNode) -> None:
    answer(notebook).cell_type = "raw"


def _again(change: Callable[[str], str], *, first: bool = False) -> Change:
    """A second cell with the answer's id, with ``change``d text: before it, or at the end."""

    def copied(notebook: NotebookNode) -> None:
        cell = copy.deepcopy(answer(notebook))
        cell.source, cell.id = change(cell.source), "copied"
        notebook.cells.insert(_place(notebook) if first else len(notebook.cells), cell)

    return copied


def _split(notebook: NotebookNode) -> None:
    """Split in the middle, as JupyterLab does: both halves keep the metadata."""
    cell = answer(notebook)
    cell.source = f"import math\n\n{cell.source}"
    second = copy.deepcopy(cell)
    cell.source, second.source, second.id = "import math", cell.source[13:], "half"
    notebook.cells.insert(_place(notebook) + 1, second)


def _own(source: str, *, after: int = 0) -> Change:
    """A cell of one's own before the answer, or ``after`` cells below it."""
    return lambda notebook: notebook.cells.insert(_place(notebook) + after, new_code_cell(source))


def _with_helper(notebook: NotebookNode) -> None:
    """The answer's body in a helper, in a cell of one's own."""
    cell = answer(notebook)
    name = cell.source[4 : cell.source.index("(")]
    notebook.cells.insert(_place(notebook), new_code_cell(cell.source.replace(name, "helper", 1)))
    cell.source = f"def {name}(*args, **kwargs):\n    return helper(*args, **kwargs)"


def _with_import(given: bool) -> Change:
    """An import that the answer needs: in a given cell, or in one's own."""

    def imported(notebook: NotebookNode) -> None:
        cell = answer(notebook)
        head, _, body = cell.source.partition("\n")
        cell.source = f"{head}\n    assert mathematics.pi > 3\n{body}"
        line = "import math as mathematics"
        if given:
            first = next(c for c in notebook.cells if "\nimport matplotlib" in f"\n{c.source}")
            first.source = f"{line}\n{first.source}"
        else:
            notebook.cells.insert(_place(notebook), new_code_cell(line))

    return imported


def _plots(notebook: NotebookNode) -> None:
    code = next(cell for cell in notebook.cells if cell.cell_type == "code")
    code.outputs = [new_output("display_data", {"image/png": "A" * PLOTS_BYTES})]


def _prepended(text: str) -> Change:
    def prepended(notebook: NotebookNode) -> None:
        cell = answer(notebook)
        cell.source = f"{text}\n{cell.source}"

    return prepended


def _appended(text: str) -> Change:
    def appended(notebook: NotebookNode) -> None:
        cell = answer(notebook)
        cell.source = f"{cell.source}\n\n{text}"

    return appended


def _beside_its_stub(notebook: NotebookNode) -> None:
    """The answer in a cell of one's own, the given one left as it was."""
    cell = answer(notebook)
    notebook.cells.insert(_place(notebook) + 1, new_code_cell(cell.source))
    cell.source = notebook.metadata[STUBS][grade_id(cell)]


def _written(notebook: NotebookNode, below: bool) -> None:
    """A written answer in a cell of its own below the question, or split by it."""
    cell = next(c for c in notebook.cells if c.cell_type == "markdown" and is_solution(c))
    text = cell.source
    cell.source = notebook.metadata[STUBS][grade_id(cell)] if below else text[: -len(" words.")]
    notebook.cells.insert(notebook.cells.index(cell) + 1, new_markdown_cell("And in other words."))


def _merged(notebook: NotebookNode) -> None:
    """Two answers in one cell, as "merge cells" leaves them."""
    code = [c for c in notebook.cells if is_solution(c) and c.source.startswith("def ")]
    code[0].source += f"\n\n\n{code[1].source}"
    notebook.cells.remove(code[1])


def _in_check(notebook: NotebookNode) -> None:
    """The answer in the cell of its check, the given one left as it was."""
    cell = answer(notebook)
    check = next(c for c in notebook.cells[_place(notebook) :] if c.source.startswith("lab.check"))
    check.source = f"{cell.source}\n\n{check.source}"
    cell.source = notebook.metadata[STUBS][grade_id(cell)]


def _moved(notebook: NotebookNode) -> None:
    """A helper in a cell of one's own, and the last cell dragged to the top."""
    _with_helper(notebook)
    notebook.cells.insert(1, notebook.cells.pop())


def _switched_off(notebook: NotebookNode) -> None:
    """An older try kept below as a raw cell."""
    cell = copy.deepcopy(answer(notebook))
    cell.source, cell.id, cell.cell_type = cell.source + "\n# older", "older", "raw"
    notebook.cells.insert(_place(notebook) + 1, cell)


def _packaged(notebook: NotebookNode) -> None:
    """``lab.package()`` without the mark of a comment: what everybody does in the end."""
    cell = next(c for c in notebook.cells if c.source.startswith("# lab.package()"))
    cell.source = cell.source.removeprefix("# ")


DRIVE = "from google.colab import drive\ndrive.mount('/content/drive')"
CASES = (
    HandIn("as it is"),
    HandIn("Colab", editors.colab, told="cell id"),
    HandIn("VS Code", editors.vscode),
    HandIn("nbformat 4.2", editors.old),
    HandIn("nbgrader's metadata lost", editors.bare, told="cell id"),
    HandIn("metadata and ids lost", editors.other_ids, told="begins with"),
    *(
        HandIn(f"jupytext {fmt}", editors.through(fmt))
        for fmt in ("py:percent", "py:light", "md", "Rmd")
    ),
    HandIn("CRLF", editors.windows),
    HandIn("byte order mark", encode=lambda text: text.encode("utf-8-sig")),
    HandIn("UTF-16", encode=lambda text: text.encode("utf-16")),
    HandIn("cells moved", lambda notebook: notebook.cells.reverse()),
    HandIn("cell retyped", _retyped),
    HandIn("copied as a back-up", _again(str)),
    HandIn(
        "an earlier try kept above",
        _again(lambda t: t.replace("return", "return 0 *"), first=True),
        told="the last one counts",
    ),
    HandIn("an empty copy", _again(lambda text: "")),
    HandIn("split in JupyterLab", _split, told="joined in order"),
    HandIn("helper in a cell of one's own", _with_helper),
    HandIn("import in a cell of one's own", _with_import(given=False)),
    HandIn("import added to a given cell", _with_import(given=True), told="given cells run"),
    HandIn("own cell that raises", _own("1 / 0")),
    HandIn("own cell that prints 3 MB", _own("print('x' * 3_000_000)")),
    HandIn("own cell without end", _own("while True: pass")),
    HandIn(
        "own cell that trains anew", _own("lab.produce('new', lambda: 1 / 0, fresh=True)", after=1)
    ),
    HandIn("25 MiB of plots", _plots),
    HandIn("a line of 100,000 characters", _appended(f"TABLE = '{'y' * 100_000}'")),
    HandIn("a loop without end below the function", _appended("while True: pass")),
    HandIn("3 MB printed below the function", _appended("print('x' * 3_000_000)")),
    HandIn("#@title", _prepended("#@title My answer")),
    HandIn("magics", _prepended("%matplotlib inline\n%config InlineBackend.figure_format = 'svg'")),
    HandIn("%%time", _prepended("%%time")),
    HandIn("drive.mount in the answer", _prepended(DRIVE)),
    HandIn("answer beside its stub", _beside_its_stub, told="in a cell of your own"),
    HandIn("written answer below", lambda n: _written(n, below=True), told="continued"),
    HandIn("written answer split", lambda n: _written(n, below=False), told="continued"),
    HandIn("two answers merged", _merged, told="defined in another cell"),
    HandIn("answer in its check's cell", _in_check, told="in a cell of your own"),
    HandIn("a cell moved, a helper not", _moved),
    HandIn("an older try as a raw cell", _switched_off),
    HandIn("a scratch copy below", _again(lambda text: "help(max)"), told="joined in order"),
    HandIn("lab.package() run", _packaged),
    HandIn("an empty file", encode=lambda text: b"", keeps=False, told="an empty file"),
    HandIn("a web page", encode=lambda text: b"<!DOCTYPE html>", keeps=False, told="a web page"),
)
