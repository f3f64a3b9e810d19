"""Class report: every student's points and measured figures, as text and as a web page.

The page opens with the class (how each figure and each check's points are spread) and ends with a
table for every student. It is one file without script or link to elsewhere, to be mailed or kept.
For machines: :mod:`autograder.reports.export`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from autograder.contract import show
from autograder.contract.rows import Row
from autograder.grading.records import Graded
from autograder.reports import distribution, export, page, roster
from autograder.reports.distribution import Distribution
from autograder.reports.page import paragraph, plain
from autograder.reports.roster import Entry

HEADINGS = ("student", "check", "figure", "measured", "target", "points", "")
TOTALS = ("student", "judged points", "")
CLASS = ("student", "judged", "by a person", "total", "to grade", "problems")
MEASURED = (
    *("figure", "data set", "measured", "at target", "inconclusive", "not measured"),
    *("lowest", "median", "highest", "target", "reference"),
)
SUFFIXES = (".html", ".csv", ".json")
DETAIL_UP_TO = 10  # students; above, a shell shows totals, and a page closes their tables
LEGEND = (
    "One dot is one submission (bars in a large class); hollow: inconclusive, the measurement's "
    "noise leaves open whether the target is met. Dashed: target, with the side that earns full "
    "points shaded. Green line: the course's reference. Values far outside stand at the edge."
)


def rows(graded: Iterable[Graded]) -> list[tuple[str, ...]]:
    """One line for every measured row of every student."""
    return [
        (plain(graded_one.student, 40), verdict["check"], *_row(row))
        for graded_one in graded
        for verdict in graded_one.verdicts
        for row in verdict["rows"]
    ]


def summary(graded: Iterable[Graded]) -> list[tuple[str, str, str]]:
    """One line for every student: points of the judged cells, and what intake found."""
    return [
        (plain(one.student, 40), f"{one.points:g} / {_maximum(one):g}", _problems(one.problems))
        for one in graded
    ]


def text(graded: Sequence[Graded], title: str) -> str:
    """The report in plain text; of a large class the totals alone."""
    total = show.text_table(TOTALS, summary(graded), f"{title}: totals")
    if len(graded) > DETAIL_UP_TO:
        return total
    return f"{show.text_table(HEADINGS, rows(graded), title)}\n\n{total}"


def html(entries: Sequence[Entry], title: str) -> str:
    """The whole report as one self-contained page; everything of a student's is escaped."""
    return page.page(
        title,
        *_overview(entries),
        *_figures(distribution.figures(entries)),
        *_points(distribution.points(entries)),
        *_class(entries),
        *_students(entries),
    )


def write(entries: Sequence[Entry], title: str, path: Path) -> Path:
    """Write the report to ``path``; its suffix says whether as page, CSV or JSON."""
    if path.suffix == ".csv":
        return page.write(path, export.to_csv(entries))
    if path.suffix == ".json":
        return page.write(path, export.to_json(title, entries))
    return page.write(path, html(entries, title))


def _overview(entries: Sequence[Entry]) -> list[str]:
    counts = export.counts(entries)
    where = [
        f"{count} on {name}" if name else f"{count} on none: never judged"
        for name, count in distribution.datasets(entries).items()
    ]
    return [
        paragraph(
            f"{_count(counts['students'], 'student')}: {counts['handed_in']} handed in, "
            f"{counts['graded']} graded{' (' + ', '.join(where) + ')' if where else ''}. "
            "Every figure was measured by the judge, on what was handed in and with hidden inputs."
        ),
        paragraph(
            f"{counts['inconclusive_rows']} of {_count(counts['rows'], 'row')} inconclusive; "
            f"{_count(counts['cells_to_grade'], 'cell')} to be graded by a person "
            "(autograder queue lists them)."
        ),
    ]


def _figures(figures: Sequence[Distribution]) -> list[str]:
    if not figures:
        return [page.heading("Measured figures"), paragraph("Nothing was measured yet.")]

    from autograder.reports import plots  # matplotlib takes its time; plain text does without

    shown = "; ".join(f"{one.check} {one.name} on {one.dataset}" for one in figures)
    lines = [
        (
            f"{one.check}: {one.name}",
            one.dataset,
            str(len(one.all)),
            "–" if one.at_target is None else str(one.at_target),
            str(len(one.inconclusive)),
            str(one.unmeasured),
            *(show.number(value, one.unit) for value in _numbers(one)),
        )
        for one in figures
    ]
    return [
        page.heading("Measured figures"),
        page.picture(plots.figures(figures), f"Distributions over the class: {shown}"),
        paragraph(LEGEND),
        page.table(MEASURED, lines, "  nnnnnnnnn"),
    ]


def _numbers(one: Distribution) -> tuple[float | None, ...]:
    extent = (min(one.all), one.median, max(one.all)) if one.all else (None, None, None)
    return (*extent, one.target, one.reference)


def _points(checks: Sequence[distribution.Points]) -> list[str]:
    if not checks:
        return []
    from autograder.reports import plots

    names = ", ".join(check.check for check in checks)
    picture = page.picture(plots.points(checks), f"Points over the class, by check: {names}")
    return [page.heading("Points of each check"), picture]


def _class(entries: Sequence[Entry]) -> list[str]:
    lines = [
        (
            plain(one.student, 40),
            _score(one.judged, one.max_judged),
            _score(one.by_person, one.max_by_person),
            _score(one.total, one.max_points),
            str(len(one.to_grade)) if one.state == roster.GRADED else "–",
            _problems((*one.problems, *_adjusted(one))),
        )
        for one in entries
    ]
    table = page.table(CLASS, lines, " nnnn") if lines else paragraph("Nobody is in the class yet.")
    return [page.heading("Students"), table]


def _adjusted(one: Entry) -> list[str]:
    changed = f"{one.changed:+g} points by a person in judged cells" if one.changed else ""
    late = f"{one.penalty:g} points off for being late" if one.penalty else ""
    return [note for note in (changed, late) if note]


def _students(entries: Sequence[Entry]) -> list[str]:
    graded = [one for one in entries if one.state == roster.GRADED]
    opened = len(graded) <= DETAIL_UP_TO
    heading = [page.heading("Each student")] if graded else []
    return heading + [_student(one, opened) for one in graded]


def _student(one: Entry, opened: bool) -> str:
    title = f"{plain(one.student, 40)}: {_score(one.judged, one.max_judged)} judged points"
    notes = "".join(paragraph(plain(problem)) for problem in one.problems)
    table = page.table(HEADINGS[1:], [row[1:] for row in rows([one.graded])], "  nnn")
    return page.foldout(title, notes + table, opened=opened)


def _row(row: dict) -> tuple[str, ...]:
    name, measured, target, _, points, message = show.cells(Row(**row))
    return name, plain(measured, 40), plain(target, 40), points, plain(message)


def _score(points: float | None, maximum: float) -> str:
    return f"{'–' if points is None else f'{points:g}'} / {maximum:g}"


def _problems(problems: Sequence[str]) -> str:
    return plain("; ".join(problems))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _maximum(one: Graded) -> float:
    return sum(verdict["max_points"] for verdict in one.verdicts)
