"""From a submission to a row of the gradebook: execute, judge, record, for a whole class.

A unit of work is bytes in and bytes out, so that it runs in this process, in a pool of workers or
on a cluster. nbgrader's own commands reach the judge through the plug-ins here.
"""
