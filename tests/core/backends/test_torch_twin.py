"""PyTorch as an outside oracle: operations, twenty training steps from the same start, test mode, one-cycle rates."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from types import ModuleType

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
from core.training.batches import shuffled_batches
from core.training.schedules import learning_rates
from core.training.step import make_step
from tests.helpers.cases import CASES, CLASSES, IMAGES, NETWORKS, Case, T, cotangent

pytestmark = pytest.mark.slow("loads PyTorch")

BASE = Settings(lr=0.05, dropout=0.0, epochs=7)
# Adam turns the gradient of a bias before batch norm, which is rounding error and no more, into steps. They are long in
# float32 (so Adam is compared in float64), and not too short to be seen with the usual eps of 1e-8 either.
ADAM = replace(BASE, optimiser="adam", lr=0.01, clip=0.0, adam_eps=1e-6)
ADAMW = replace(ADAM, optimiser="adamw", reg=0.1)
DEEP = replace(ADAM, momentum=0.9, schedule="one-cycle", cycle_start=5, cycle_end=10, warmup=1.5)
GROUPS = {
    "plain": [replace(BASE, lr=0.1, reg=0.0, clip=0.0), replace(BASE, reg=0.1, seed=1, clip=0.0)],
    "clipped": [replace(BASE, clip=0.2), replace(BASE, lr=0.2, clip=0.05, gradient="sum")],
    "clipped together": [
        replace(BASE, clip_global=0.4),
        replace(BASE, lr=0.1, clip=0.5, clip_global=0.6, gradient="sum"),
    ],
    "dropout": [replace(BASE, dropout=0.4, seed=5), replace(BASE, dropout=0.7, lr=0.02, initial="xavier")],
    "momentum": [
        replace(BASE, momentum=0.9, clip=0.5),
        BASE,
        replace(BASE, momentum=0.5, nesterov=True, seed=1),
        replace(BASE, nesterov=True, reg=0.1),
    ],
    "adam": [ADAM, replace(ADAM, beta1=0.0, lr=0.003, reg=0.1, seed=1), replace(ADAM, beta2=0.5, adam_eps=0.01)],
    "adamw": [ADAMW, replace(ADAMW, beta1=0.5, reg=1.0, clip=0.2, seed=1), replace(ADAMW, reg=0.0, beta2=0.9)],
}
DEEPER = [DEEP, replace(DEEP, nesterov=True, dropout=0.3, seed=1, reg=0.1)]


@pytest.fixture
def twin() -> ModuleType:
    """torch_twin.py where PyTorch is installed; imported by those tests alone that are run."""
    pytest.importorskip("torch")
    return import_module("tests.helpers.torch_twin")


def images(count: int) -> Images:
    rng = np.random.default_rng(4)
    pixels = rng.integers(0, 256, (count, *IMAGES), dtype=np.uint8)
    return Images.on_device(OPS, pixels, rng.integers(0, CLASSES, count), 1 / 255)


# augment draws random numbers of our own: tests/core/training/test_augment.py
@pytest.mark.parametrize("case", [case for case in CASES if case.operation != "augment"], ids=str)
def test_operation_and_gradients_equal_pytorchs(twin: ModuleType, case: Case) -> None:
    results = case.run(OPS, case.inputs)
    y = results[case.outputs[0]]
    gradients = {name: np.zeros_like(case.inputs[name]) for name in case.wanted}
    for trial in range(T):
        expected, of_trial = twin.run(case, trial, cotangent(y)[trial].copy())
        np.testing.assert_allclose(y[trial], expected, rtol=1e-12, atol=1e-12)
        for name, gradient in of_trial.items():
            gradients[name][trial % len(gradients[name])] += gradient
    for name, gradient in gradients.items():
        np.testing.assert_allclose(results[f"d{name}"], gradient, rtol=1e-10, atol=1e-11, err_msg=name)


def assert_twenty_steps_are_equal(
    twin: ModuleType, architecture: Architecture, trials: list[Settings], dtype: type = np.float64
) -> np.ndarray:
    """Train with both: all losses, norms and arrays must be equal. Returns the gradients' norms (steps, T)."""
    tolerance = {np.float64: 1e-9, np.float32: 2e-4}[dtype]
    data, optimiser = images(43), trials[0].optimiser
    orders = [chosen for epoch in range(7) for chosen in shuffled_batches(43, 16, 3, epoch)]
    rates = np.concatenate([learning_rates(trials, epoch, 3) for epoch in range(7)])
    plan = list(zip(orders, rates, strict=True))[:20]

    group = Hyperparameters.of(trials)
    model = parameters.initial_model(architecture, trials, dtype)
    state = optimisers.initial_state(optimiser, model, group)
    start = {key: values.copy() for key, values in model.items()}
    step = make_step(OPS, architecture, group, optimiser=optimiser, dtype=dtype)
    totals = np.array([step(model, state, data, chosen, lr, number) for number, (chosen, lr) in enumerate(plan)])
    losses = totals[:, 0] / [[len(chosen)] for chosen, _ in plan]

    for t, trial in enumerate(trials):
        batches = [(*data.batch(chosen, dtype), lr[t]) for chosen, lr in plan]
        expected = twin.train(
            architecture,
            {key: values[t] for key, values in start.items()},
            trial,
            [(x[0], labels, lr) for x, labels, lr in batches],
        )
        np.testing.assert_allclose(losses[:, t], expected[0], rtol=tolerance)
        np.testing.assert_allclose(totals[:, 2, t], expected[1], rtol=tolerance)
        for key, values in expected[2].items():
            np.testing.assert_allclose(model[key][t], values, rtol=tolerance, atol=tolerance, err_msg=key)
            assert not np.array_equal(values, start[key][t])
    return totals[:, 2]


