"""Checks of Lab 2, Quantization, in the order of its notebook.

Every expected answer is computed in another way than a solution would: plain loops, Python's exact
integers and fractions, brute force over all roundings. Networks that were handed in are run by the
judge itself (:mod:`autograder.labs.lab2_quantization.integer_vgg`), kernels in a process of their
own (:mod:`autograder.sandbox.run_native`).
"""

from autograder.contract.definition import collected
from autograder.labs.lab2_quantization.checks import (
    adaround,
    calibration,
    codebooks,
    integer_layers,
    integer_networks,
    kernel,
    linear,
    quantize_network,
    requantization,
    training,
    w4_network,
)

CHECKS = collected(
    codebooks,
    linear,
    calibration,
    integer_layers,
    requantization,
    quantize_network,
    integer_networks,
    adaround,
    w4_network,
    training,
    kernel,
)
