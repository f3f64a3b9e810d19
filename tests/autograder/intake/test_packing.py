"""``lab.package`` reads a notebook as the judge will, and refuses what could not be graded."""

from __future__ import annotations

import copy
import json
import sys
import types
import zipfile
from pathlib import Path

import nbformat
import pytest

from autograder import Lab
from autograder.contract import artifacts
from autograder.contract.cells import grade_id, is_solution
from autograder.intake import accept, packing, release
from autograder.intake.course import Course
from autograder.lab import NotPackaged
from samples import hand_ins

ROOT = Path(__file__).parents[3]
LAB = "lab1_pruning"
FIRST = "solution_fine_grained_prune"


@pytest.fixture(scope="module")
def course():
    """This repository."""
    return Course.at(ROOT)


@pytest.fixture(scope="module")
def solved(course):
    """The notebook with every answer."""
    notebook = hand_ins.solved(course, LAB)
    del notebook.metadata[hand_ins.STUBS]
    return notebook


@pytest.fixture
def lab(tmp_path, monkeypatch, capsys):
    """Lab 1 on glyphs, in a folder of its own."""
    monkeypatch.setenv("CODESIGN_DATASET", "glyphs")
    monkeypatch.delenv("CODESIGN_OUTPUTS", raising=False)
    made = Lab(LAB, folder=tmp_path)
    capsys.readouterr()
    return made


@pytest.fixture
def ran(monkeypatch):
    """Texts that the kernel ran, in order."""
    texts: list[str] = []
    monkeypatch.setattr(packing, "history", lambda: texts)
    return texts


def save(lab, notebook, name=f"{LAB}.ipynb"):
    text = notebook if isinstance(notebook, str) else json.dumps(notebook)
    (lab.folder / name).write_text(text)


def table(lab, name, dataset="glyphs"):
    artifacts.store(lab.folder / "outputs" / dataset, name, {"made": 1})


def cell(notebook, name=FIRST):
    return next(cell for cell in notebook.cells if grade_id(cell) == name)


