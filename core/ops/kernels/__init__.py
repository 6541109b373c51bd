"""The CPU backend's kernels, compiled by Numba. core.ops.cpu loads them."""
