"""`course run` on tiny notebooks: failures, short values, limits, an untouched repository."""

import nbformat
import pytest
from typer.testing import CliRunner

from authoring import run
from authoring.cli import app

PARAMETERS = """\
# %% [markdown]
# # A lecture

# %% tags=["parameters"] short={"EPOCHS": 1, "SIZES": [2, [3]], "EXACT": false}
EPOCHS, RATE = 9, 0.1
SIZES: tuple = (64, 256)
EXACT = True

"""
SOURCES = {
    "shortened": PARAMETERS
    + """\
# %%
import os
from pathlib import Path

# %%
assert (EPOCHS, RATE, SIZES, EXACT) == (1, 0.1, (2, (3,)), False)
assert os.environ["CODESIGN_STATIC"] == "1"
assert "CODESIGN_OUTPUTS" not in os.environ
assert os.environ["OMP_NUM_THREADS"] == "1"  # of two cores, with two notebooks at a time
Path("made.txt").write_text(Path("given.txt").read_text())
""",
    "failing": PARAMETERS
    + """\
# %%
def twice(x):
    return x + 1


# %%
shown = twice(2)
assert shown == 4, f"first line\\ngot {shown}"

# %%
raise SystemError("never reached")
""",
    "dying": """\
# %%
import os

os._exit(1)
""",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tiny notebooks and a file that one of them reads."""
    folder = tmp_path_factory.mktemp("lectures")
    (folder / "given.txt").write_text("given")
    for name, text in SOURCES.items():
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.fixture(scope="module")
def results(folder):
    """All of them run short, two at a time on two cores, in a folder that stays as it was."""
    before = contents(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "cores", lambda: 2)
        patch.setenv("CODESIGN_OUTPUTS", str(folder))
        found = {ran.name: ran for ran in run.run(sorted(folder.glob("*.py")), short=True)}
    assert contents(folder) == before
    return found


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def source(tmp_path, text):
    path = tmp_path / "lecture.py"
    path.write_text(text)
    return path


def test_short_values_follow_the_published_ones(results):
    assert results["shortened"].failure is None
    assert results["shortened"].wall_s > 0
    assert results["shortened"].cpu_s > 0
    assert str(results["shortened"]).endswith(" s)  ok")


def test_a_failing_cell_is_named_as_the_published_notebook_counts_it(results):
    assert results["failing"].failure == (
        'cell [3], `assert shown == 4, f"first line\\ngot {shown}"`: AssertionError: got 3'
    )


def test_a_dead_kernel_is_a_failure(results):
    assert results["dying"].failure == "cell [1], `import os`: the kernel died"


def test_a_limit_that_is_exceeded_is_a_failure(tmp_path):
    path = source(tmp_path, "# %%\nimport time\n\n# %%\ntime.sleep(600)\n")
    (ran,) = run.run([path], limit_s=1)
    assert ran.failure.endswith("still running after 1 s, the limit")
    assert ran.wall_s < 300


def test_published_values_hold_without_short(folder):
    cells = run.read(folder / "shortened.py").cells
    assert len(run.read(folder / "shortened.py", short=True).cells) == len(cells) + 1


def test_a_built_notebook_carries_the_short_values(tmp_path, folder):
    built = tmp_path / "shortened.ipynb"
    nbformat.write(run.read(folder / "shortened.py"), built)
    (added,) = [
        cell.source
        for cell in run.read(built, short=True).cells
        if cell.metadata.get("tags") == ["short"]
    ]
    assert set(added.splitlines()) == {"EPOCHS = 1", "SIZES = (2, (3,))", "EXACT = False"}


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ('tags=["parameters"] short={"EPOCH": 1}', "got short value of EPOCH; allowed: EPOCHS"),
        ('short={"EPOCHS": 1}', "allowed: nothing outside the parameters cell"),
    ],
)
def test_a_short_value_of_an_unknown_parameter_is_refused(tmp_path, header, told):
    path = source(tmp_path, f"# %% {header}\nEPOCHS = 3\n")
    done = CliRunner().invoke(app, ["run", "--short", str(path)])
    assert done.exit_code == 2
    assert told in " ".join(done.output.replace("│", " ").split())
    run.read(path)  # published as it is


def test_what_is_no_notebook_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"got .*none\.py; allowed: a percent source"):
        list(run.run([tmp_path / "none.py"]))


def test_the_command_prints_a_line_each_writes_a_table_and_fails(tmp_path, monkeypatch):
    ran = [
        run.Ran("quick", 2.0, 1.0, None),
        run.Ran("broken", 9.0, 3.0, "cell [3], `x`: NameError"),
    ]
    monkeypatch.setattr(run, "run", lambda paths, **_: iter(ran))
    table = tmp_path / "build" / "lectures.md"
    done = CliRunner().invoke(app, ["run", "quick.py", "--table", str(table)])
    assert done.exit_code == 1
    assert done.output.splitlines() == [
        "quick  2.0 s (CPU 1.0 s)  ok",
        "broken  9.0 s (CPU 3.0 s)  FAILED: cell [3], `x`: NameError",
    ]
    assert table.read_text().splitlines()[2:] == [
        "| broken | 9 | 3 | cell [3], `x`: NameError |",
        "| quick | 2 | 1 | ok |",
    ]
    monkeypatch.setattr(run, "run", lambda paths, **_: iter(ran[:1]))
    assert CliRunner().invoke(app, ["run", "quick.py"]).exit_code == 0


def test_lectures_have_three_minutes_and_labs_ten(tmp_path):
    assert run.default_limit_s(tmp_path / "lectures" / "01_x.py") == 180
    assert run.default_limit_s(tmp_path / "solutions" / "lab1_x" / "lab1_x.py") == 600
