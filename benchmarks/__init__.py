"""Benchmarks: one script a figure, peers side by side in one interleaved run (``make bench``)."""
