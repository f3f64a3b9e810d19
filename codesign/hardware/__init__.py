"""Models of hardware, small enough to read: devices, energy, accelerators."""
