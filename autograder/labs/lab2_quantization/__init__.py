"""Lab 2, Quantization: codebooks, integer networks, 4-bit weights and an int8 kernel.

Only the targets beside this file are visible to a student's notebook; it imports nothing here.
"""
