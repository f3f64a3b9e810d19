"""The course as nbgrader sees it: the repository is the course, the judge is its executor."""

from autograder import wire
from autograder.intake import keep

c = get_config()  # noqa: F821 - nbgrader defines it

c.CourseDirectory.course_id = "codesign"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "labs"
# What lies beside a source and must not reach students. Without "*.py" the solution itself would:
# nbgrader copies every sibling of the notebook.
c.CourseDirectory.ignore = [
    "outputs",
    "*.py",
    "*.pyc",
    "*.zip",
    "*.part",
    "__pycache__",
    ".ipynb_checkpoints",
]

# An untouched function raises only when called, so the cells around it still run; an untouched
# prediction raises at once, so that the measurement waits for it.
c.ClearSolutions.code_stub = {
    "python": '# YOUR CODE HERE\nraise NotImplementedError("this part is still to be written")'
}
c.ClearSolutions.text_stub = "*Your answer here.*"

wire(c)
keep.before_nbgrader()  # generate_assignment --force replaces labs/, with what was written there
