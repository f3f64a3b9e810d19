"""Checks of Lab 5, TinyML, in the order of its notebook.

C that was handed in is compiled and emulated (:mod:`autograder.sandbox.run_firmware`) on shapes and
numbers that the text has never seen, with guards around every array; its cycles are compared with
those of the loops that the lab hands out. Expected numbers come from exact integers.
"""

from autograder.contract.definition import collected
from autograder.labs.lab5_tinyml.checks import firmware, kernels, patches, planning

CHECKS = collected(planning, patches, kernels, firmware)
