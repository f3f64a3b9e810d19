"""Mutation tests of the judge: the reference earns everything, every mutant loses its points.

``mutants`` is the vocabulary in which a lab's wrong answers are written, ``ledger`` remembers what
was proved, ``calibrate`` measures the reference over seeds for the targets.
"""
