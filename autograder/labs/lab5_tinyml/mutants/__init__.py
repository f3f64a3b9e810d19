"""Wrong answers to Lab 5. Each must lose points in its own check and in no other.

Most are a right answer with one thing wrong: a changed part of a cell, or of the C that the
reference handed in.
"""

from autograder.labs.lab5_tinyml.mutants import firmware, kernels, patches, planning

MUTANTS = [*planning.MUTANTS, *patches.MUTANTS, *kernels.MUTANTS, *firmware.MUTANTS]
