"""The proof of the judge: the reference earns everything, every mutant loses its own points.

``mutants`` is the vocabulary in which a lab's wrong answers are written, ``ledger`` remembers what
was proved, ``calibrate`` measures the reference over seeds for the targets.
"""
