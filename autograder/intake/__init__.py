"""From what was handed in to what is judged: the only room that opens a student's files.

Exports and archives are collected into nbgrader's layout; of a submission, answers and artifacts
are let in and the rest is left behind. It also generates releases, which intake starts from.
"""
