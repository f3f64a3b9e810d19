"""The datasheet names every checkpoint and table with what their files say; data/ stays small."""

import json
from pathlib import Path

import pytest

from codesign import checkpoints, cost, places, tables
from codesign.training import RECIPES

DATA = Path(__file__).parents[1] / "data"
PARAMETERS = {"vgg": 436_458, "resnet8": 77_946, "mobile": 120_074}
RECORDS = [
    path
    for dataset in places.DATASETS
    for path in sorted((DATA / "checkpoints" / dataset).glob("*.json"))
]
TABLES = sorted((DATA / "tables").glob("*/*.json"))
LARGEST = 40_000_000  # bytes of all files together


def named(path: Path) -> str:
    """The one line of the datasheet that names a file."""
    lines = (DATA / "README.md").read_text(encoding="utf-8").splitlines()
    [line] = [line for line in lines if f"`{path.relative_to(DATA)}`" in line]
    return line


def test_data_stays_small():
    sizes = [path.stat().st_size for path in DATA.rglob("*") if path.suffix != ".state"]
    assert 1_000_000 < sum(sizes) <= LARGEST  # checkpoints alone are more than 1 MB


@pytest.mark.parametrize("path", TABLES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_the_datasheet_agrees_with_the_tables(path):
    table, line = tables.read(path), named(path)
    assert f"| {len(table)} |" in line
    assert f"`{table.command}`" in line


def test_every_recipe_has_its_checkpoint():
    found = {(path.stem, path.parent.name) for path in RECORDS}
    assert found == set(RECIPES)


@pytest.mark.parametrize("path", RECORDS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_the_datasheet_agrees_with_the_files(path):
    record = json.loads(path.read_text(encoding="utf-8"))
    weights = path.with_suffix(".safetensors")
    line = named(weights)
    assert checkpoints.sha256(weights) == record["sha256"]
    for fact in (
        record["sha256"],
        record["command"],
        f"{100 * record['val_accuracy']:.2f} %",
        f"{100 * record['test_accuracy']:.2f} %",
    ):
        assert fact in line
    assert record["cycles"] == RECIPES[path.stem, path.parent.name]


@pytest.mark.parametrize("path", RECORDS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_shipped_checkpoints_load_and_have_their_size(path):
    model = checkpoints.load(checkpoints.shipped(path.stem, path.parent.name))
    assert cost.parameters(model) == PARAMETERS[path.stem]
