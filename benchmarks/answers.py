"""Grade wrong and right answers in the sandbox, by this judge and by another; print a table.

    python -m benchmarks.answers lab1_pruning --beside PATH    # another checkout of the course

Each answer stands in for one function or artifact of the reference. What it loses is counted from
what the same judge gives the reference: a wrong answer has to lose some, a right one nothing, and a
function that fails in one case not more than that case's rows. Answers are named as in the labs'
``mutants`` and ``valid``; failing ones are made here.
"""

from __future__ import annotations

import copy
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Annotated

import nbformat
import typer
from nbformat import NotebookNode

from autograder.contract import cells
from autograder.contract.definition import LabDefinition, find
from autograder.intake import release
from autograder.intake.course import Course
from autograder.proof.mutants import Answer, Forge, Mutant, Valid
from autograder.reports.commands import HERE, Root, known_lab
from benchmarks.hand_ins import graded
from samples import demo, hand_ins

REFERENCE = "reference"
KINDS = {Mutant: "wrong", Valid: "right"}
NAMED = {
    "lab1_pruning": """
        sensitivity_scan: last_layer_never_restored, leaves_the_model_pruned, leaves_training_mode,
            leaves_it_frozen
        channel_prune: weights_of_the_argument, config_of_the_argument, argument_in_training_mode
        fine_grained_prune: multiplies_in_place
        relative_index: always_four_bits
        encode: bits_ignored
        huffman_lengths: at_most_eight_bits
        nm_pack: matrices_only, nonzeros_only
        netadapt_proposals: keeps_the_present_width
        netadapt_round: least_accurate, first_proposal
        sparse_model: removed_weights_come_back, never_trained
        reconstruct: default_driver
        """,
    "lab2_quantization": """
        kmeans_quantize: unused_become_nan, unused_go_back_to_the_start
        pack_codes: vectors_only, pads_each_row
        mse_threshold: first_one_not_tried, last_one_not_tried
        kl_threshold: first_one_not_tried, last_one_not_tried
        requantize: shift_of_31_to_40_only
        quantized_conv2d: square_images_only
        adaround: ignores_its_target
        rounding: plain_sigmoid
        fake_quantize: mask_a_quarter_step_too_wide
        int8_gemm: columns_in_sixteens
        quantize_network: one_scale_a_tensor, bias_forgotten
        quantization_parameters: small_scales_taken_for_zero, scale_of_float64
        fold_batchnorm: eps_of_torch, in_float64
        dequantize: difference_of_int8, in_float64
        fake_quantize: scale_as_a_number
        """,
    "lab5_tinyml": """
        firmware: block_means, rounded_down, block_skipped
        generate: first_image_alone
        depthwise: padding_never_cleared, square_images_alone, one_column_is_none,
            odd_sides_rounded_down
        conv3x3: padding_never_cleared, one_row_is_none
        patch_schedule: rows_of_the_same_padding, rows_as_if_padded_the_same
        conv1x1: ties_downwards, bias_of_16_bits, shifts_up_to_48, shifts_from_36,
            channels_20_and_28_cut, rows_in_static_memory, rows_on_the_stack, first_call_alone
        conv1x1: two_registers_of_a_double, assembly_inline, types_inferred
        peak_memory: tuple_of_sums, array
        """,
}


@dataclass(frozen=True)
class Failing:
    """A right function that fails in one case: ``source`` stands in for its cell.

    With ``{right}`` in it the reference's function is still there, under its name.
    """

    name: str
    cell: str
    source: str


FAILING = {
    "lab1_pruning": [
        Failing(
            "fine_grained_prune: raises at sparsity 0",
            "solution_fine_grained_prune",
            """
            {right}


            right = fine_grained_prune


            def fine_grained_prune(weight, sparsity):
                return right(weight, sparsity / bool(sparsity))
            """,
        ),
        Failing(
            "netadapt_proposals: raises where there is none",
            "solution_netadapt_proposals",
            """
            {right}


            right_proposals = netadapt_proposals


            def netadapt_proposals(*args, **options):
                found = right_proposals(*args, **options)
                return [proposal if proposal is not None else 1 / 0 for proposal in found]
            """,
        ),
        Failing(
            "nm_prune: not there, nm_pack right",
            "solution_nm_prune",
            """
            def nm_prune(*args):
                raise NotImplementedError
            """,
        ),
    ],
    "lab2_quantization": [
        Failing(
            "percentile_threshold: infinite",
            "solution_percentile_threshold",
            """
            def percentile_threshold(x, percent):
                return float("inf")
            """,
        ),
        Failing(
            "kmeans_quantize: hangs",
            "solution_kmeans_quantize",
            """
            def kmeans_quantize(*args, **options):
                while True:
                    pass
            """,
        ),
    ],
}


