"""Lab 1: prune weights, channels and N:M patterns, and code what is left.

Checked are the student's functions on hidden inputs, and three artifacts that are measured again: a
sparse network, a fast one, and a compressed file.
"""
