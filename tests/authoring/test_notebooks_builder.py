"""The notebook builder on tiny notebooks: what it writes, what it refuses, what it notices."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from authoring import address, notebooks
from autograder.intake import release

PROJECT = '[project.urls]\nRepository = "https://github.com/somebody/something"\n'
LECTURE = """\
# %% [markdown]
# # A lecture
#
# <!-- badge -->
#
# Prose.

# %% tags=["setup"]

# %%
x = 20 + 1
x

# %%
print(x * 2)
"""
FLAGS = {"schema_version": 3, "task": False}
SOLUTION = FLAGS | {"grade": False, "grade_id": "double", "locked": False, "solution": True}
GRADE = FLAGS | {"grade": True, "grade_id": "check_double", "locked": True, "solution": False}
LAB = """\
# %% [markdown]
# # A lab
# <!-- badge -->

# %% tags=["setup"]

# %% nbgrader={SOLUTION}
def double(x):
    ### BEGIN SOLUTION
    the_answer_itself = x + x
    return the_answer_itself
    ### END SOLUTION

# %% nbgrader={GRADE}
assert double(2) == 4
### BEGIN HIDDEN TESTS
assert double(-3) == -6
### END HIDDEN TESTS
""".replace("{SOLUTION}", json.dumps(SOLUTION)).replace(
    "{GRADE}", json.dumps(GRADE | {"points": 3})
)
CONFIG = """\
c = get_config()
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "labs"
c.CourseDirectory.ignore = ["outputs", "*.py", "__pycache__", ".ipynb_checkpoints"]
"""


@pytest.fixture
def course(tmp_path):
    """A course of one lecture and one lab."""
    return _lay_out(tmp_path)


def _lay_out(folder: Path) -> Path:
    for path, text in {
        "pyproject.toml": PROJECT,
        "nbgrader_config.py": CONFIG,
        "lectures/01_small.py": LECTURE,
        "solutions/lab9_small/lab9_small.py": LAB,
        "solutions/lab9_small/outputs/glyphs/model.json": "{}",
        "solutions/lab9_small/helper.py": "secret = 1\n",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


@pytest.fixture
def lecture(course):
    return course / "lectures" / "01_small.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The same course, built and released: once, for a kernel takes a second to start."""
    course = _lay_out(tmp_path_factory.mktemp("course"))
    for source in notebooks.sources(course):
        notebooks.build(source)
    release.generate(course, "lab9_small")
    return course


@pytest.fixture
def built(made, course):
    """The lecture of a fresh copy of the built course."""
    shutil.copytree(made, course, dirs_exist_ok=True)
    return course / "lectures" / "01_small.py"


@pytest.fixture
def released(built, course):
    """The released lab of the same copy."""
    return course / "labs" / "lab9_small" / "lab9_small.ipynb"


def read(source: Path) -> nbformat.NotebookNode:
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def alter(source: Path, change) -> None:
    """Apply ``change`` to the notebook beside ``source``, as a hand would."""
    notebook = read(source)
    change(notebook)
    source.with_suffix(".ipynb").write_text(nbformat.writes(notebook) + "\n")


def edit(source: Path, old: str, new: str) -> None:
    text = source.read_text()
    assert old in text
    source.write_text(text.replace(old, new))


def test_sources_are_lectures_then_labs_and_nothing_else(course):
    names = [path.name for path in notebooks.sources(course)]
    assert names == ["01_small.py", "lab9_small.py"]
    assert notebooks.labs(course) == ["lab9_small"]


def test_build_executes_and_is_in_step(built):
    notebook = read(built)
    assert [c.execution_count for c in notebook.cells if c.cell_type == "code"] == [1, 2, 3]
    assert notebook.cells[2].outputs[0].data["text/plain"] == "21"
    assert notebook.metadata.codesign.dataset in {"cifar10", "glyphs"}
    assert notebooks.check(built) == []


def test_build_again_gives_the_same_bytes(built):
    before = built.with_suffix(".ipynb").read_bytes()
    built.with_suffix(".ipynb").unlink()
    notebooks.build(built)
    assert built.with_suffix(".ipynb").read_bytes() == before


def test_build_runs_in_the_notebooks_folder_with_static_figures(lecture):
    edit(
        lecture,
        "print(x * 2)",
        "import os\nprint(os.environ['CODESIGN_STATIC'], os.path.basename(os.getcwd()))",
    )
    notebooks.build(lecture)
    assert read(lecture).cells[3].outputs[0].text == "1 lectures\n"


