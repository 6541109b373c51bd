"""Backends with kernels of their own, on shapes of every kind, operation by operation and network by network."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from core.backends.reference.backend import OPS as REFERENCE
from core.config.architecture import Architecture
from core.config.hyperparameters import Hyperparameters
from core.config.settings import Settings
from core.data.images import Images
from core.network.parameters import Model, initial_model
from core.ops import Ops
from core.training.optimisers import initial_state
from tests.helpers.backends import FAST, TENSOR_CORES, loaded
from tests.helpers.cases import NETWORKS, Case, Inputs, worst_excess
from tests.helpers.slow import slow

same_every_time = settings(
    derandomize=True, deadline=None, max_examples=40, database=None, suppress_health_check=[HealthCheck.filter_too_much]
)


@pytest.fixture(scope="module", params=[*FAST, *slow("a GPU's kernels on a CPU, once more", TENSOR_CORES)])
def fast(request: pytest.FixtureRequest) -> Ops:
    return loaded(request.param)


# ------------------------------------------------------------------------------------------------ shapes of every kind


@st.composite
def blocks(draw: st.DrawFn, inference: bool = False) -> Case:
    """A block of any size: channels around the width of a vector, odd images, short batches, gamma of every sign."""
    trials, pool, pad = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    images = draw(st.integers(1, 19))
    channels, filters = (draw(st.one_of(st.integers(1, 5), st.sampled_from([15, 16, 17, 32, 40]))) for _ in range(2))
    height, width = (draw(st.integers(3, 12)) for _ in range(2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    inputs = {
        "x": rng.standard_normal((draw(st.sampled_from([1, trials])), images, channels, height, width)),
        "w": rng.standard_normal((trials, filters, channels, 3, 3)) / np.sqrt(9 * channels),
        "b": rng.standard_normal((trials, filters)),
        "gamma": rng.choice([-1.5, 0.0, 0.5, 2.0], (trials, filters)),
        "beta": rng.standard_normal((trials, filters)),
    }
    if inference:
        inputs |= {"mean": rng.standard_normal((trials, filters)), "variance": rng.uniform(0.5, 2, (trials, filters))}
    if draw(st.booleans()):
        out = height + 2 * pad - 2, width + 2 * pad - 2
        inputs["shortcut"] = rng.standard_normal((draw(st.sampled_from([1, trials])), images, filters, *out))
    options = {"pad": pad, "pool": pool}
    if inference:
        return Case("block_inference", inputs, ("y",), (), options)
    assume(images * (height + 2 * pad - 2) * (width + 2 * pad - 2) > 1)
    assume(not at_a_kink(inputs, pad, pool))
    wanted = ("x", "w", "b", "gamma", "beta", *(["shortcut"] if "shortcut" in inputs else []))
    return Case("block", inputs, ("y", "mean", "variance"), wanted, options)


def at_a_kink(inputs: Inputs, pad: int, pool: int) -> bool:
    """Whether rounding could decide if a value passes ReLU, or which of a window is the largest."""
    z, _ = REFERENCE.conv2d(inputs["x"], inputs["w"], inputs["b"], pad=pad)
    z = REFERENCE.batch_norm(z, inputs["gamma"], inputs["beta"])[0] + inputs.get("shortcut", 0.0)
    below, beside = z.shape[3] // pool, z.shape[4] // pool
    windows = z[..., : below * pool, : beside * pool].reshape(*z.shape[:3], below, pool, beside, pool)
    ordered = np.sort(windows.swapaxes(4, 5).reshape(*z.shape[:3], below, beside, -1))
    steps = np.abs(np.diff(ordered[..., -2:], prepend=-1)[..., -1:])
    return bool((np.abs(z) < 1e-5).any() or ((steps > 0) & (steps < 1e-5)).any())


@same_every_time
@given(case=blocks())
def test_any_block_errs_little(fast: Ops, case: Case) -> None:
    assert worst_excess(case, fast) <= 1


@same_every_time
@given(case=blocks())
def test_any_first_block_errs_little(fast: Ops, case: Case) -> None:
    assert worst_excess(case, fast, need_dx=False) <= 1


@same_every_time
@given(case=blocks(inference=True))
def test_any_block_in_test_mode_errs_little(fast: Ops, case: Case) -> None:
    assert worst_excess(case, fast) <= 1


@st.composite
def heads(draw: st.DrawFn) -> Case:
    trials, images = draw(st.integers(1, 3)), draw(st.integers(1, 40))
    channels, classes = draw(st.sampled_from([1, 3, 16, 20])), draw(st.sampled_from([2, 10, 16, 33]))
    height, width = (draw(st.integers(1, 6)) for _ in range(2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = channels * height * width
    inputs = {
        "x": rng.standard_normal((trials, images, channels, height, width)),
        "w": rng.standard_normal((trials, size, classes)) / np.sqrt(size),
        "b": rng.standard_normal((trials, classes)),
        "labels": rng.integers(0, classes, images),
        "rate": rng.choice(draw(st.sampled_from([[0.0], [0.0, 0.5, 0.9]])), trials),
        "seed": rng.integers(0, 2, trials).astype(np.uint64),
        "step": 3,
    }
    return Case("head", inputs, ("loss", "correct"), ("x", "w", "b"))


@same_every_time
@given(case=heads())
def test_any_head_errs_little(fast: Ops, case: Case) -> None:
    assert worst_excess(case, fast) <= 1


@pytest.mark.parametrize("shape", [(1, 1, 2, 1, 1), (2, 1, 33, 5, 7), (3, 300, 16, 1, 1)])
def test_a_projection_errs_little(fast: Ops, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    inputs = {
        "x": rng.standard_normal(shape),
        "w": rng.standard_normal((3, 17, shape[2], 1, 1)) / np.sqrt(shape[2]),
        "b": rng.standard_normal((3, 17)),
    }
    for x in (inputs["x"], np.repeat(inputs["x"][:1], 3, axis=0)):
        case = Case("conv2d", inputs | {"x": x if len(x) in (1, 3) else x[:1]}, ("y",), ("x", "w", "b"), {"pad": 0})
        assert worst_excess(case, fast) <= 1


def test_a_value_alone_cannot_be_normalised(fast: Ops) -> None:
    x, w, c = (fast.xp.ones(shape, np.float32) for shape in ((1, 1, 1, 1, 1), (1, 2, 1, 3, 3), (1, 2)))
    with pytest.raises(ValueError, match="batch of 2"):
        fast.block(x, w, c, c, c, pad=1, pool=1)


def test_equal_values_pool_like_the_first_and_nan_spreads(fast: Ops) -> None:
    x = np.zeros((1, 2, 20, 4, 4), np.float32)
    x[0, 1] = np.nan
    x = fast.xp.asarray(x)
    w, one = fast.xp.ones((1, 3, 20, 3, 3), np.float32), fast.xp.ones((1, 3), np.float32)
    running = {"mean": 0 * one, "variance": one}
    y = fast.to_host(fast.block_inference(x, w, 0 * one, one, one, **running, pad=1))
    np.testing.assert_array_equal(y[0, 0], np.ones((3, 2, 2)))
    assert np.isnan(y[0, 1]).all()
    *_, saved = fast.block(x[:, :1], w, 0 * one, one, one, fast.xp.zeros((1, 1, 3, 4, 4), np.float32), pad=1)
    *_, gradient = fast.block_grad(fast.xp.ones((1, 1, 3, 2, 2), np.float32), saved)
    expected = np.zeros((4, 4))
    expected[::2, ::2] = 1  # of equals the first, in row order
    np.testing.assert_array_equal(fast.to_host(gradient)[0, 0], np.broadcast_to(expected, (3, 4, 4)))


def test_read_only_and_oddly_laid_out_arrays_are_welcome(fast: Ops) -> None:
    rng = np.random.default_rng(0)
    xp = fast.xp
    x = xp.asarray(rng.standard_normal((1, 5, 6, 7, 16)).astype(np.float32))[:, ::-1].transpose(0, 1, 4, 2, 3)
    w, c = xp.asarray(rng.standard_normal((2, 16, 16, 3, 3)).astype(np.float32)), xp.ones((2, 16), np.float32)
    if isinstance(x, np.ndarray):
        x.flags.writeable = False
    expected, *_, saved = fast.block(xp.ascontiguousarray(x), w, c, c, c)
    y, *_ = fast.block(x, w, c, c, c)
    np.testing.assert_array_equal(fast.to_host(y), fast.to_host(expected))
    dy = xp.broadcast_to(xp.asarray(np.float32(1)), y.shape)
    found = (fast.to_host(fast.block_grad(gradient, saved)[1]) for gradient in (dy, dy.copy()))
    np.testing.assert_array_equal(*found)


# ------------------------------------------------------------------------------------------------------ whole networks


def trained(ops: Ops, architecture: Architecture, trials: list[Settings], steps: int) -> Model:
    """The model after so many steps on made-up images."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (60, *architecture.input_shape), dtype=np.uint8)
    images = Images.on_device(ops, pixels, rng.integers(0, architecture.classes, 60), 1 / 255)
    model = initial_model(architecture, trials, xp=ops.xp)
    group = Hyperparameters.of(trials)
    optimiser = trials[0].optimiser
    state = initial_state(optimiser, model, group)
    step = ops.make_step(ops, architecture, group, optimiser=optimiser)
    lr = ops.xp.asarray(np.array([trial.lr for trial in trials]))
    for number in range(steps):
        step(model, state, images, ops.xp.asarray(rng.permutation(60)[:19]), lr, number)
    return {name: ops.to_host(values) for name, values in model.items()}


