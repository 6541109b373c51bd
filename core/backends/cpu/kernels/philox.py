"""core.random's uniform numbers, bit for bit, many at a time."""

from __future__ import annotations

import numpy as np
from numba import prange

from core.backends.cpu.kernels.buffers import empty
from core.backends.cpu.kernels.jit import kernel, parallel

_PIECE = 2**11  # blocks of four numbers that one thread draws at a time
_ROUNDS = 10
_MULTIPLY_A, _MULTIPLY_B = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_ADD_A, _ADD_B = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_TO_UNIT = np.float32(2.0**-24)


@kernel("void(uint64, uint64, uint64, int64, uint32[:,::1], float32[:,::1])")
def _draw(seed, purpose, step, first, words, out):  # type: ignore[no-untyped-def]
    """A piece of a seed's numbers, from block first on. The words of a block lie apart at first: so LLVM vectorises."""
    for i in range(len(out)):
        c0, c1, c2, c3 = np.uint64(first + i), step, purpose, np.uint64(0)
        k0, k1 = seed & _LOW, seed >> _HALF
        for _ in range(_ROUNDS):
            a, b = (c0 & _LOW) * _MULTIPLY_A, (c2 & _LOW) * _MULTIPLY_B
            c0, c1, c2, c3 = (b >> _HALF) ^ c1 ^ k0, b & _LOW, (a >> _HALF) ^ c3 ^ k1, a & _LOW
            k0, k1 = (k0 + _ADD_A) & _LOW, (k1 + _ADD_B) & _LOW
        words[0, i], words[1, i], words[2, i], words[3, i] = c0, c1, c2, c3
    for i in range(len(out)):
        for k in range(4):
            out[i, k] = np.float32(np.int32(words[k, i] >> np.uint32(8))) * _TO_UNIT


@parallel("void(uint64, uint64, uint64, float32[:,::1])")
def _draw_all(seed, purpose, step, out):  # type: ignore[no-untyped-def]
    for piece in prange(-(-len(out) // _PIECE)):
        words = np.empty((4, _PIECE), np.uint32)
        first = piece * _PIECE
        _draw(seed, purpose, step, first, words, out[first : first + _PIECE])


def uniform(seeds: np.ndarray, purpose: int, step: int, count: int) -> np.ndarray:
    """(S, count) float32 in [0, 1): see core.random.uniform."""
    blocks = -(-count // 4)
    out = empty((len(seeds), blocks, 4))
    for seed, numbers in zip(seeds.astype(np.uint64), out, strict=True):
        if blocks < 2 * _PIECE:  # too little to share
            _draw(seed, int(purpose), step, 0, np.empty((4, blocks), np.uint32), numbers)
        else:
            _draw_all(seed, int(purpose), step, numbers)
    return np.ascontiguousarray(out.reshape(len(seeds), -1)[:, :count])
