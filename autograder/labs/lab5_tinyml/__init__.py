"""Lab 5: plan the memory of a microcontroller, write its kernels in C, generate its program."""
