"""The fast operations for a CPU, by Numba."""
