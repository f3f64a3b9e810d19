"""Submissions on their way in: collected, unpacked, sanitized and put into the release.

Exports and archives are collected into nbgrader's layout; of a submission, answers and artifacts
are let in and the rest is left behind. It also generates releases, which intake starts from.
"""
