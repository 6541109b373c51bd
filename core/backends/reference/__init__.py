"""What every operation means, for NumPy and CuPy arrays."""