def test_badge_and_setup_cell(built):
    text, notebook = built.read_text(), read(built)
    link = "colab.research.google.com/github/somebody/something/blob/v"
    assert link in notebook.cells[0].source
    assert "lectures/01_small.ipynb" in notebook.cells[0].source
    assert "git+https://github.com/somebody/something@v" in notebook.cells[1].source
    assert notebook.cells[1].source in text
    assert "Prose." in text


def test_a_labs_badge_opens_the_release(course):
    source = course / "solutions" / "lab9_small" / "lab9_small.py"
    assert address.opened_at(source) == "labs/lab9_small/lab9_small.ipynb"


def test_setup_cell_does_nothing_where_the_course_is_installed(built, tmp_path):
    cell = read(built).cells[1].source
    spy = "import subprocess\nsubprocess.run = lambda *a, **k: print('INSTALL', a[0][-1])\n"
    run = [sys.executable, "-c", spy + cell]
    here = subprocess.run(run, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert (here.stdout, here.returncode) == ("", 0)
    hide = "import importlib.util\nimportlib.util.find_spec = lambda name: None\n"
    run = [sys.executable, "-c", hide + spy + cell]
    env = {"CODESIGN_REPO": "git+file:///somewhere@v1"}
    away = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert away.stdout == "INSTALL git+file:///somewhere@v1\n"


def test_prose_alone_keeps_the_outputs(built):
    edit(built, "# Prose.", "# Better prose.")
    assert any("out of step" in problem for problem in notebooks.check(built))
    notebooks.build(built, execute=False)
    assert notebooks.check(built) == []
    assert "Better" in read(built).cells[0].source


def test_changed_code_is_stale_without_execution(built):
    edit(built, "20 + 1", "20 + 2")
    notebooks.build(built, execute=False)
    problems = " ".join(notebooks.check(built))
    assert "stale" in problems
    assert "out of step" not in problems
    assert read(built).cells[2].outputs == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda nb: nb.cells.pop(), "out of step: 3 cells"),
        (lambda nb: nb.cells[3].update(source="print(0)"), "out of step from cell 4"),
        (lambda nb: nb.cells[2].metadata.update(tags=["x"]), "out of step from cell 3"),
        (lambda nb: nb.metadata.pop("codesign"), "stale"),
        (lambda nb: nb.metadata.update(widgets={}), "metadata.widgets"),
        (lambda nb: nb.cells[3].update(execution_count=7), "execution counts [1, 2, 7]"),
        (
            lambda nb: nb.cells[3].outputs.append(
                nbformat.v4.new_output("error", ename="E", evalue="v", traceback=[])
            ),
            "code cell 3: raised E",
        ),
        (
            lambda nb: nb.cells[3].outputs.append(
                nbformat.v4.new_output("stream", name="stderr", text="a warning")
            ),
            "code cell 3: wrote to stderr",
        ),
        (
            lambda nb: nb.cells[3].outputs.append(
                nbformat.v4.new_output("display_data", {notebooks.WIDGET: {}})
            ),
            "code cell 3: shows a live widget",
        ),
        (
            lambda nb: nb.cells[3].outputs.append(
                nbformat.v4.new_output("stream", name="stdout", text=f"{Path.home()}/x")
            ),
            "code cell 3: shows a path of this machine",
        ),
        (
            lambda nb: nb.cells[3].outputs.append(
                nbformat.v4.new_output("stream", name="stdout", text="x" * 1_000_000)
            ),
            "allowed: fewer than 1,000,000",
        ),
    ],
)
def test_check_names_what_is_wrong(built, change, problem):
    alter(built, change)
    assert problem in " ".join(notebooks.check(built))


def test_check_without_a_notebook_or_with_a_broken_one(lecture):
    (missing,) = notebooks.check(_filled(lecture))
    assert "missing" in missing
    lecture.with_suffix(".ipynb").write_text("{")
    (broken,) = notebooks.check(lecture)
    assert "no notebook" in broken


def _filled(source: Path) -> Path:
    source.write_text(address.filled(source.read_text(), source))
    return source


