"""The fast operations for a GPU, in CUDA C++: how work is cut for the kernels, and how they are launched."""
