"""Write a lab's points from ``targets.toml`` into its percent source: cell header and comment.

Points are written once, in the targets; :func:`filled` copies them to the two places where readers
and nbgrader look for them. Manually graded cells keep their own: no target measures them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from authoring import address
from autograder.contract import definition, targets
from autograder.contract.targets import CheckTargets

_CELL = re.compile(r"^(# %%[^\n]*\bnbgrader=)(\{[^\n]*\})([^\n]*\n)(.*?)(?=^# %%|\Z)", re.M | re.S)
_POINTS = re.compile(r'("points":\s*)[-+.\deE]+')


def filled(text: str, source: Path) -> str:
    """Return the percent ``text`` of ``source`` with the points of its lab's targets.

    A lecture, and a lab without targets, come back as they are.

    Raises:
        ValueError: a ``targets.toml`` that is not valid, or a cell's nbgrader metadata is no JSON.
    """
    wanted = targets_of(source)
    if not wanted:
        return text
    return _CELL.sub(lambda cell: _with_points(cell, wanted, source), text)


def targets_of(source: Path) -> Mapping[str, CheckTargets]:
    """Return the targets of the lab whose source this is: of its checkout, else as registered.

    Raises:
        ValueError: a ``targets.toml`` that is not valid.
    """
    source = source.resolve()
    lab, root = source.stem, address.root_of(source)
    if source.relative_to(root).parts[0] != "solutions":
        return {}
    path = root / "autograder" / "labs" / lab / "targets.toml"
    if path.is_file():
        return targets.read(path)
    return definition.find(lab).targets if lab in definition.names() else {}


def _with_points(cell: re.Match[str], wanted: Mapping[str, CheckTargets], source: Path) -> str:
    start, header, end, body = cell.groups()
    try:
        flags = json.loads(header)
    except json.JSONDecodeError as error:
        raise ValueError(f"{source}: nbgrader metadata {header!r} is no JSON: {error}") from None
    name = flags.get("grade_id")
    if not flags.get("grade") or name not in wanted:
        return cell[0]
    points = _number(wanted[name].points)
    if "points" in flags:
        header = _POINTS.sub(rf"\g<1>{points}", header)
    else:
        header = json.dumps({**flags, "points": json.loads(points)}, sort_keys=True)
    return f"{start}{header}{end}{_with_comment(body, name, points)}"


def _with_comment(body: str, name: str, points: str) -> str:
    call = re.compile(rf'^(lab\.check\("{re.escape(name)}"\))(?:  # [.\d]+ points?\b)?', re.M)
    return call.sub(rf"\g<1>  # {points} point{'' if points == '1' else 's'}", body)


def _number(points: float) -> str:
    """Return points as a person writes them: 8, not 8.0."""
    return str(int(points)) if points.is_integer() else repr(points)
