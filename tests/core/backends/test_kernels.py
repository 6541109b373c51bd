"""Random numbers, updates and matrix products of the CPU backend against what they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import random
from core.backends.cpu import backend
from core.backends.cpu.kernels import crop_flip, gemm, philox, update
from core.config.architecture import Architecture
from core.config.hyperparameters import Hyperparameters
from core.config.settings import AUGMENTATIONS, Settings
from core.network.parameters import Model, parameter_shapes
from core.training import optimisers
from core.training.augment import augment, shifted

SHAPES = {
    name: shape
    for name, shape in parameter_shapes(Architecture((2, 6, 7), (3, 5), 5, residual=True)).items()
    if not name.startswith("running")
}


@pytest.mark.parametrize(("seeds", "step", "count"), [(1, 0, 1), (3, 2**31, 77), (2, 5, 4 * 2**11), (1, 9, 100_001)])
def test_uniform_numbers_are_those_of_the_reference(seeds: int, step: int, count: int) -> None:
    seed = np.random.default_rng(0).integers(0, 2**63, seeds).astype(np.uint64) * np.uint64(2)
    drawn = philox.uniform(seed, 2, step, count)
    np.testing.assert_array_equal(drawn, random.uniform(seed, 2, step, count))
    assert drawn.dtype == np.float32


def arrays(seed: int, trials: int, scale: float = 1.0) -> Model:
    rng = np.random.default_rng(seed)
    return {name: (scale * rng.standard_normal((trials, *shape))).astype(np.float32) for name, shape in SHAPES.items()}


MIXED = {
    "sgd": [{}, {"clip": 0.5, "reg": 0.1}, {"clip_global": 0.2, "clip": 0}],
    "sgd with momentum": [{"momentum": 0.9, "reg": 0.3}, {"momentum": 0.5, "nesterov": True, "clip": 1}, {}],
    "adam": [{}, {"beta1": 0.5, "beta2": 0.9, "reg": 0.1, "clip": 0.1}, {"adam_eps": 0.1}],
    "adamw": [{}, {"reg": 0.1, "clip_global": 0.3}, {"reg": 0.01, "beta1": 0.0}],
}


def group(name: str) -> Hyperparameters:
    return Hyperparameters.of([Settings(**settings) for settings in MIXED[name]])


@pytest.mark.parametrize("name", MIXED)
def test_twenty_updates_are_those_of_the_reference(name: str) -> None:
    trials, optimiser = group(name), name.split()[0]
    slow, fast = arrays(0, 3), arrays(0, 3)
    memory, quick = (optimisers.initial_state(optimiser, model, trials) for model in (slow, fast))
    for number in range(20):
        lr = np.array([0.1, 0.01, 0.02]) / (number + 1)
        expected = optimisers.update(slow, arrays(number, 3), memory, trials, lr, number, optimiser=optimiser)
        norm = update.update(fast, arrays(number, 3), quick, trials, lr, number, optimiser=optimiser)
        np.testing.assert_allclose(norm, expected, rtol=1e-6)
    for mine, theirs in ((fast, slow), (quick, memory)):
        for tensor, values in theirs.items():
            assert mine[tensor].dtype == np.float32
            np.testing.assert_allclose(mine[tensor], values, rtol=2e-6, atol=2e-6, err_msg=tensor)


@pytest.mark.parametrize("name", MIXED)
def test_a_trial_is_updated_alike_alone_and_beside_a_broken_one(name: str) -> None:
    trials, optimiser, lr = group(name), name.split()[0], np.array([0.1, 0.2, 0.3])
    together, gradients = arrays(0, 3), arrays(1, 3)
    state = optimisers.initial_state(optimiser, together, trials)
    for values in gradients.values():
        values[0] = np.nan
    alone = {tensor: values[1:2].copy() for tensor, values in together.items()}
    memory = {tensor: values[1:2].copy() for tensor, values in state.items()}
    update.update(
        alone,
        {t: v[1:2].copy() for t, v in gradients.items()},
        memory,
        trials.take([1]),
        lr[1:2],
        0,
        optimiser=optimiser,
    )
    update.update(together, gradients, state, trials, lr, 0, optimiser=optimiser)
    for tensor, values in alone.items():
        np.testing.assert_array_equal(together[tensor][1:2], values, err_msg=tensor)
        assert np.isnan(together[tensor][0]).all()


def test_float64_is_left_to_the_reference() -> None:
    trials = group("sgd")
    models = [{name: v.astype(np.float64) for name, v in arrays(0, 3).items()} for _ in range(2)]
    for model, step in zip(models, (optimisers.update, update.update), strict=True):
        gradients = {name: v.astype(np.float64) for name, v in arrays(1, 3).items()}
        step(model, gradients, {}, trials, np.ones(3), 0, optimiser="sgd")
    for name, values in models[0].items():
        np.testing.assert_array_equal(models[1][name], values)


@settings(derandomize=True, deadline=None, max_examples=40, database=None)
@given(
    n=st.integers(1, 60), c=st.integers(1, 4), height=st.integers(1, 20), width=st.integers(1, 40),
    part=st.floats(0, 1), dtype=st.sampled_from([np.float32, np.float64]),
)  # fmt: skip
def test_images_are_shifted_as_the_reference_does(
    n: int, c: int, height: int, width: int, part: float, dtype: type
) -> None:
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, c, height, width)).astype(dtype)
    x[0, 0, 0] = np.nan
    x.flags.writeable = False  # what trials share
    most = round(part * min(height, width))
    top, left = rng.integers(0, 2 * most + 1, (2, n))
    mirrored = rng.random(n) < 0.5
    moved = crop_flip.shifted(x, most, top, left, mirrored)
    assert moved.dtype == dtype
    np.testing.assert_array_equal(moved, shifted(x, most, top, left, mirrored))


@pytest.mark.parametrize("strength", [{"flip": 0.5}, {"crop": 2}, {"flip": 0.3, "crop": 5, "noise": 0.1, "cutout": 2}])
@pytest.mark.parametrize("shape", [(1, 5, 8), (3, 32, 32)], ids=str)  # the kernels share out what is large
def test_a_batch_is_augmented_as_the_reference_does(shape: tuple[int, int, int], strength: dict[str, float]) -> None:
    x = np.random.default_rng(0).random((1, 70, *shape)).astype(np.float32)
    rows = np.array([[strength.get(name, 0) for name in AUGMENTATIONS], [0.0] * len(AUGMENTATIONS)])
    mine = backend.augment(x, rows, 2**40 + 3, 17)
    np.testing.assert_array_equal(mine, augment(x, rows, 2**40 + 3, 17))
    np.testing.assert_array_equal(mine[1], x[0])
    assert not np.array_equal(mine[0], x[0])


@settings(derandomize=True, deadline=None, max_examples=30, database=None)
@given(rows=st.integers(1, 40), depth=st.integers(1, 40), vectors=st.integers(1, 5), packs=st.booleans())
def test_products_of_every_size(rows: int, depth: int, vectors: int, packs: bool) -> None:
    columns = vectors * gemm.LANES
    rng = np.random.default_rng(rows * depth)
    a = rng.standard_normal((rows, depth)).astype(np.float32)
    b = rng.standard_normal((depth, columns)).astype(np.float32)
    c = np.ones((gemm.rounded(rows, gemm.ROWS), columns), np.float32)
    stored, stride = b, 4 * columns
    if packs:
        stored, stride = np.empty(b.size, np.float32), 0
        for k in range(depth):
            for j in range(0, columns, gemm.LANES):
                place = gemm.packed(k, j, depth, columns)
                stored[place : place + gemm.LANES] = b[k, j : j + gemm.LANES]
    offsets = gemm.strided(rows, depth), gemm.strided(depth, 1)
    for overwrite, expected in ((1, a @ b), (0, 2 * (a @ b))):
        gemm.gemm(
            a.ctypes.data, offsets[0].ctypes.data, rows, offsets[1].ctypes.data, depth,
            stored.ctypes.data, stride, columns, c.ctypes.data, 4 * columns, overwrite,
        )  # fmt: skip
        np.testing.assert_allclose(c[:rows], expected, rtol=1e-5, atol=1e-5)
