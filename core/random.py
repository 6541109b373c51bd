"""Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).

A value depends on (seed, purpose, step, index) and on nothing else: not on the group a trial is in,
on what was drawn before, or on the device. The key is the seed's two 32-bit halves; the counter is
(index // 4, step, purpose, 0); word index % 4 of the block is the value.
"""

from __future__ import annotations

import sys
from enum import IntEnum
from types import ModuleType
from typing import Any

import numpy as np

Array = Any  # numpy.ndarray, or cupy.ndarray on a GPU

_ROUNDS = 10
_MULTIPLIER = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF


def module_of(x: Array) -> ModuleType:
    """numpy or cupy, whichever x belongs to, without importing either."""
    return sys.modules[type(x).__module__.partition(".")[0]]


class Purpose(IntEnum):
    """What numbers are drawn for; each purpose is a stream of its own."""

    SPLIT = 0
    ORDER = 1
    DROPOUT = 2
    FLIP = 3
    CROP = 4
    ROTATE = 5
    COLOUR = 6
    NOISE = 7
    CUTOUT = 8
    INITIAL = 16  # INITIAL + k draws the k-th tensor's initial values


def philox(counter: list[Array], key: list[Array], xp: ModuleType = np) -> list[Array]:
    """Ten Philox rounds on four counter words and two key words (uint64 arrays holding 32-bit values)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    low = xp.uint64(_LOW)
    half = xp.uint64(32)
    for _ in range(_ROUNDS):
        a = c0 * xp.uint64(_MULTIPLIER[0])
        b = c2 * xp.uint64(_MULTIPLIER[1])
        c0, c1, c2, c3 = (b >> half) ^ c1 ^ k0, b & low, (a >> half) ^ c3 ^ k1, a & low
        k0 = (k0 + xp.uint64(_WEYL[0])) & low
        k1 = (k1 + xp.uint64(_WEYL[1])) & low
    return [c0, c1, c2, c3]


def random_bits(seed: Array, purpose: int, step: int, count: int, xp: ModuleType = np) -> Array:
    """Random 32-bit words.

    seed     (S,) integers below 2**64
    purpose  one of Purpose, or any integer below 2**32
    step     below 2**32

    Returns (S, count) uint32.
    """
    seed = xp.asarray(seed).astype(xp.uint64).reshape(-1, 1)
    index = xp.arange(-(-count // 4), dtype=xp.uint64).reshape(1, -1)
    zero = xp.uint64(0)
    counter = [index, zero + xp.uint64(step), zero + xp.uint64(purpose), zero]
    key = [seed & xp.uint64(_LOW), seed >> xp.uint64(32)]
    words = xp.stack(philox(counter, key, xp), axis=-1)
    return words.reshape(len(seed), -1)[:, :count].astype(xp.uint32)


def uniform(seed: Array, purpose: int, step: int, count: int, xp: ModuleType = np) -> Array:
    """Uniform numbers in [0, 1): the upper 24 bits of each word, so that float32 holds them exactly.

    Returns (S, count) float32.
    """
    bits = random_bits(seed, purpose, step, count, xp)
    return (bits >> xp.uint32(8)).astype(xp.float32) * xp.float32(2.0**-24)


def normal(seed: Array, purpose: int, step: int, count: int) -> np.ndarray:
    """Standard normal numbers by Box and Muller (1958), on the host: every device starts from the same values.

    Returns (S, count) float64.
    """
    pairs = -(-count // 2)
    bits = random_bits(seed, purpose, step, 2 * pairs).astype(np.float64)
    u = (bits + 0.5) * 2.0**-32  # in (0, 1): the logarithm is finite
    radius = np.sqrt(-2.0 * np.log(u[:, :pairs]))
    angle = 2.0 * np.pi * u[:, pairs:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :count]


def permutation(seed: int, purpose: int, step: int, count: int) -> np.ndarray:
    """A random order of range(count): the stable sort of 64-bit random keys. Returns (count,) int64."""
    words = random_bits(np.array([seed], np.uint64), purpose, step, 2 * count)[0].astype(np.uint64)
    keys = (words[:count] << np.uint64(32)) | words[count:]
    return np.argsort(keys, kind="stable")
