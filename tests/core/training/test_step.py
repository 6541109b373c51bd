"""The step as a whole: gradients of every network against central differences, its update written out, odd sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.backends.reference.backend import OPS
from core.config.architecture import Architecture
from core.config.hyperparameters import Hyperparameters
from core.config.settings import Settings
from core.data.images import Images
from core.network import model as network
from core.network import parameters
from core.training import optimisers
from tests.helpers.cases import CLASSES, IMAGES, NETWORKS
from tests.helpers.gradcheck import random_direction, slope

REPORT = NETWORKS["report"]
TRIALS = [
    Settings(lr=0.5, reg=0.3, dropout=0.3, seed=1, clip=0.05),
    Settings(lr=0.1, reg=0.1, dropout=0.0, seed=2, clip=0, gradient="sum"),
]
GROUP = Hyperparameters.of(TRIALS)
NUMBER = 7  # of the step: it decides what drops out


def start(architecture: Architecture = REPORT) -> parameters.Model:
    """Initial values moved about, so that no gradient is zero by symmetry."""
    rng = np.random.default_rng(0)
    model = parameters.initial_model(architecture, TRIALS, np.float64)
    return {name: values + 0.1 * rng.random(values.shape) for name, values in model.items()}


def some_images(count: int = 6, shape: tuple[int, int, int] = IMAGES) -> Images:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    return Images(pixels, rng.integers(0, CLASSES, count), 1 / 255)


@pytest.fixture
def model() -> parameters.Model:
    return start()


@pytest.fixture
def images() -> Images:
    return some_images()


def test_pixels_are_scaled_to_what_the_report_feeds(images: Images) -> None:
    x, labels = images.batch(np.array([4, 1]), np.float64)
    np.testing.assert_array_equal(x[0], images.pixels[[4, 1]] * (1 / 255))
    np.testing.assert_array_equal(labels, images.labels[[4, 1]])


@pytest.mark.parametrize("own_images", [False, True])
@pytest.mark.parametrize("architecture", NETWORKS.values(), ids=NETWORKS)
def test_gradients_of_a_whole_network_are_slopes_of_its_loss(
    images: Images, architecture: Architecture, own_images: bool
) -> None:
    x, labels = images.batch(slice(None), np.float64)
    if own_images:  # as augmentation makes them
        x = np.concatenate([x, x[:, ::-1] ** 2])
    model = start(architecture)
    weight = [1.0 if trial.gradient == "sum" else 1 / len(labels) for trial in TRIALS]
    _, _, gradients, _ = network.loss_and_gradients(OPS, architecture, model, x, labels, GROUP, NUMBER)
    assert gradients.keys() == {name for name in model if not name.startswith("running_")}
    for name, gradient in gradients.items():
        assert (gradient.shape, gradient.dtype) == (model[name].shape, np.float64)

        def loss(values: np.ndarray, name: str = name) -> np.ndarray:
            arrays = model | {name: values}
            losses, *_ = network.loss_and_gradients(OPS, architecture, arrays, x, labels, GROUP, NUMBER)
            return losses.sum(axis=1) * weight

        direction = sum(random_direction(model[name].shape, trial) for trial in range(2))
        expected = slope(loss, model[name], direction)  # of each trial: the loss of one has nothing of the other
        found = (gradient * direction).reshape(2, -1).sum(axis=1)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8, err_msg=name)


ODD = {
    "one class": (Architecture((2, 5, 4), (3,), 1), 6),
    "a batch of two": (Architecture((1, 4, 5), (3, 2), CLASSES, residual=True), 2),
    "one filter": (Architecture((3, 5, 6), (1, 1), CLASSES, residual=True, global_pool=True), 5),
    "a row of pixels": (Architecture((1, 1, 7), (2, 3), CLASSES, residual=True), 4),
    "a column of pixels": (Architecture((2, 5, 1), (3, 2), CLASSES), 4),
    "one pixel": (Architecture((2, 1, 1), (3, 3), CLASSES, residual=True, global_pool=True), 3),
    "odd rests": (Architecture((1, 7, 11), (2, 2, 3), CLASSES, residual=True), 3),
}


@pytest.mark.parametrize("optimiser", optimisers.UPDATES)
@pytest.mark.parametrize(("architecture", "batch"), ODD.values(), ids=ODD)
def test_networks_and_batches_of_odd_sizes_are_trained(architecture: Architecture, batch: int, optimiser: str) -> None:
    data = some_images(batch, architecture.input_shape)
    data = replace(data, labels=data.labels % architecture.classes)
    trials = Hyperparameters.of([replace(trial, lr=0.01, momentum=0.5, optimiser=optimiser) for trial in TRIALS])
    model = parameters.initial_model(architecture, TRIALS)
    before = {name: values.copy() for name, values in model.items()}
    state = optimisers.initial_state(optimiser, model, trials)
    step = OPS.make_step(OPS, architecture, trials, optimiser=optimiser)
    for number in range(2):
        for values in step(model, state, data, np.arange(batch), np.full(2, 0.1), number):
            assert np.isfinite(values).all()
    for name, values in model.items():
        assert np.isfinite(values).all()
        assert (values.shape, values.dtype) == (before[name].shape, np.float32)
        assert (values != before[name]).any() or not parameters.is_weight(
            name
        )  # of one class there is nothing to learn
    x, _ = data.batch(slice(None))
    assert network.logits(OPS, architecture, model, x).shape == (2, batch, architecture.classes)


def take_step(
    model: parameters.Model,
    images: Images,
    trials: Hyperparameters = GROUP,
    optimiser: str = "sgd",
    lr: tuple[float, ...] = (0.5, 0.1),
) -> tuple[np.ndarray, ...]:
    """One step in place, from no memory: what it says of each trial."""
    state = optimisers.initial_state(optimiser, model, trials)
    step = OPS.make_step(OPS, REPORT, trials, optimiser=optimiser, dtype=np.float64)
    return step(model, state, images, np.arange(6), np.array(lr), NUMBER)


def test_a_step_is_l2_then_clipping_then_descent(model: parameters.Model, images: Images) -> None:
    before = {name: values.copy() for name, values in model.items()}
    x, labels = images.batch(slice(None), np.float64)
    losses, correct, gradients, statistics = network.loss_and_gradients(OPS, REPORT, before, x, labels, GROUP, NUMBER)

    loss, right, norm = take_step(model, images)

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


def test_the_global_norm_is_clipped_where_it_is_asked_for(model: parameters.Model, images: Images) -> None:
    before = {name: values.copy() for name, values in model.items()}
    trials = Hyperparameters.of([replace(TRIALS[0], clip=0, clip_global=0.01), replace(TRIALS[1], clip_global=0)])
    _, _, norm = take_step(model, images, trials, lr=(1, 1))
    moved = [
        np.sqrt(sum(np.sum((model[n][t] - before[n][t]) ** 2) for n in model if not n.startswith("running_")))
        for t in range(2)
    ]
    assert moved == pytest.approx([0.01, norm[1]])


def test_a_step_trains_on_augmented_images(model: parameters.Model, images: Images) -> None:
    """Each trial on its own, by its strength, the data's seed and the step; the images stay as they are."""
    before, pixels = {name: values.copy() for name, values in model.items()}, images.pixels.copy()
    trials = Hyperparameters.of([replace(TRIALS[0], flip=0.5, rotate=90, noise=0.5), TRIALS[1]])
    x, labels = images.batch(slice(None), np.float64)
    changed = OPS.augment(x, trials.augmentation, 3, NUMBER)
    assert (changed[0] != x[0]).any()
    expected, *_ = network.loss_and_gradients(OPS, REPORT, before, changed, labels, trials, NUMBER)
    step = OPS.make_step(OPS, REPORT, trials, data_seed=3, dtype=np.float64)
    loss, *_ = step(model, {}, images, np.arange(6), np.ones(2), NUMBER)
    np.testing.assert_allclose(loss, expected.sum(axis=1), rtol=1e-13)
    np.testing.assert_array_equal(images.pixels, pixels)