@pytest.mark.parametrize("lost", ["# <!-- badge -->\n", '# %% tags=["setup"]\n'])
def test_badge_and_setup_are_required(lecture, lost):
    edit(lecture, lost, "")
    (problem,) = notebooks.check(lecture)
    assert "allowed: one of each" in problem
    with pytest.raises(ValueError, match="one of each"):
        notebooks.build(lecture)


def test_a_cell_that_raises_leaves_the_notebook_as_it_was(built):
    before = built.with_suffix(".ipynb").read_bytes()
    edit(built, "print(x * 2)", "raise RuntimeError('planned')")
    with pytest.raises(ValueError, match="planned"):
        notebooks.build(built)
    assert built.with_suffix(".ipynb").read_bytes() == before


def test_progress_bars_and_widgets_are_not_published(lecture):
    edit(
        lecture,
        "print(x * 2)",
        "from IPython.display import display\n"
        "from ipywidgets import IntSlider\n"
        "from tqdm import tqdm\n"
        "display(IntSlider())\n"
        "sum(tqdm(range(3)))",
    )
    notebooks.build(lecture)
    (output,) = read(lecture).cells[3].outputs
    assert output.data["text/plain"] == "3"
    assert "widgets" not in read(lecture).metadata


def test_stderr_is_refused(lecture):
    edit(lecture, "print(x * 2)", "import warnings\nwarnings.warn('old')")
    with pytest.raises(ValueError, match="stderr"):
        notebooks.build(lecture)


def test_ids_are_grade_ids_or_content(course):
    source = course / "solutions" / "lab9_small" / "lab9_small.py"
    source.write_text(LAB + "\n# %%\n1\n\n# %%\n1\n")
    ids = [cell.id for cell in notebooks.assemble(source).cells]
    assert ids[2:4] == ["double", "check_double"]
    assert ids[5] == f"{ids[4]}-2"


def test_release_holds_one_notebook_without_answers(released, course):
    assert [path.name for path in released.parent.iterdir()] == ["lab9_small.ipynb"]
    text = released.read_text()
    assert "the_answer_itself" not in text
    assert "double(-3)" not in text
    assert "double(2) == 4" in text
    assert not (course / "gradebook.db").exists()


def test_release_again_gives_the_same_bytes(released, course):
    elsewhere = release.generate(course, "lab9_small", into=course / "again")
    assert (elsewhere / released.name).read_bytes() == released.read_bytes()


def test_stamp_reaches_every_place_and_keeps_outputs(built, released, course):
    (course / "README.md").write_text(
        "git clone https://github.com/somebody/something\n"
        + address.read(course).badge("lectures/01_small.ipynb")
    )
    outputs = [cell.get("outputs") for cell in read(built).cells]
    notebooks.stamp(course, "fork/course2")
    for path in ("pyproject.toml", "README.md", *_notebooks(course)):
        text = (course / path).read_text()
        assert "fork/course2" in text, path
        assert "somebody" not in text, path
    assert [cell.get("outputs") for cell in read(built).cells] == outputs
    assert [notebooks.check(source) for source in notebooks.sources(course)] == [[], []]
    again = release.generate(course, "lab9_small", into=course / "again")
    assert (again / released.name).read_bytes() == released.read_bytes()


def _notebooks(course: Path) -> list[Path]:
    found = [*course.glob("lectures/*.*"), *course.glob("*/lab9_small/lab9_small.*")]
    assert len(found) == 5
    return [path.relative_to(course) for path in found]


@pytest.mark.parametrize("repo", ["no-slash", "a/b/c", "https://github.com/a/b", ""])
def test_stamp_refuses_what_is_no_repository(course, repo):
    with pytest.raises(ValueError, match="owner/name"):
        notebooks.stamp(course, repo)
    assert (course / "pyproject.toml").read_text() == PROJECT


def test_release_of_an_unknown_lab(course):
    with pytest.raises(ValueError, match="lab9_small"):
        release.generate(course, "lab8")


def test_code_hash_ignores_prose_and_address_but_not_code(built):
    one = notebooks.assemble(built)
    edit(built, "somebody", "anybody")
    edit(built, "# Prose.", "# Other.")
    assert notebooks.code_sha256(notebooks.assemble(built)) == notebooks.code_sha256(one)
    edit(built, "x * 2", "x * 3")
    assert notebooks.code_sha256(notebooks.assemble(built)) != notebooks.code_sha256(one)


def test_the_notebook_is_valid(built):
    nbformat.validate(json.loads(built.with_suffix(".ipynb").read_text()))
