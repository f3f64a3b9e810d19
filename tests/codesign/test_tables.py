"""Precomputed results: what a table may hold, and every stored one made again in one row."""

from __future__ import annotations

import importlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from codesign import tables
from codesign.tables import Table

STORED = sorted(tables.CHECKOUT.glob("*/*.json"))
TOY = Table(
    command="python make.py",
    recipe="toys:row",
    seeds=[0, 1],
    wall_s=2.5,
    machine="abacus",
    columns={"bits": "", "error": "%", "note": ""},
    key=["bits"],
    spread={"error": 0.5},
    rows=[[2, 9.0, None], [4, 3.25, "fine"]],
)


@pytest.fixture
def folder(monkeypatch, tmp_path) -> Path:
    monkeypatch.setattr(tables, "CHECKOUT", tmp_path / "data")
    monkeypatch.setattr(tables, "INSTALLED", tmp_path / "_data")
    return tmp_path


def again(table: Table, index: int) -> dict:
    """What the recipe says today of one row's key."""
    module, _, function = table.recipe.partition(":")
    row = list(table)[index]
    recipe = getattr(importlib.import_module(module), function)
    return recipe({name: row[name] for name in table.key}, short=True)


# --- what is stored ------------------------------------------------------------------------------


def test_there_are_tables():
    assert STORED


@pytest.mark.parametrize("path", STORED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_row_made_again_agrees_within_its_spread(path):
    table = tables.load(int(path.parent.name), path.stem)
    assert table.differences(again(table, 0)) == {}


def test_a_row_that_has_changed_is_found(monkeypatch):
    """The recipe counts something else than what is stored."""
    from codesign.hardware import board

    table = tables.load(11, "cortex_m_kernels")
    slower = replace(board.CORES["cortex-m4"], load=3)
    monkeypatch.setitem(board.CORES, "cortex-m4", slower)
    board.decoded.cache_clear()
    found = table.differences(again(table, 0))
    board.decoded.cache_clear()
    assert set(found) == {"naive_cycles", "simd_cycles"}
    assert all(stored < made for stored, made in found.values())


# --- reading and writing -------------------------------------------------------------------------


@pytest.mark.parametrize("home", ["data", "_data"])
def test_what_is_saved_is_loaded_from_a_checkout_and_from_a_wheel(folder, home):
    path = tables.save(4, "toy", TOY, folder / home)
    assert path == folder / home / "04" / "toy.json"
    loaded = tables.load(4, "toy")
    assert asdict(loaded) == asdict(TOY)
    assert len(loaded) == 2
    assert loaded["error"] == [9.0, 3.25]
    assert list(loaded)[1] == {"bits": 4, "error": 3.25, "note": "fine"}


def test_a_row_is_a_line(folder):
    lines = tables.save(4, "toy", TOY, folder).read_text().splitlines()
    assert "    [2, 9.0, null]," in lines


def test_an_unknown_table_or_column_is_refused(folder):
    with pytest.raises(ValueError, match="got table '04/toy'; allowed: none yet"):
        tables.load(4, "toy")
    tables.save(4, "toy", TOY, folder / "data")
    with pytest.raises(ValueError, match="got table '05/toy'; allowed: 04/toy"):
        tables.load(5, "toy")
    with pytest.raises(ValueError, match=r"got column 'bit'; allowed: .*bits"):
        TOY["bit"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"command": ""}, "got command ''; allowed: not empty"),
        ({"machine": ""}, "got machine"),
        ({"rows": []}, "got rows"),
        ({"key": []}, "got key"),
        ({"recipe": "toys"}, "got recipe 'toys'; allowed: 'module:function'"),
        ({"recipe": ":row"}, "got recipe"),
        ({"recipe": "toys:row()"}, "got recipe"),
        ({"wall_s": -1.0}, "allowed: 0 or more"),
        ({"wall_s": float("nan")}, "allowed: 0 or more"),
        ({"spread": {"error": float("inf")}}, "allowed: 0 or more"),
        ({"spread": {"eror": 1}}, r"got columns \['eror'\]; allowed"),
        ({"key": ["bit"]}, r"got columns \['bit'\]; allowed"),
        ({"rows": [[2, 9.0]]}, "a list of 3 values"),
        ({"rows": ["abc"]}, "a list of 3 values"),
        ({"rows": [[2, float("nan"), ""]]}, "got nan in a row; allowed: finite"),
        ({"rows": [[2, [1], ""]]}, "got list in a row; allowed: numbers, text"),
        ({"rows": [[2, 1, ""], [2, 3, ""]]}, r"allowed: different values of \['bits'\]"),
    ],
)
def test_a_wrong_table_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        Table(**(asdict(TOY) | changed))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "toy.json is not JSON"),
        ("[]", r"got \['list'\]; allowed: exactly"),
        (json.dumps(asdict(TOY) | {"seed": 1}), "'seed'.*allowed: exactly"),
        (json.dumps({"rows": []}), r"got \['rows'\]; allowed: exactly"),
        (json.dumps(asdict(TOY) | {"wall_s": "long"}), "is no table"),
        (json.dumps(asdict(TOY) | {"recipe": 3}), "is no table"),
        (json.dumps(asdict(TOY) | {"rows": [[1]]}), "toy.json: got row"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, text, message):
    path = tmp_path / "toy.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        tables.read(path)


# --- comparing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"bits": 2, "error": 9.5, "note": None}, []),
        ({"bits": 2, "error": 9.6, "note": None}, ["error"]),
        ({"bits": 4, "error": 2.7, "note": "bad"}, ["error", "note"]),
        ({"bits": 4, "error": None, "note": "fine"}, ["error"]),
        ({"bits": 4, "error": float("nan"), "note": "fine"}, ["error"]),
    ],
)
def test_differences_beyond_the_spread(row, columns):
    assert sorted(TOY.differences(row)) == columns


def test_a_row_of_another_table_is_no_row():
    with pytest.raises(ValueError, match="got columns"):
        TOY.differences({"bits": 2})
    with pytest.raises(ValueError, match=r"got key \[3\]; allowed: a row's"):
        TOY.differences({"bits": 3, "error": 1.0, "note": ""})