@pytest.mark.parametrize("optimiser", optimisers.UPDATES)
def test_l2_is_in_the_gradient_and_its_norm_but_for_adamw(images: Images, optimiser: str) -> None:
    """With reg alone different, sgd's and adam's gradients differ, and adamw's do not."""
    trials = Hyperparameters.of([replace(TRIALS[0], reg=reg, clip=0) for reg in (0.0, 0.5)])
    model = {name: values[[0, 0]] for name, values in start().items()}
    _, _, norm = take_step(model, images, trials, optimiser, lr=(0.1, 0.1))
    assert (norm[0] == norm[1]) == (optimiser == "adamw")
    for name in ("w1", "w2", "w3"):
        assert not np.array_equal(model[name][0], model[name][1])


@pytest.mark.parametrize("network_name", ["report", "residual, global"])
@pytest.mark.parametrize("optimiser", optimisers.UPDATES)
def test_a_trial_of_a_step_alone_equals_it_in_the_group(images: Images, optimiser: str, network_name: str) -> None:
    architecture = NETWORKS[network_name]
    momentum = [replace(TRIALS[0], momentum=0.9, nesterov=True), TRIALS[1]]
    together, alone = start(architecture), start(architecture)
    state = optimisers.initial_state(optimiser, together, Hyperparameters.of(momentum))
    lr = np.array([0.01, 0.02])
    step = OPS.make_step(OPS, architecture, Hyperparameters.of(momentum), optimiser=optimiser, dtype=np.float64)
    sums = [step(together, state, images, np.arange(6)[number:], lr, number) for number in range(3)]
    for t, trial in enumerate(momentum):
        model, group = parameters.take(alone, [t]), Hyperparameters.of([trial])
        memory = optimisers.initial_state(optimiser, model, group)
        step = OPS.make_step(OPS, architecture, group, optimiser=optimiser, dtype=np.float64)
        for number in range(3):
            single = step(model, memory, images, np.arange(6)[number:], lr[[t]], number)
            np.testing.assert_array_equal([values[t] for values in sums[number]], [values[0] for values in single])
        for name, values in (model | memory).items():
            np.testing.assert_array_equal(values[0], (together | state)[name][t])
