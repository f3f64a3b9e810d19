"""Right answers to Lab 1 in another style than the reference; each must keep full points.

They rely on what the notebook's docstrings promise and on the names that its own cells import, and
break ties, order sums and pick algorithms as the reference does not.
"""

from autograder.labs.lab1_pruning.valid import channels, criteria, encoding, netadapt, nm_sparsity

VALID = [
    *criteria.VALID,
    *channels.VALID,
    *netadapt.VALID,
    *nm_sparsity.VALID,
    *encoding.VALID,
]
