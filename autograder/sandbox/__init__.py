"""The sandbox for untrusted code: bubblewrap, resource limits, and the kernels inside.

Notebooks run in kernels that a warm process forks; C that was handed in runs as native programs or
on the emulated microcontroller. ``doctor`` tries every protection on this machine.
"""
