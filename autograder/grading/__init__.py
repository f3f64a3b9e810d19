"""Grade a class: execute and judge each submission, and record it in the gradebook.

A unit of work is bytes in and bytes out, so that it runs in this process, in a pool of workers or
on a cluster. nbgrader's own commands reach the judge through the plug-ins here.
"""