def main(
    lab: Annotated[str, typer.Argument(callback=known_lab)],
    beside: Annotated[Path | None, typer.Option(help="another checkout of the course")] = None,
    only: Annotated[str, typer.Option(help="answers with this in their name")] = "",
    root: Root = HERE,
) -> None:
    """Grade the answers of LAB that are named here, and print what each loses."""
    judges = {"now": root.resolve()} | ({"before": beside.resolve()} if beside else {})
    answers: list[Answer | Failing] = [*named(find(lab)), *FAILING.get(lab, [])]
    answers = [one for one in answers if only in one.name]
    found = {name: lost(where, root.resolve(), lab, answers) for name, where in judges.items()}
    columns = [*reversed(judges)]
    print(f"| answer | | {' | '.join(f'lost {name}' for name in columns)} |")
    print(f"|---|---|{'---:|' * len(columns)}")
    for one in answers:
        kind = "fails once" if isinstance(one, Failing) else KINDS[type(one)]
        shown = [f"{found[name][one.name]:g}" for name in columns]
        print(f"| `{one.name}` | {kind} | {' | '.join(shown)} |")


def named(lab: LabDefinition) -> list[Answer]:
    """The mutants and valid solutions of ``lab`` that are listed here."""
    lines = re.sub(r",\s+", ", ", dedent(NAMED[lab.name])).strip().splitlines()
    parts = [line.partition(": ") for line in lines]
    answers = {answer.name: answer for answer in (*lab.mutants, *lab.valid)}
    return [answers[f"{what}: {how}"] for what, _, hows in parts for how in hows.split(", ")]


def lost(
    judge: Path, root: Path, lab: str, answers: Sequence[Answer | Failing]
) -> dict[str, float]:
    """The points that each answer costs, by the judge in the checkout ``judge``.

    The notebook is that checkout's. Where an answer is an artifact, it is handed in alone, beside
    the reference's one from ``root``, so that a class takes minutes.
    """
    outputs = root / "solutions" / lab / "outputs" / "glyphs"
    artifacts = [one.artifact if isinstance(one, Answer) else None for one in answers]
    with tempfile.TemporaryDirectory(prefix="answers-") as folder:
        course = demo.lay_out(judge, Path(folder) / "course", lab)
        release.release(course.root, lab)
        notebook = hand_ins.solved(course, lab)
        for artifact in {None, *artifacts}:
            submit(course, lab, f"{REFERENCE}-{artifact}", notebook, outputs, artifact)
        for at, (answer, artifact) in enumerate(zip(answers, artifacts, strict=True)):
            if isinstance(answer, Answer) and artifact is not None:
                submit(course, lab, f"s{at:03}", notebook, outputs, artifact, answer.forge)
            else:
                submit(course, lab, f"s{at:03}", answered(notebook, answer))
        points = graded(judge, course, lab)
    return {
        answer.name: round(points[f"{REFERENCE}-{artifact}"] - points[f"s{at:03}"], 2)
        for at, (answer, artifact) in enumerate(zip(answers, artifacts, strict=True))
    }


def answered(notebook: NotebookNode, answer: Answer | Failing) -> NotebookNode:
    """A copy of ``notebook`` in which ``answer`` stands in for its cell."""
    copied = copy.deepcopy(notebook)
    cell = next(cell for cell in copied.cells if cells.grade_id(cell) == answer.cell)
    cell.source = dedent(answer.source).strip().replace("{right}", cell.source)
    return copied


def submit(
    course: Course,
    lab: str,
    student: str,
    notebook: NotebookNode,
    outputs: Path | None = None,
    artifact: str | None = None,
    forge: Forge | None = None,
) -> None:
    """Hand in ``notebook``, and one artifact of ``outputs``, altered by ``forge``."""
    folder = course.folder("submitted", student, lab)
    folder.mkdir(parents=True)
    nbformat.write(notebook, folder / f"{lab}.ipynb")
    if outputs is None or artifact is None:
        return
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(shutil.copytree(outputs, Path(scratch) / outputs.name))
        if forge is not None:
            forge(whole)
        (folder / "outputs" / outputs.name).mkdir(parents=True)
        for path in whole.glob(f"{artifact}.*"):
            shutil.copy(path, folder / "outputs" / outputs.name)


if __name__ == "__main__":
    typer.run(main)
