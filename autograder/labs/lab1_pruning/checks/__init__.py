"""Checks of Lab 1, Pruning, in the order of its notebook.

Every expected answer is computed in another way than a solution would: brute force, autograd, a
masked model, a decoder. Sizes, seeds and models of the hidden cases differ from the public ones.
"""

from autograder.contract.definition import collected
from autograder.labs.lab1_pruning.checks import (
    channels,
    criteria,
    encoding,
    netadapt,
    networks,
    nm_sparsity,
    reconstruction,
    second_order,
)

CHECKS = collected(
    criteria,
    second_order,
    channels,
    reconstruction,
    netadapt,
    nm_sparsity,
    encoding,
    networks,
)
