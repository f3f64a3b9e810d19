"""Lab 1's functions: one function a check, which answers are caught and which keep their points."""

from __future__ import annotations

import lab_checks
import pytest
import torch
from lab_checks import NOWHERE
from solution_cells import definitions

from autograder.contract import checking
from autograder.contract.checking import LocalStudent
from autograder.contract.definition import find

pytestmark = pytest.mark.lab1
LAB = "lab1_pruning"
FUNCTIONS = [
    "fine_grained_prune",
    "sensitivity_scan",
    "second_order_scores",
    "sparse_model",
    "channel_prune",
    "reconstruct",
    "netadapt",
    "nm_prune",
    "encode",
]
FIGURES = ("sparsity", "accuracy_drop")  # of an artifact, which nobody handed in here
SEEDS = (1, 2, 3)
ESCAPES = [  # kept full points once
    "fine_grained_prune: multiplies_in_place",
    "fine_grained_prune: zero_weights_go_as_well",
    "sensitivity_scan: last_layer_never_restored",
    "sensitivity_scan: leaves_the_model_pruned",
    "sensitivity_scan: leaves_training_mode",
    "sensitivity_scan: leaves_it_frozen",
    "sparse_model: removed_weights_come_back",
    "sparse_model: never_trained",
    "sparse_model: always_three_epochs",
    "channel_importance: kernels_of_nine",
    "channel_prune: weights_of_the_argument",
    "channel_prune: ten_classes",
    "reconstruct: with_a_bias",
    "reconstruct: ridge_for_inputs_around_one",
    "netadapt_proposals: keeps_the_present_width",
    "netadapt_proposals: below_the_budget",
    "netadapt_round: raises_without_proposals",
    "netadapt_round: trains_all_twice",
    "nm_prune: nonzeros_only",
    "nm_pack: matrices_only",
    "nm_pack: nonzeros_only",
    "relative_index: always_four_bits",
    "huffman_lengths: at_most_eight_bits",
    "encode: bits_ignored",
    "encode: value_table_of_256",
]


@pytest.fixture(scope="module")
def solution():
    return definitions(LAB)


def lost(check, namespace, seed):
    """The rows of a check's functions that lost points."""
    rows = lab_checks.run(LAB, check, namespace, seed=seed).rows
    return [row for row in rows if row.points < row.max_points and row.name not in FIGURES]


@pytest.mark.parametrize("name", ESCAPES)
def test_an_answer_that_escaped_once_is_caught_on_every_seed(name):
    mutant = lab_checks.mutant(LAB, name)
    for seed in SEEDS:
        assert lost(mutant.check, definitions(LAB, mutant.source), seed), seed


def test_a_scan_that_spoils_the_model_keeps_the_points_of_its_accuracies():
    mutant = lab_checks.mutant(LAB, "sensitivity_scan: leaves_training_mode")
    (row,) = lost("sensitivity_scan", definitions(LAB, mutant.source), 1)
    assert "training mode" in row.message
    assert row.max_points == 2


def test_the_default_driver_of_least_squares_keeps_its_points(solution):
    """Whatever is in the memory that its pivots start from, on a hundred seeds."""

    def reconstruct(inputs, outputs):
        torch.full((len(inputs),), 7, dtype=torch.int32)  # let go, so that LAPACK may find it
        return torch.linalg.lstsq(inputs, outputs).solution.T

    namespace = {**solution, "reconstruct": reconstruct}
    for seed in range(100):
        assert lost("reconstruct", namespace, seed) == [], seed


@pytest.mark.parametrize("check", FUNCTIONS)
def test_a_check_asks_no_more_than_the_signatures_promise(check):
    namespace = definitions(LAB)
    find(LAB).guard(namespace)
    for seed in SEEDS:
        assert lost(check, namespace, seed) == [], seed


def test_no_function_is_used_by_two_checks(solution):
    """So that a wrong function costs one check: neither directly nor through another solution."""
    called = {}
    for check in FUNCTIONS:
        student = LocalStudent(solution, NOWHERE)
        names = called.setdefault(check, set())
        student.call = lambda f, *a, call=student.call, names=names, **k: (
            names.add(f) or call(f, *a, **k)
        )
        checking.run(LAB, check, student, "glyphs", 5)
    graded = set().union(*called.values())
    for check, names in called.items():
        others = graded - names
        assert not names & set().union(*(called[other] for other in called if other != check))
        for name in names:
            assert not others & set(solution[name].__code__.co_names), name


def raising(function, when):
    """``function``, but for an exception where ``when`` says so."""

    def wrapped(*args, **kwargs):
        if when(*args):
            raise IndexError("an edge that was forgotten")
        return function(*args, **kwargs)

    return wrapped


@pytest.mark.parametrize(
    ("check", "function", "when", "points"),
    [
        ("fine_grained_prune", "fine_grained_prune", lambda w, sparsity: sparsity == 0, (6, 8)),
        ("nm_prune", "nm_prune", lambda *args: True, (4, 8)),
        ("nm_prune", "nm_prune", lambda w, n, m: (n, m) == (1, 4), (6, 8)),
        ("netadapt", "netadapt_proposals", lambda w, table, t, step: True, (1, 6)),
        ("reconstruct", "reconstruct", lambda x, y: not x[:, -1].any(), (6, 8)),
    ],
)
def test_an_exception_in_one_case_takes_one_row(check, function, when, points):
    namespace = dict(definitions(LAB))
    namespace[function] = raising(namespace[function], when)
    verdict = lab_checks.run(LAB, check, namespace)
    share, out_of = points
    assert verdict.points == pytest.approx(verdict.max_points * share / out_of)


def test_proposals_that_raise_where_none_is_due_keep_the_other_rows():
    namespace = dict(definitions(LAB))
    right = namespace["netadapt_proposals"]
    namespace["netadapt_proposals"] = lambda *args: [width + 0 for width in right(*args)]
    verdict = lab_checks.run(LAB, "netadapt", namespace)
    assert verdict.points == pytest.approx(verdict.max_points * 2 / 3)
    assert "TypeError" in "".join(row.message for row in verdict.rows)
