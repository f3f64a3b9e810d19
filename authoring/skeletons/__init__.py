"""Write the skeleton of a lecture or a lab: what ``course new`` makes, ready to build and check.

The skeletons are small real notebooks in the house's order, so that an author replaces parts of
something that works. In the files beside this module ``{{name}}`` and the like stand for what is
filled in; no file that exists is ever overwritten.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from authoring import address, points

HERE = Path(__file__).parent
PARTS = ("__init__.py", "targets.toml", "signatures.py", "checks.py", "mutants.py", "valid.py")


def lecture(root: Path, number: str, title: str) -> list[Path]:
    """Write a lecture and its mutants, and add its claim to the others; return what was written.

    ``lectures/<number>_<title>.py``, ``lectures/mutants/<number>.py``, ``lectures/claims.toml``.

    Raises:
        ValueError: a number that is not two digits or is taken, or a title without a letter.
    """
    if not re.fullmatch(r"\d\d", number) or number == "00":
        raise ValueError(f"got lecture {number!r}; allowed: two digits, 01 to 99")
    if taken := sorted(path.name for path in (root / "lectures").glob(f"{number}_*")):
        raise ValueError(f"got lecture {number!r}; allowed: a free number, {taken[0]} is there")
    topic = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
    if not re.search("[a-z]", topic) or "\n" in title:
        raise ValueError(f"got title {title!r}; allowed: one line with letters from a to z")
    path = root / "lectures" / f"{number}_{topic}.py"
    known = {"number": str(int(number)), "title": title, "two": number}
    claims = root / "lectures" / "claims.toml"
    if claims.exists() and f"[{number}." in claims.read_text(encoding="utf-8"):
        raise ValueError(f"got lecture {number!r}; allowed: a number without claims in {claims}")
    mutants = root / "lectures" / "mutants" / f"{number}.py"
    content = {mutants: _template("lecture_mutants.py", known)}
    made = _write({**content, path: _template("lecture.py", known)})
    with open(claims, "a", encoding="utf-8") as file:
        file.write("\n" * (claims.stat().st_size > 0) + _template("claims.toml", known))
    return [claims, *made]


def lab(root: Path, name: str) -> list[Path]:
    """Write the source of lab ``name`` and its folder ``autograder/labs/<name>`` below ``root``.

    Raises:
        ValueError: a name that is not ``labN_topic``, or a lab that is there already.
    """
    form = re.fullmatch(r"lab(\d+)_([a-z][a-z0-9_]*)", name)
    if not form:
        raise ValueError(f"got lab {name!r}; allowed: labN_topic, as in lab7_kernels")
    title = form[2].replace("_", " ").strip().capitalize()
    known = {"name": name, "number": form[1], "title": title}
    folder = root / "autograder" / "labs" / name
    content = {folder / part: _template(f"lab/{part}", known) for part in PARTS}
    source = root / "solutions" / name / f"{name}.py"
    return _write({**content, source: _template("lab/source.py", known)})


def told(root: Path, made: list[Path]) -> str:
    """Return the lines that say what was written, and what an author does next."""
    source = made[-1]
    path = source.relative_to(root).as_posix()
    lines = [f"wrote {one.relative_to(root).as_posix()}" for one in made]
    lines.append(f"next: course build {path}")
    if path.startswith("lectures"):
        lines.append(f"      course prove {path}")
    if path.startswith("solutions"):
        lines.append(f"      course release {source.stem}; autograder prove {source.stem}")
    badge = address.read(root).badge(address.opened_at(source))
    return "\n".join([*lines, f"and its badge belongs into the tables of README.md:\n{badge}"])


def _template(name: str, known: Mapping[str, str]) -> str:
    text = (HERE / f"{name}.txt").read_text(encoding="utf-8")
    for key, value in known.items():
        text = text.replace(f"{{{{{key}}}}}", value)
    return text


def _write(content: Mapping[Path, str]) -> list[Path]:
    """Write all files or, where one is there already, none; notebooks are filled in.

    Raises:
        ValueError: a file is there already.
    """
    for path in content:
        if path.exists() or path.with_suffix(".ipynb").exists():
            raise ValueError(f"got {path}; allowed: a new name, this file is there already")
    for path, text in content.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
        if "\n# %%" in text:
            path.write_text(_filled(text, path), encoding="utf-8")
    return list(content)


def _filled(text: str, source: Path) -> str:
    return points.filled(address.filled(text, source), source)
