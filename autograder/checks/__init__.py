"""The checks, one module for each lab: the judge's own oracles, which no notebook imports."""
