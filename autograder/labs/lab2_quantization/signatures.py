"""What Lab 2 promises about arguments and answers of its functions; its docstrings say the same.

Left out: that sums of products with their bias are what int32 holds, that ``levels`` is at most the
number of bins, that scales have the size of their axis. Checks and given cells hold that by
themselves. ``FakeQuantize`` is a class, the kernel is C: their text alone says what they get.
"""

from __future__ import annotations

from autograder.contract.signatures import (
    FLAG,
    MODEL,
    NONE,
    Either,
    Number,
    Other,
    Signature,
    Tensor,
)

ANY = Tensor("N ...")
BITS = Number(low=2, high=8)
CODE_BITS = Number(low=1, high=8)
CODES = Tensor("N ...", ("int64",), low=0, high=255)
AXIS = Either((NONE, Number(low=0)))
SCALE = Either((Tensor("", low=0), Tensor("axis", low=0)))
ZERO_POINT = Either((Tensor("", ("int32",)), Tensor("axis", ("int32",))))
ZERO = Number(low=-128, high=127)
CHANNEL = Tensor("O")
THRESHOLD = Number(whole=False, low=0)
PAIR = Other("pair of tensors", ("tuple", "list"))
LAYERS = Other("dict of layer name to weight and bias", ("dict",))
THRESHOLDS = Other("dict of layer name to float", ("dict",))
FILE = Other("dict of tensors", ("dict",))

SIGNATURES = {
    "kmeans_quantize": Signature({"weight": ANY, "bits": CODE_BITS}, returns=PAIR),
    "pack_codes": Signature(
        {"codes": CODES, "bits": CODE_BITS}, returns=Tensor("bytes", ("uint8",))
    ),
    "codebook_bytes": Signature({"count": Number(low=0), "bits": CODE_BITS}, returns=Number(low=0)),
    "codebook_gradient": Signature(
        {"gradient": ANY, "codes": Tensor("N ...", ("int64",), low=0), "entries": Number(low=1)},
        returns=Tensor("entries", ("float",)),
    ),
    "quantization_parameters": Signature(
        {"x": ANY, "bits": BITS, "symmetric": FLAG, "axis": AXIS}, returns=PAIR
    ),
    "linear_quantize": Signature(
        {"x": ANY, "scale": SCALE, "zero_point": ZERO_POINT, "bits": BITS, "axis": AXIS},
        returns=Tensor("N ...", ("int8",)),
    ),
    "dequantize": Signature(
        {
            "codes": Tensor("N ...", ("int8",)),
            "scale": SCALE,
            "zero_point": ZERO_POINT,
            "axis": AXIS,
        },
        returns=ANY,
    ),
    "percentile_threshold": Signature(
        {"x": ANY, "percent": Number(whole=False, low=0, high=100)}, returns=THRESHOLD
    ),
    "mse_threshold": Signature(
        {"x": ANY, "bits": Number(low=2, high=9), "candidates": Tensor("T", low=0)},
        returns=THRESHOLD,
    ),
    "kl_threshold": Signature(
        {"counts": Tensor("B", ("float64",), low=0), "levels": Number(low=1)},
        returns=Number(low=1),
    ),
    "fold_batchnorm": Signature(
        {
            "weight": Tensor("O I k k"),
            "gamma": CHANNEL,
            "beta": CHANNEL,
            "mean": CHANNEL,
            "var": Tensor("O", low=0),
            "eps": Number(whole=False, low=0),
        },
        returns=PAIR,
    ),
    "fixed_point": Signature(
        {"multiplier": Tensor("N ...", ("float64",), low=2.0**-32, high=2.0**30 - 1)}, returns=PAIR
    ),
    "requantize": Signature(
        {
            "sums": Tensor("N C ...", ("int32",)),
            "mantissa": Tensor("C", ("int32",), low=2**30),
            "shift": Tensor("C", ("int32",), low=1, high=62),
            "zero_point": ZERO,
            "low": Number(),
            "high": Number(),
        },
        returns=Tensor("N C ...", ("int32",)),
    ),
    "quantized_conv2d": Signature(
        {
            "codes": Tensor("N I H W", ("int8",)),
            "zero_point": ZERO,
            "weight": Tensor("O I 3 3", ("int8",), low=-127, high=127),
            "bias": Tensor("O", ("int32",)),
        },
        returns=Tensor("N O H W", ("int32",)),
    ),
    "quantized_linear": Signature(
        {
            "codes": Tensor("N K", ("int8",)),
            "zero_point": ZERO,
            "weight": Tensor("O K", ("int8",), low=-127, high=127),
            "bias": Tensor("O", ("int32",)),
        },
        returns=Tensor("N O", ("int32",)),
    ),
    "quantize_network": Signature(
        {
            "layers": LAYERS,
            "image": ANY,
            "thresholds": THRESHOLDS,
            "bits": Number(low=4, high=8),
            "axis": Either((NONE, Number(low=0, high=0))),
        },
        returns=FILE,
    ),
    "soft_round": Signature({"v": ANY}, returns=Tensor("N ...", ("float",))),
    "adaround": Signature(
        {
            "x": Either((Tensor("N I H W"), Tensor("N K"))),
            "target": Either((Tensor("N O H W"), Tensor("N O"))),
            "weight": Either((Tensor("O I 3 3"), Tensor("O K"))),
            "scale": THRESHOLD,
            "steps": Number(low=1),
        },
        returns=Either((Tensor("O I 3 3", ("int8",)), Tensor("O K", ("int8",)))),
    ),
    "train_w4a4": Signature({"model": MODEL}, returns=MODEL, changes=("model",)),
}
