"""Wrong answers to Lab 1. Each must lose points in its own check and in no other.

Sources stand for a whole solution cell; forgeries alter a copy of the reference artifacts in
``outputs/<dataset>``, whose name says the data set.
"""

from autograder.labs.lab1_pruning.mutants import (
    channels,
    criteria,
    encoding,
    finetuning,
    netadapt,
    networks,
    nm_sparsity,
    reconstruction,
    second_order,
)

MUTANTS = [
    *criteria.MUTANTS,
    *second_order.MUTANTS,
    *finetuning.MUTANTS,
    *networks.SPARSE_MODEL,
    *channels.MUTANTS,
    *reconstruction.MUTANTS,
    *netadapt.MUTANTS,
    *networks.FAST_MODEL,
    *nm_sparsity.MUTANTS,
    *encoding.MUTANTS,
    *networks.COMPRESSED,
]
