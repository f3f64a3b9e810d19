"""Names of environment variables, and the public seed, that judge and notebooks share."""

from __future__ import annotations

GRADING = "CODESIGN_GRADING"  # set in a kernel that grades: nothing is trained there
OUTPUTS = "CODESIGN_OUTPUTS"  # where artifacts are kept, other than in ./outputs
DATASET = "CODESIGN_DATASET"  # the image set, pinned; datasets.choose reads it, too
SEED = "CODESIGN_SEED"  # of a reference's trainings
UNISOLATED = "CODESIGN_UNISOLATED"  # "1": grade without a sandbox
DATABASE = "CODESIGN_DB"  # an SQLAlchemy URL, for instance postgresql+psycopg://grader@db/course
LABS = "CODESIGN_LABS"  # folders of further labs, separated like $PATH

PUBLIC_SEED = 0  # of the cases that students see; the judge's own seed is secret