@pytest.mark.parametrize("name", GROUPS)
def test_twenty_steps_equal_pytorchs(twin: ModuleType, name: str) -> None:
    norms = assert_twenty_steps_are_equal(twin, NETWORKS["report"], GROUPS[name])
    if "clipped" in name:
        limits = [trial.clip_global or trial.clip for trial in GROUPS[name]]
        assert (np.median(norms, axis=0) > np.multiply(2, limits)).all()  # so most steps were clipped


@pytest.mark.parametrize("name", [name for name in GROUPS if not name.startswith("adam")])
def test_twenty_steps_equal_pytorchs_in_float32(twin: ModuleType, name: str) -> None:
    assert_twenty_steps_are_equal(twin, NETWORKS["report"], GROUPS[name], np.float32)


@pytest.mark.parametrize("optimiser", optimisers.UPDATES)
@pytest.mark.parametrize("architecture", NETWORKS.values(), ids=NETWORKS)
def test_twenty_steps_of_every_network_equal_pytorchs(
    twin: ModuleType, architecture: Architecture, optimiser: str
) -> None:
    trials = [replace(trial, optimiser=optimiser) for trial in DEEPER]
    assert_twenty_steps_are_equal(twin, architecture, trials)


@pytest.mark.parametrize("architecture", NETWORKS.values(), ids=NETWORKS)
def test_test_mode_equals_pytorchs(twin: ModuleType, architecture: Architecture) -> None:
    rng = np.random.default_rng(0)
    model = parameters.initial_model(architecture, [BASE, BASE], np.float64)
    for values in model.values():
        values += rng.uniform(0, 0.5, values.shape)
    x = rng.standard_normal((1, 5, *IMAGES))
    ours = network.logits(OPS, architecture, model, x)
    for t in range(2):
        arrays = {name: twin.torch.tensor(values[t]) for name, values in model.items()}
        *_, w, b = arrays
        flat = twin.features(architecture, arrays, arrays, twin.torch.tensor(x[0]), training=False)
        np.testing.assert_allclose(ours[t], twin.linear(flat, arrays[w], arrays[b]), rtol=1e-11)


@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (2, 1), (1, 3), (5, 4), (7, 13)])
@pytest.mark.parametrize("rise", [0.001, 0.25, 0.3, 0.7, 0.95])
@pytest.mark.parametrize(("start", "end"), [(25, 1e4), (1, 1), (3, 2)])
def test_one_cycle_equals_pytorchs(
    twin: ModuleType, epochs: int, steps: int, rise: float, start: float, end: float
) -> None:
    trial = Settings(lr=0.4, epochs=epochs, schedule="one-cycle", cycle_rise=rise, cycle_start=start, cycle_end=end)
    ours = np.concatenate([learning_rates([trial], epoch, steps) for epoch in range(epochs)])
    np.testing.assert_allclose(ours[:, 0], twin.one_cycle(trial, epochs * steps), rtol=1e-9)