LARGER = {
    "report, larger": Architecture((3, 13, 12), (20, 17), 4),
    "deep": Architecture((1, 17, 18), (8, 16, 5, 32), 4, global_pool=True),
    "residual, larger": Architecture((3, 16, 15), (16, 24), 4, residual=True),
}


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("architecture", [*NETWORKS.values(), *LARGER.values()], ids=[*NETWORKS, *LARGER])
def test_every_network_trains_as_with_the_reference(fast: Ops, architecture: Architecture, optimiser: str) -> None:
    trials = [
        Settings(lr=0.02, reg=0.01, dropout=0.3, seed=seed, optimiser=optimiser, flip=0.5 * seed, crop=seed)
        for seed in (0, 1)
    ]
    exact, found = (trained(ops, architecture, trials, 3) for ops in (REFERENCE, fast))
    convolutions = range(1, len(architecture.layers) + 1)
    idle = {f"{name}{i}" for name in ("b", "running_mean") for i in convolutions}
    for name in exact.keys() - (
        idle if optimiser == "adam" else set()
    ):  # adam makes much of a gradient that is only rounding
        values = exact[name]
        np.testing.assert_allclose(found[name], values, rtol=2e-3, atol=2e-4, err_msg=name)


EXTREMES: list[dict[str, float]] = [
    *({"dropout": rate} for rate in (1 - 2**-24, 1 - 2**-26, math.nextafter(1, 0))),
    {"clip": 1e-46},
    {"clip_global": 1e-46},
    {"momentum": math.nextafter(1, 0)},
    {"reg": 1e12},
    {"noise": 1e6},
]


def test_values_that_float32_does_not_hold_mean_the_same_everywhere(fast: Ops) -> None:
    trials = [Settings(lr=0.01, **extreme) for extreme in EXTREMES]  # type: ignore[arg-type]
    expected, found = (trained(ops, LARGER["report, larger"], trials, 2) for ops in (REFERENCE, fast))
    for name, values in expected.items():
        assert np.isfinite(values).all(), name
        np.testing.assert_allclose(found[name], values, rtol=2e-3, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("architecture", LARGER.values(), ids=LARGER)
def test_a_trial_trains_alike_alone_and_in_a_group(fast: Ops, architecture: Architecture) -> None:
    trials = [
        Settings(lr=0.1, dropout=0.5, seed=seed, reg=0.01 * seed, momentum=momentum)
        for seed, momentum in enumerate((0.9, 0.0, 0.5))
    ]
    together = trained(fast, architecture, trials, 4)
    alone = trained(fast, architecture, trials[1:2], 4)
    for name, values in alone.items():
        np.testing.assert_array_equal(together[name][1:2], values, err_msg=name)
