"""Wrong answers on purpose, one module for each lab: what the grader must catch to be trusted."""
