"""Wrong answers to Lab 2. Each must lose points in its own check and in no other.

Most are a right answer with one part of its text replaced. Forgeries alter a copy of the reference
artifacts.
"""

from autograder.labs.lab2_quantization.mutants import (
    adaround,
    calibration,
    codebooks,
    int8_network,
    integer_layers,
    kernel,
    linear,
    quantize_network,
    requantization,
    training,
    w4_network,
)

MUTANTS = [
    *codebooks.MUTANTS,
    *linear.MUTANTS,
    *calibration.MUTANTS,
    *integer_layers.MUTANTS,
    *requantization.MUTANTS,
    *quantize_network.MUTANTS,
    *int8_network.MUTANTS,
    *adaround.MUTANTS,
    *w4_network.MUTANTS,
    *training.MUTANTS,
    *kernel.MUTANTS,
]
