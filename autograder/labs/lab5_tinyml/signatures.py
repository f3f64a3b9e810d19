"""What Lab 5 promises about arguments and answers of its functions; its docstrings say the same.

Left out: that an input was written before, that a tensor lies in place only where nobody reads it
later, and that padding is smaller than its kernel. The checks hold that by themselves. The kernels
are C: their contracts stand in the lab's text and in ``checks/kernel_cases``.
"""

from __future__ import annotations

from autograder.contract.signatures import Many, Number, Other, Signature

OPERATORS = Many(Other("dict of an operator", ("dict",)), low=1)
SIZES = Other("dict of name to bytes", ("dict",))
TABLE = Other("dict by the names of tensors", ("dict",))
LAYER = Many(Number(low=0), low=3, high=3)

SIGNATURES = {
    "peak_memory": Signature(
        {"operators": OPERATORS, "sizes": SIZES}, returns=Many(Number(low=0), low=1)
    ),
    "plan_memory": Signature(
        {"operators": OPERATORS, "sizes": SIZES, "in_place": Many(Number(low=0))}, returns=SIZES
    ),
    "patch_schedule": Signature(
        {"layers": Many(LAYER, low=1), "size": Number(low=1), "patches": Number(low=1)},
        returns=Many(Many(Many(Number(low=0), low=4, high=4))),
    ),
    "generate": Signature(
        {"operators": OPERATORS, "shapes": TABLE, "zeros": TABLE, "offsets": SIZES},
        returns=Other("C text", ("str",)),
    ),
}
