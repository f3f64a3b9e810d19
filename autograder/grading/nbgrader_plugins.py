"""nbgrader plug-ins: exporter and preprocessors that call the judge.

``wire(c)`` in ``nbgrader_config.py`` replaces how nbgrader reads a submission and what it runs:
the submitted notebook becomes the released one with the student's answers, and graded cells are
answered by the judge instead of the student's kernel. nbgrader's own SaveAutoGrades, gradebook,
feedback and export go on unchanged.
"""

from __future__ import annotations

import copy
import os
import re
from pathlib import Path
from typing import Any

from nbconvert.exporters import NotebookExporter
from nbformat.v4 import new_markdown_cell
from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    LimitOutput,
    NbGraderPreprocessor,
    SaveAutoGrades,
)
from nbgrader.utils import determine_grade

from autograder.contract import cells
from autograder.contract.environment import DATABASE
from autograder.contract.said import visible
from autograder.grading import verdict_cells
from autograder.intake import folders, release, sanitize
from autograder.intake.course import Course, secret_seed
from autograder.intake.transplant import transplant
from autograder.sandbox.isolation import isolation

TABLES = """<style>
.rendered_html table { border-collapse: collapse; margin: 0.5em 0; }
.rendered_html :is(th, td) { padding: 2px 10px; border-bottom: 1px solid #ddd; }
</style>"""


MAX_LINE = 2_000  # the colors of some lines of 200,000 characters take ten minutes
MAX_SHOWN = 100_000  # characters of one cell


class IntakeExporter(NotebookExporter):
    """Reads a submission through intake: what cannot be read becomes the released notebook."""

    def from_filename(self, filename: str, resources: Any = None, **kw: Any) -> Any:
        """Convert the released notebook with the answers of ``filename`` put in."""
        converter: Any = self.parent
        if not converter._sanitizing:  # nbgrader's second pass, over what the first one wrote
            return super().from_filename(filename, resources=resources, **kw)
        coursedir = converter.coursedir
        course = Course(Path(coursedir.root), converter.config, coursedir)
        base = release.base(course, resources["nbgrader"]["assignment"])
        taken = transplant(base, Path(filename))
        return self.from_notebook_node(taken.notebook, resources=resources, **kw)


class Judge(NbGraderPreprocessor):
    """Executes the notebook and answers its graded cells, in place of nbgrader's ``Execute``."""

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """Fill every code cell's outputs; of graded cells, with the judge's verdict."""
        from autograder.grading import judge  # with PyTorch, which most commands do without

        info = resources["nbgrader"]
        coursedir, lab = self.parent.parent.coursedir, info["assignment"]
        submission = coursedir.format_path(coursedir.submitted_directory, info["student"], lab)
        judge.judge(
            nb,
            lab,
            Path(submission) / "outputs",
            seed=secret_seed(Path(coursedir.root)),
            isolated=isolation(),
            problems=cells.told(nb)["notes"],
        )
        _remove_files(coursedir, lab, info["student"])
        return nb, resources


def _remove_files(coursedir: Any, lab: str, student: str) -> None:
    """Remove the student's other files from ``autograded/``, where nbgrader copied them.

    formgrader serves that folder on the origin of the instructor's own server, so that a page in it
    could do whatever she can. What nbgrader replaced by the course's own file stays.
    """
    folder = Path(coursedir.format_path(coursedir.autograded_directory, student, lab))
    source = Path(coursedir.format_path(coursedir.source_directory, ".", lab))
    kept = {f"{lab}.ipynb", "timestamp.txt"}
    for path in folders.files(folder):
        inside = path.relative_to(folder)
        if path.is_file() and str(inside) not in kept and not (source / inside).is_file():
            path.unlink()


class Finite(NbGraderPreprocessor):
    """Refuses a notebook whose graded cells nbgrader would not read as the judge's number.

    nbgrader takes whatever it does not understand for full marks; this never lets it come to that.
    """

    def preprocess_cell(self, cell: Any, resources: Any, index: int) -> tuple[Any, Any]:
        """Raise ValueError unless the points are a number within the cell's range."""
        if cells.is_judged(cell):
            points, maximum = determine_grade(cell, self.log)
            written = [o for o in cell.outputs if o.output_type == "execute_result"]
            if len(written) != 1 or points is None or not 0 <= points <= maximum:
                raise ValueError(f"cell {cells.grade_id(cell)!r}: no verdict of the judge")
        return cell, resources


class Page(NbGraderPreprocessor):
    """What formgrader and feedback show: rules of tables, and no line that takes minutes to color.

    Their style sheets have no rules of tables; the page's own styles are replaced after this.
    """

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """Append the rules as a cell, and fold long code; what is graded stays as it is."""
        nb = copy.deepcopy(nb)
        for cell in nb.cells:
            cell.source = visible(cell.source)
            for output in cell.get("outputs", ()):
                sanitize.make_visible(output)
            if cell.cell_type == "code":
                cell.source = _folded(cell.source)
        nb.cells.append(new_markdown_cell(TABLES))
        return nb, resources


def _folded(source: str) -> str:
    """Code in lines of bounded length, and of it no more than a page can hold."""
    shown = source[:MAX_SHOWN]
    if len(source) > MAX_SHOWN:
        shown += f"\n# ... {len(source) - MAX_SHOWN:,} more characters are not shown"
    if max(map(len, shown.split("\n"))) <= MAX_LINE:
        return shown
    pieces = [re.findall(f".{{1,{MAX_LINE}}}", line) or [""] for line in shown.split("\n")]
    return "\n".join("\n".join(line) for line in pieces)


class SaveScores(SaveAutoGrades):
    """Records scores as nbgrader does, and flags for a person what noise or intake left undecided.

    nbgrader itself asks for a person only where there is no automatic score: an answer that could
    not be found looks like the untouched one, and would be 0 before anybody had seen it.
    """

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """Record all cells."""
        self.waiting = set(cells.told(nb)["waiting"])
        return super().preprocess(nb, resources)

    def preprocess_cell(self, cell: Any, resources: Any, index: int) -> tuple[Any, Any]:
        """Record one cell; an undecided one keeps its points and needs a manual grade."""
        cell, resources = super().preprocess_cell(cell, resources, index)
        verdict = verdict_cells.verdict_in(cell)
        if (verdict and verdict["inconclusive"]) or cells.grade_id(cell) in self.waiting:
            where = self.notebook_id, self.assignment_id, self.student_id
            grade = self.gradebook.find_grade(cells.grade_id(cell), *where)
            grade.needs_manual_grade = True
            self.gradebook.db.commit()
        return cell, resources


def wire(c: Any) -> None:
    """Configure nbgrader (``c`` of ``nbgrader_config.py``) to grade with the judge.

    ``CODESIGN_DB`` (or ``--db``) names another gradebook than the course's ``gradebook.db``.
    """
    if url := os.environ.get(DATABASE):
        c.CourseDirectory.db_url = url
    c.Autograde.exporter_class = IntakeExporter
    c.Autograde.sanitize_preprocessors = [CheckCellMetadata]
    c.Autograde.autograde_preprocessors = [
        Judge,
        LimitOutput,
        Finite,
        SaveScores,
        AssignLatePenalties,
        CheckCellMetadata,
    ]
    # A heading's id is its text, and formgrader finds a cell's score field by the cell's id.
    c.HTMLExporter.exclude_anchor_links = True
    c.HTMLExporter.preprocessors = [Page]
