"""The step as a whole: its gradients against central differences, its update written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gradcheck import random_direction, slope

from core import model as network
from core.batches import Images
from core.config import Architecture, Hyperparameters, Settings
from core.ops.reference import OPS

SHAPE = Architecture((2, 9, 8), (3, 4), 3)
TRIALS = [
    Settings(lr=0.5, reg=0.3, dropout=0.3, seed=1, clip=0.05),
    Settings(lr=0.1, reg=0.1, dropout=0.0, seed=2, clip=0, gradient="sum"),
]
GROUP = Hyperparameters.of(TRIALS)
NUMBER = 7  # of the step: it decides what drops out


@pytest.fixture
def model() -> network.Model:
    """Initial values moved about, so that no gradient is zero by symmetry."""
    rng = np.random.default_rng(0)
    start = network.initial_model(SHAPE, TRIALS, np.float64)
    return {name: values + 0.1 * rng.random(values.shape) for name, values in start.items()}


@pytest.fixture
def images() -> Images:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (6, 2, 9, 8), dtype=np.uint8)
    return Images(pixels, rng.integers(0, 3, 6), 1 / 255)


def test_pixels_are_scaled_to_what_the_report_feeds(images: Images) -> None:
    x, labels = images.batch(np.array([4, 1]), np.float64)
    np.testing.assert_array_equal(x[0], images.pixels[[4, 1]] * (1 / 255))
    np.testing.assert_array_equal(labels, images.labels[[4, 1]])


@pytest.mark.parametrize("trial", [0, 1])
def test_gradients_of_the_whole_network_are_slopes_of_its_loss(
    model: network.Model, images: Images, trial: int
) -> None:
    x, labels = images.batch(slice(None), np.float64)
    _, _, gradients, _ = network.loss_and_gradients(OPS, SHAPE, model, x, labels, GROUP, NUMBER)
    weight = 1.0 if TRIALS[trial].gradient == "sum" else 1 / len(labels)
    assert gradients.keys() == {name for name in model if not name.startswith("running_")}
    for name, gradient in gradients.items():

        def loss(values: np.ndarray, name: str = name) -> float:
            losses, *_ = network.loss_and_gradients(OPS, SHAPE, model | {name: values}, x, labels, GROUP, NUMBER)
            return float(losses[trial].sum() * weight)

        direction = random_direction(model[name].shape, trial)
        expected = slope(loss, model[name], direction)
        assert np.sum(gradient * direction) == pytest.approx(expected, rel=1e-5, abs=1e-8), name


def test_a_step_is_l2_then_clipping_then_descent(model: network.Model, images: Images) -> None:
    before = {name: values.copy() for name, values in model.items()}
    chosen, lr = np.arange(6), np.array([trial.lr for trial in TRIALS])
    x, labels = images.batch(chosen, np.float64)
    losses, correct, gradients, statistics = network.loss_and_gradients(OPS, SHAPE, before, x, labels, GROUP, NUMBER)

    step = OPS.make_step(OPS, SHAPE, GROUP, np.float64)
    loss, right, norm = step(model, images, chosen, lr, NUMBER)

    np.testing.assert_allclose(loss, losses.sum(axis=1))
    np.testing.assert_array_equal(right, correct.sum(axis=1))
    for t, trial in enumerate(TRIALS):
        squares = 0.0
        for name, gradient in gradients.items():
            pull = gradient[t] + trial.reg * before[name][t] * (name in ("w1", "w2", "w3"))
            length = np.linalg.norm(pull)
            squares += length**2
            if trial.clip and name not in ("b1", "b2", "b3"):
                assert length > trial.clip  # so that clipping is seen
                pull = pull * (trial.clip / length)
            np.testing.assert_allclose(model[name][t], before[name][t] - trial.lr * pull, rtol=1e-10, err_msg=name)
        assert norm[t] == pytest.approx(np.sqrt(squares))
    for name, batch in statistics.items():
        np.testing.assert_allclose(model[name], 0.9 * before[name] + 0.1 * batch, rtol=1e-10, err_msg=name)


def test_the_global_norm_is_clipped_where_it_is_asked_for(model: network.Model, images: Images) -> None:
    before = {name: values.copy() for name, values in model.items()}
    trials = Hyperparameters.of([replace(TRIALS[0], clip=0, clip_global=0.01), replace(TRIALS[1], clip_global=0)])
    step = OPS.make_step(OPS, SHAPE, trials, np.float64)
    _, _, norm = step(model, images, np.arange(6), np.ones(2), NUMBER)
    moved = [
        np.sqrt(sum(np.sum((model[n][t] - before[n][t]) ** 2) for n in model if not n.startswith("running_")))
        for t in range(2)
    ]
    assert moved == pytest.approx([0.01, norm[1]])
