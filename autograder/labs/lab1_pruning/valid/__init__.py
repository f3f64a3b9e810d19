"""Right answers to Lab 1 in another style than the reference; each must keep full points.

They rely on what the notebook's docstrings promise and on the names that its own cells import, and
break ties, order sums and pick algorithms as the reference does not.
"""

from autograder.labs.lab1_pruning.valid import (
    channels,
    criteria,
    encoding,
    finetuning,
    netadapt,
    nm_sparsity,
    reconstruction,
    second_order,
)

VALID = [
    *criteria.VALID,
    *second_order.VALID,
    *finetuning.VALID,
    *channels.VALID,
    *reconstruction.VALID,
    *netadapt.VALID,
    *nm_sparsity.VALID,
    *encoding.VALID,
]