def packed(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("name", ["lab1_pruning", "lab2_quantization", "lab5_tinyml"])
def test_the_release_that_package_knows_is_the_one_that_is_judged(course, name):
    known = packing.released(name)
    base = release.base(course, name)
    assert [(c.id, c.cell_type, c.source) for c in known] == [
        (c.id, c.cell_type, c.source) for c in base.cells
    ]
    assert [grade_id(c) for c in known] == [grade_id(c) for c in base.cells]
    assert [is_solution(c) for c in known] == [is_solution(c) for c in base.cells]


def test_whole_work_is_packed_counted_and_accepted(lab, solved, course, ran, capsys):
    save(lab, solved)
    for name in packing.wanted(LAB):
        table(lab, name)
    hidden = lab.outputs / ".unfinished" / "fast_model"
    hidden.mkdir(parents=True)
    (hidden / "training.json").write_text("{}")
    (lab.outputs / "half.json.part").write_text("{")
    ran.append(cell(solved).source)
    target = lab.package()
    said = capsys.readouterr().out
    assert "20 written\n" in said
    assert "13 artifacts\n" in said
    assert "hand in this file" in said
    assert set(packed(target)) == {
        f"{LAB}.ipynb",
        *(f"outputs/glyphs/{name}.json" for name in packing.wanted(LAB)),
    }
    target.rename(target.with_name("handed_in.zip"))
    for path in (lab.folder / f"{LAB}.ipynb", lab.folder / "outputs"):
        path.rename(path.with_name(f"old_{path.name}.bak"))
    taken = accept.submission(release.base(course, LAB), LAB, lab.folder)
    assert taken.problems == ("repaired: 'handed_in.zip' was taken for lab1_pruning.zip",)
    assert len(taken.artifacts) == 13


def test_what_is_missing_is_told_and_packed_all_the_same(lab, solved, ran, capsys):
    notebook = copy.deepcopy(solved)
    notebook.cells.remove(cell(notebook, "reflection_device"))
    stub = next(c for c in packing.released(LAB) if grade_id(c) == "solution_encode")
    cell(notebook, "solution_encode").source = stub.source
    save(lab, notebook)
    table(lab, "one_shot")
    table(lab, "one_shot", "cifar10")
    table(lab, "criteria", "cifar10")
    lab.package()
    said = capsys.readouterr().out
    assert (
        "18 written, 1 still as handed out (solution_encode), 1 missing (reflection_device)" in said
    )
    assert "glyphs    1 artifacts, 12 missing (dense_accuracy, sensitivity, criteria," in said
    assert "cifar10   2 artifacts, 11 missing" in said
    assert "artifacts of two image sets (1 of glyphs, 2 of cifar10)" in said or (
        "artifacts of two image sets (2 of cifar10, 1 of glyphs)" in said
    )
    assert "cifar10 as it stands" in said


def test_a_repair_and_a_broken_artifact_are_told_before_it_is_too_late(lab, solved, ran, capsys):
    notebook = copy.deepcopy(solved)
    for one in notebook.cells:
        one.metadata = {}
    save(lab, notebook)
    table(lab, "half")
    (lab.outputs / "half.json").write_text('{"kind": "table", "value": NaN}')
    lab.package()
    said = capsys.readouterr().out
    assert f"{FIRST}, predict_one_shot, " in said
    assert "and 17 more: found by its cell id, without nbgrader's metadata" in said
    assert "artifact 'half' has NaN" in said


REFUSED = {
    "empty": ("", "an empty file"),
    "page": ("<!DOCTYPE html><html></html>", "a web page"),
    "cut": ('{"cells": [', "no notebook"),
    "another": (json.dumps({"cells": [{"cell_type": "code", "source": "1"}]}), "another notebook"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_graded_is_refused_and_an_earlier_archive_stays(case, lab, ran):
    text, told = REFUSED[case]
    save(lab, text)
    (lab.folder / f"{LAB}.zip").write_bytes(b"earlier")
    with pytest.raises(NotPackaged, match=told):
        lab.package()
    assert (lab.folder / f"{LAB}.zip").read_bytes() == b"earlier"


def test_the_notebook_of_another_lab_is_named(lab, course, ran):
    save(lab, hand_ins.solved(course, "lab5_tinyml"))
    with pytest.raises(NotPackaged, match="this looks like the notebook of lab5_tinyml"):
        lab.package()


def test_the_untouched_release_is_refused_unless_it_is_wanted(lab, course, ran):
    save(lab, release.base(course, LAB))
    with pytest.raises(NotPackaged, match=r"as it was handed out.*anyway=True"):
        lab.package()
    assert packed(lab.package(anyway=True))


def test_a_file_that_is_older_than_what_was_run_is_refused(lab, solved, ran):
    save(lab, solved)
    ran += [cell(solved).source, cell(solved).source.replace("return", "return 1 *")]
    with pytest.raises(
        NotPackaged, match=f"older than what you ran .{FIRST}.*save the notebook first"
    ):
        lab.package()
    notebook = copy.deepcopy(solved)
    cell(notebook).source = ran[-1]
    save(lab, notebook)
    lab.package()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("    return", "    # as the text says\n    return"),
        lambda text: f"%%time\n{text}",
        lambda text: f"import math\n\n{text}",
        lambda text: f"{text}\n\nprint(1)",
    ],
    ids=["comment", "magic", "split", "tried below"],
)
def test_what_means_the_same_is_not_unsaved(lab, solved, ran, change):
    save(lab, solved)
    ran.append(change(cell(solved).source))
    assert lab.package()


def test_another_number_that_was_predicted_is_unsaved(lab, solved, ran):
    notebook = copy.deepcopy(solved)
    cell(notebook, "predict_one_shot").source = "predicted_one_shot = 15"
    save(lab, notebook)
    ran.append("predicted_one_shot = 1")
    with pytest.raises(NotPackaged, match="predict_one_shot"):
        lab.package()


def test_a_place_that_cannot_be_written_is_said(lab, solved, ran):
    save(lab, solved)
    (lab.folder / f"{LAB}.zip").mkdir()
    with pytest.raises(NotPackaged, match="cannot be written: Is a directory"):
        lab.package()


def test_a_split_answer_and_a_scratch_cell_are_not_taken_for_unsaved(lab, solved, ran):
    notebook = copy.deepcopy(solved)
    scratch = "def fine_grained_prune(x):\n    return x"
    notebook.cells.append(nbformat.v4.new_code_cell(f"{scratch}\n"))
    save(lab, notebook)
    ran += [cell(solved).source, scratch]
    assert lab.package()


def test_the_open_notebook_is_found_under_any_name(lab, solved, ran, monkeypatch):
    with pytest.raises(NotPackaged, match="is not here: save the notebook under this name"):
        lab.package()
    save(lab, solved, f"Copy_of_{LAB}.ipynb")
    assert packed(lab.package())[f"{LAB}.ipynb"]
    save(lab, "", f"{LAB} (1).ipynb")  # newer
    with pytest.raises(NotPackaged, match="an empty file"):
        lab.package()
    save(lab, solved, "open.ipynb")
    main = types.ModuleType("__main__")
    main.__vsc_ipynb_file__ = str(lab.folder / "open.ipynb")
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert lab.package()


def test_colab_gives_the_page_and_takes_the_archive(lab, solved, ran, monkeypatch, capsys):
    downloads = []
    monkeypatch.setattr("codesign.colab.open_notebook", lambda: solved)
    monkeypatch.setattr("codesign.colab.download", downloads.append)
    target = lab.package()
    assert downloads == [target]
    assert "the notebook in this page" in capsys.readouterr().out


def test_large_plots_stay_behind_and_too_many_bytes_are_refused(lab, solved, ran, monkeypatch):
    notebook = copy.deepcopy(solved)
    plot = nbformat.v4.new_output("display_data", {"image/png": "A" * 9 * 2**20})
    next(c for c in notebook.cells if c.cell_type == "code").outputs = [plot]
    save(lab, notebook)
    content = packed(lab.package())[f"{LAB}.ipynb"]
    assert len(content) < 2**20
    assert cell(nbformat.reads(content.decode(), as_version=4)).source == cell(solved).source
    monkeypatch.setattr(packing, "MAX_ARCHIVE_BYTES", 10)
    with pytest.raises(NotPackaged, match="bytes; allowed: 10"):
        lab.package()


def test_in_grading_nothing_is_packed(lab, monkeypatch):
    monkeypatch.setenv("CODESIGN_GRADING", "1")
    assert not lab.package().exists()
    assert lab.check("fine_grained_prune") == 0


def test_the_history_of_a_kernel_is_read_as_it_was_typed():
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        shell.run_cell("%time one = 1", store_history=True)
        assert packing.history()[-1] == "%time one = 1"
    finally:
        InteractiveShell.clear_instance()
