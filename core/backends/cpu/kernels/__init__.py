"""The CPU backend's kernels, compiled by Numba. core.backends.cpu.backend loads them."""
