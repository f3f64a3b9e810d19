"""The notebook builder: percent sources in, executed notebooks and released labs out.

A source (``lectures/**/*.py``, ``solutions/lab*/lab*.py``) is what people edit; the ``.ipynb``
beside it is built. A build depends on the source alone: cell ids come from content, timings and
widget states are dropped, and a hash of the code stands in the metadata, so that :func:`check` can
tell fresh outputs from stale ones without running anything.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from tqdm.auto import tqdm

from authoring import address, points
from autograder.intake.release import generate
from codesign import datasets

LIMIT_BYTES = 1_000_000  # GitHub stops showing larger notebooks
WIDGET = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "name": "python", "pygments_lexer": "ipython3"},
}


def sources(root: Path) -> list[Path]:
    """Every notebook source of the course: lectures with their further parts, then labs."""
    lectures = [*(root / "lectures").glob("*.py"), *(root / "lectures" / "further").glob("*.py")]
    lectures.sort(key=lambda path: (path.name[:2], path.parent.name == "further", path.name))
    labs = sorted((root / "solutions").glob("lab*/lab*.py"))
    return lectures + [path for path in labs if path.stem == path.parent.name]


def labs(root: Path) -> list[str]:
    """Names of the labs that have a source."""
    return [path.stem for path in sources(root) if path.parent.parent.name == "solutions"]


def build(source: Path, *, execute: bool = True) -> Path:
    """Fill badge, setup cell and points, build the notebook beside ``source``, return its path.

    Args:
        source: the percent source.
        execute: run every cell, in the notebook's folder and with static figures. Otherwise keep
            the outputs of cells that did not change, which is right when only prose changed;
            :func:`check` reports the notebook as stale when code changed too.

    Raises:
        ValueError: a cell raised, or the result is nothing to publish; nothing was written.
    """
    source = Path(source).resolve()
    text = source.read_text(encoding="utf-8")
    if (new := points.filled(address.filled(text, source), source)) != text:
        _write(source, new)
    notebook, target = assemble(source), source.with_suffix(".ipynb")
    if execute:
        _run(notebook, source)
    elif target.exists():
        _carry_outputs(nbformat.read(target, as_version=4), notebook)
    content = nbformat.writes(notebook) + "\n"
    problems = output_problems(notebook, len(content.encode()))
    if execute and problems:
        raise ValueError(f"{target} was not written: " + "; ".join(problems))
    _write(target, content)
    return target


def check(source: Path) -> list[str]:
    """What is wrong with the notebook beside ``source``; an empty list when nothing is."""
    source = Path(source).resolve()
    target = source.with_suffix(".ipynb")
    try:
        text = source.read_text(encoding="utf-8")
        stamped = address.filled(text, source) == text
        pointed = points.filled(text, source) == text
    except ValueError as error:
        return [str(error)]
    if not target.exists():
        return [f"{target.name} is missing; `course build {source.name}` makes it"]
    try:
        wanted, found = assemble(source), nbformat.read(target, as_version=4)
    except ValueError as error:
        return [f"{target.name} is no notebook: {error}"]
    problems = [] if stamped else ["badge or setup cell is not what `course stamp` writes"]
    problems += [] if pointed else ["points are not those of the lab's targets.toml"]
    problems += _step_problems(wanted, found)
    if found.metadata.get("codesign", {}).get("code_sha256") != code_sha256(wanted):
        problems.append("outputs are stale: the code changed since they were made")
    return problems + output_problems(found, target.stat().st_size)


def assemble(source: Path) -> NotebookNode:
    """The notebook of a source, without outputs.

    A cell's id is its grade_id, else a hash of its content: building again gives the same bytes,
    and a cell that moves keeps its id.
    """
    parsed = jupytext.read(source, fmt="py:percent")
    notebook = nbformat.reads(jupytext.writes(parsed, fmt="ipynb"), as_version=4)
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat_minor = 5
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\0{cell.source}".encode()).hexdigest()[:8]
        for key in [key for key in cell.metadata if key.startswith("lines_to_")]:
            del cell.metadata[key]  # jupytext's notes on blank lines
        name = cell.metadata.get("nbgrader", {}).get("grade_id", digest)
        seen[name] += 1
        cell.id = name if seen[name] == 1 else f"{name}-{seen[name]}"
    return notebook


def code_sha256(notebook: NotebookNode) -> str:
    """Hash of the code cells, without the setup cell: a new address makes no output stale."""
    code = [cell.source for cell in _code(notebook) if "setup" not in cell.metadata.get("tags", [])]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def output_problems(notebook: NotebookNode, size: int) -> list[str]:
    """What keeps the outputs of ``notebook`` (``size`` bytes as a file) from being published."""
    problems = []
    if size >= LIMIT_BYTES:
        problems.append(f"got {size:,} bytes; allowed: fewer than {LIMIT_BYTES:,}")
    if "widgets" in notebook.metadata:
        problems.append("metadata.widgets is there, which GitHub refuses to show")
    counts = [cell.execution_count for cell in _code(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        shown = counts if any(counts) else "none"
        problems.append(f"got execution counts {shown}; allowed: 1..{len(counts)}")
    for number, cell in enumerate(_code(notebook), 1):
        for output in cell.outputs:
            if (problem := _output_problem(output)) is not None:
                problems.append(f"code cell {number}: {problem}")
    return problems


def stamp(root: Path, repo: str | None = None) -> list[Path]:
    """Write the repository's address and the version's tag everywhere; return the notebooks.

    Outputs are kept. Labs that were released are released again.

    Args:
        root: the checkout.
        repo: ``owner/name``; None keeps the address and writes the current tag.
    """
    address.write(root, repo)
    built = [build(source, execute=False) for source in sources(root)]
    for lab in labs(root):
        if (root / "labs" / lab).exists():
            generate(root, lab)
    return built


def _run(notebook: NotebookNode, source: Path) -> None:
    """Execute ``notebook`` in place, then drop what is not for publication."""
    with tqdm(total=len(_code(notebook)), desc=source.stem, unit=" cells") as bar:
        client = NotebookClient(
            notebook,
            timeout=None,
            kernel_name="python3",
            resources={"metadata": {"path": str(source.parent)}},
            record_timing=False,
            coalesce_streams=True,
            on_cell_executed=lambda **_: bar.update(),
        )
        try:
            client.execute(env={**os.environ, "CODESIGN_STATIC": "1"})
        except CellExecutionError as error:
            raise ValueError(f"{source}: a cell raised\n{error}") from None
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.metadata["codesign"] = nbformat.from_dict(
        {"code_sha256": code_sha256(notebook), "dataset": datasets.choose()[0]}
    )
    for cell in _code(notebook):
        cell.outputs = [kept for output in cell.outputs if (kept := _published(output))]


def _published(output: NotebookNode) -> NotebookNode | None:
    """The output without live widgets and progress bars; None when nothing is left of it."""
    if WIDGET in output.get("data", {}):
        return None
    if output.output_type == "stream" and output.name == "stderr":
        lines = re.split(r"[\r\n]+", output.text)
        output.text = "\n".join(line for line in lines if line.strip() and "%|" not in line)
        return output if output.text else None
    return output


def _output_problem(output: NotebookNode) -> str | None:
    if output.output_type == "error":
        return f"raised {output.ename}: {output.evalue}"
    if output.output_type == "stream" and output.name == "stderr":
        return f"wrote to stderr: {output.text.strip()[:200]!r}"
    if WIDGET in output.get("data", {}):
        return "shows a live widget, which no reader of the file can see"
    shown = [output.get("text", ""), *output.get("data", {}).values()]
    if any(isinstance(text, str) and f"{Path.home()}/" in text for text in shown):
        return f"shows a path of this machine, below {Path.home()}"
    return None


def _carry_outputs(old: NotebookNode, new: NotebookNode) -> None:
    """Give cells of ``new`` the outputs of the same cells of ``old``, and the old hash."""
    if "codesign" in old.metadata:
        new.metadata["codesign"] = old.metadata["codesign"]
    cells = {_key(cell): cell for cell in _code(old)}
    for cell in _code(new):
        if (same := cells.get(_key(cell))) is not None:
            cell.outputs, cell.execution_count = same.outputs, same.execution_count


def _key(cell: NotebookNode) -> tuple[str, str]:
    """What recognises a code cell: its id and source; the setup cell, which is stamped, its tag."""
    return ("setup", "") if "setup" in cell.metadata.get("tags", []) else (cell.id, cell.source)


def _step_problems(wanted: NotebookNode, found: NotebookNode) -> list[str]:
    """The first cell in which the notebook differs from its source."""
    if len(wanted.cells) != len(found.cells):
        return [f"out of step: {len(found.cells)} cells, the source has {len(wanted.cells)}"]
    for number, (a, b) in enumerate(zip(wanted.cells, found.cells, strict=True), 1):
        same = (a.cell_type, a.source, a.metadata) == (b.cell_type, b.source, b.metadata)
        if not same or a.id != b.get("id"):
            return [f"out of step from cell {number} on: {a.source.strip()[:60]!r}"]
    return []


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def _write(path: Path, text: str) -> None:
    """Replace ``path`` in one step, so that a reader never meets half a file."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
