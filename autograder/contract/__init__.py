"""The interface of judge and notebook: checks, rows, verdicts, targets, artifacts.

Everything here is imported on both sides of the kernel boundary, so it needs no grading package.
It knows neither nbgrader nor the sandbox; all other rooms of the judge build on it.
"""
