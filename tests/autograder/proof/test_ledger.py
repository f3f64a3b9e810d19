"""What the ledger spares is what has not changed, and a line that does not reproduce fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy_lab import LAB, definition, half_zero

from autograder.contract import artifacts, rows
from autograder.contract.definition import find, register
from autograder.intake import release
from autograder.intake.course import Course
from autograder.intake.transplant import transplant
from autograder.proof import ledger, prove
from autograder.proof.mutants import forged, valid, wrong
from autograder.sandbox import bubblewrap
from codesign.models import VGG

ROOT = Path(__file__).parents[3]


def dense(folder):
    artifacts.store(folder, "net", VGG([4, "M", 6]))


ANSWERS = {
    "mutants": [
        *wrong("double", triples="def double(x): return 3 * x"),
        *forged("net", dense=dense),
    ],
    "valid": valid("double", sums="def double(x): return x + x"),
}


@pytest.fixture
def proved(course):
    """The toy course with a reference artifact, and the ledger of its whole proof."""
    outputs = course.root / "solutions" / LAB / "outputs" / "glyphs"
    artifacts.store(outputs, "net", half_zero())
    register(definition(**ANSWERS))
    lines = prove.prove(course, LAB, "glyphs", isolated=bubblewrap.available())
    assert [line.fault for line in lines] == [""] * 5
    return prove.proved(lines)


def again(course, known, share=0.0):
    return prove.prove(
        course, LAB, "glyphs", isolated=bubblewrap.available(), known=known, again=share
    )


@pytest.mark.slow
def test_what_is_known_is_spared_and_what_does_not_reproduce_fails(course, proved):
    assert all(line.spared for line in again(course, proved))
    lines = again(course, proved, share=1.0)
    assert not any(line.spared or line.fault for line in lines)

    def blind(student, cases, target):
        student.artifact("net")
        return [rows.passed("sparsity", True, 3)]

    # The check has changed under a ledger that does not say so.
    register(definition(**ANSWERS, net=blind))
    lines = again(course, proved, share=1.0)
    assert [line.name for line in lines if line.fault] == ["net: dense"]


@pytest.mark.slow
def test_a_right_answer_that_loses_points_is_a_hole(course, proved):
    def reference_alone(student, cases, target):
        doubled = student.call("double", torch.ones(5, dtype=torch.bool))
        return [rows.passed("doubles", torch.equal(doubled, torch.full((5,), 2)), 1)]  # x + x: bool

    register(definition(**ANSWERS, double=reference_alone))
    lines = prove.prove(course, LAB, "glyphs", isolated=bubblewrap.available())
    assert "lost points in ['double'], expected nothing" in lines[-1].fault


@pytest.mark.slow
def test_another_answer_is_judged_and_the_rest_is_spared(course, proved):
    other = {**ANSWERS, "mutants": [*wrong("double", triples="def double(x): return 4 * x")]}
    register(definition(**other))
    lines = again(course, proved)
    assert [line.name for line in lines if not line.spared] == ["reference", "double: triples"]


def test_the_second_image_set_proves_what_is_measured_on_images_or_by_a_clock():
    lab = find("lab2_quantization")
    every, some = (prove.answers_on(lab, dataset) for dataset in ("glyphs", "cifar10"))
    assert 5 < len(some) < len(every) == len(lab.mutants) + len(lab.valid)
    measured = {"int8_model", "w4_model", "w4a4_model", "int8_gemm"}
    assert {answer.check for answer in some} == measured


def inputs(course, name):
    """What a lab's lines depend on beside its code: notebook, release, artifacts on glyphs."""
    folder = course.root / "solutions" / name
    released = release.base(course, name)
    notebook = transplant(released, folder / f"{name}.ipynb").notebook
    return notebook, released, folder / "outputs" / "glyphs"


def base(course):
    return ledger.base(find(LAB), *inputs(course, LAB))


def test_the_key_of_all_lines_holds_reference_release_and_artifacts(course, toy):
    seen = {base(course)}
    reference = course.root / "solutions" / LAB / f"{LAB}.ipynb"
    reference.write_text(reference.read_text().replace("ready = True", "ready = 1"))
    seen.add(base(course))
    config = course.root / "nbgrader_config.py"
    config.write_text(f"{config.read_text()}\nc.ClearSolutions.code_stub = {{'python': 'pass'}}\n")
    seen.add(base(Course.at(course.root)))
    artifacts.store(course.root / "solutions" / LAB / "outputs" / "glyphs", "net", half_zero())
    seen.add(base(course))
    assert len(seen) == 4


COUNTED = [
    "autograder/contract/rows.py",
    "autograder/sandbox/run_native.py",  # named in a string
    "autograder/sandbox/fork_server.py",  # started by its path
    "autograder/labs/lab2_quantization/integer_vgg.py",
    "codesign/kernels/fp32_gemm.c",
    "codesign/training.py",
    "data/checkpoints/glyphs/vgg.json",
]


@pytest.mark.parametrize("name", COUNTED)
def test_a_change_of_what_a_check_uses_changes_every_line(name, monkeypatch):
    lab = find("lab2_quantization")
    where = inputs(Course.at(ROOT), lab.name)
    before, real = ledger.base(lab, *where), ledger.meaning
    monkeypatch.setattr(ledger, "meaning", lambda p: real(p) + "x" * (p == ROOT / name))
    assert ledger.base(lab, *where) != before


@pytest.mark.parametrize(
    "name",
    [
        "autograder/reports/class_report.py",
        "autograder/labs/lab1_pruning/targets.toml",
        "autograder/labs/lab2_quantization/mutants/codebooks.py",
        "codesign/hardware/eie.py",
        "codesign/plot.py",
    ],
)
def test_a_change_of_something_else_changes_none(name, monkeypatch):
    lab = find("lab2_quantization")
    where = inputs(Course.at(ROOT), lab.name)
    before, real = ledger.base(lab, *where), ledger.meaning
    assert (ROOT / name).is_file()
    monkeypatch.setattr(ledger, "meaning", lambda p: real(p) + "x" * (p == ROOT / name))
    assert ledger.base(lab, *where) == before


def test_comments_and_docstrings_do_not_count_and_code_does(tmp_path):
    texts = [
        '"""One."""\ndef f(x):\n    """Two."""\n    return x + 1\n',
        '"""Other."""\ndef f(x):\n    return x + 1  # why\n',
        '"""One."""\ndef f(x):\n    """Two."""\n    return x + 2\n',
    ]
    paths = [tmp_path / f"{number}.py" for number in range(3)]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    meanings = [ledger.meaning(path) for path in paths]
    assert meanings[0] == meanings[1] != meanings[2]


def test_a_ledger_keeps_what_was_proved_and_still_exists(tmp_path, toy):
    lab = replace(definition(**ANSWERS), folder=tmp_path)
    assert ledger.read(lab) == {}
    ledger.write(lab, {"glyphs: reference": "abc", "glyphs: gone": "x", "cifar10: net: dense": "y"})
    good = prove.Line("release", "", "cifar10", key="1")
    bad = prove.Line("net: dense", "net", "cifar10", fault="a hole", key="2")
    prove.record(lab, [good, bad])
    assert ledger.read(lab) == {"cifar10: release": "1", "glyphs: reference": "abc"}
