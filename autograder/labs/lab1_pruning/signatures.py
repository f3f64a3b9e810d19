"""What Lab 1 promises about arguments and answers of its functions; its docstrings say the same.

Left out: that ``reconstruct`` has as many rows as columns or more, that ``keep`` ascends, that a
mask of ``nm_pack`` keeps two of every four. Checks and given cells hold that by themselves.
"""

from __future__ import annotations

from autograder.contract.signatures import (
    MODEL,
    NONE,
    Either,
    Many,
    Number,
    Other,
    Signature,
    Tensor,
)

IMAGES = Tensor("n 3 32 32", ("uint8",))
LABELS = Tensor("n", ("int64",), low=0, high=9)
WIDTHS = Many(Number(low=1), low=1)
SECONDS = Tensor("layer c_in c_out", ("float64",), low=0)
CODES = Tensor("n", ("int64",), low=0, high=255)
BITS = Number(low=1, high=8)
MASKS = Other("dict of layer name to bool mask", ("dict",))
MASK_LISTS = Other("dict of layer name to list of bool masks", ("dict",))
ACCURACIES = Other("dict of layer name to list of float in 0..1", ("dict",))
CALLABLE = Other("function", ("function",))
STREAM = Other("dict of four tensors", ("dict",))
PAIR = Other("pair", ("tuple", "list"))

SIGNATURES = {
    "fine_grained_prune": Signature(
        {"weight": Tensor("..."), "sparsity": Number(whole=False, low=0, high=1)},
        returns=Tensor("...", ("bool",)),
    ),
    "sensitivity_scan": Signature(
        {"model": MODEL, "images": IMAGES, "labels": LABELS, "masks": MASK_LISTS},
        returns=ACCURACIES,
    ),
    "second_order_scores": Signature(
        {"features": Tensor("n k"), "weight": Tensor("c k"), "bias": Tensor("c")},
        returns=Tensor("c k"),
    ),
    "prune_and_finetune": Signature(
        {
            "model": MODEL,
            "masks": MASKS,
            "images": IMAGES,
            "labels": LABELS,
            "epochs": Number(whole=False, low=0),
            "resume": Either((NONE, Other("path", ("PurePath",)))),
        },
        returns=MODEL,
        changes=("model",),
    ),
    "channel_importance": Signature(
        {"weight": Tensor("c_out c_in k k")}, returns=Tensor("c_out", low=0)
    ),
    "channel_prune": Signature(
        {"model": MODEL, "layer": Number(low=0), "keep": Tensor("kept", ("int64",), low=0)},
        returns=MODEL,
    ),
    "reconstruct": Signature(
        {"inputs": Tensor("n k"), "outputs": Tensor("n c")}, returns=Tensor("c k")
    ),
    "netadapt_proposals": Signature(
        {
            "widths": WIDTHS,
            "table": SECONDS,
            "target_s": Number(whole=False, low=0),
            "step": Number(low=1),
        },
        returns=Many(Either((Number(low=1), NONE)), low=1),
    ),
    "netadapt_round": Signature(
        {
            "widths": WIDTHS,
            "table": SECONDS,
            "target_s": Number(whole=False, low=0),
            "step": Number(low=1),
            "candidate": CALLABLE,
            "score": CALLABLE,
        },
        returns=Either((NONE, MODEL, PAIR)),
    ),
    "nm_prune": Signature(
        {"weight": Tensor("... k"), "n": Number(low=1), "m": Number(low=1)},
        returns=Tensor("... k", ("bool",)),
    ),
    "nm_pack": Signature(
        {"weight": Tensor("... k"), "mask": Tensor("... k", ("bool",))},
        returns=PAIR,
        sizes={"k": (8, 8)},
    ),
    "relative_index": Signature({"codes": CODES, "bits": BITS}, returns=PAIR),
    "huffman_lengths": Signature(
        {"counts": Tensor("s", ("int64",), low=0)}, returns=Tensor("s", ("int64",), low=0)
    ),
    "encode": Signature({"codes": CODES, "bits": BITS}, returns=STREAM),
}
