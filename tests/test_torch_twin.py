"""PyTorch as an outside oracle: each operation, and twenty training steps from the same start."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from types import ModuleType

import numpy as np
import pytest
from cases import CASES, Case, T, cotangent
from conftest import small_images

from core import model as network
from core.batches import Images, shuffled_batches
from core.config import Architecture, Hyperparameters, Settings
from core.ops.reference import OPS
from core.schedules import learning_rates
from core.step import make_step

SMALL = Architecture((1, 6, 7), (3, 4), 3)
BASE = Settings(lr=0.05, dropout=0.0, epochs=7)
PAIRS = {
    "plain": [replace(BASE, lr=0.1, reg=0.0, clip=0.0), replace(BASE, reg=0.1, seed=1, clip=0.0)],
    "clipped": [replace(BASE, clip=0.2), replace(BASE, lr=0.2, clip=0.05, gradient="sum")],
    "clipped together": [
        replace(BASE, clip_global=0.4),
        replace(BASE, lr=0.1, clip=0.5, clip_global=0.6, gradient="sum"),
    ],
    "dropout": [replace(BASE, dropout=0.4, seed=5), replace(BASE, dropout=0.7, lr=0.02, initial="xavier")],
}


@pytest.fixture
def twin() -> ModuleType:
    """torch_twin.py where PyTorch is installed; a fixture, so that each skipped test counts."""
    pytest.importorskip("torch")
    return import_module("torch_twin")


@pytest.mark.parametrize("case", CASES, ids=str)
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


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 2e-4)])
@pytest.mark.parametrize("name", PAIRS)
def test_twenty_steps_equal_pytorchs(twin: ModuleType, name: str, dtype: type, tolerance: float) -> None:
    trials = PAIRS[name]
    images = Images.on_device(OPS, *small_images(43, 0), 1 / 255)
    rates = learning_rates(trials)
    plan = [(chosen, rates[epoch]) for epoch in range(7) for chosen in shuffled_batches(43, 16, 3, epoch)][:20]

    model = network.initial_model(SMALL, trials, dtype)
    start = {key: values.copy() for key, values in model.items()}
    step = make_step(OPS, SMALL, Hyperparameters.of(trials), dtype)
    totals = np.array([step(model, images, chosen, lr, number) for number, (chosen, lr) in enumerate(plan)])
    losses = totals[:, 0] / [[len(chosen)] for chosen, _ in plan]

    for t, trial in enumerate(trials):
        batches = [(*images.batch(chosen, dtype), lr[t]) for chosen, lr in plan]
        expected = twin.train(
            {key: values[t] for key, values in start.items()}, trial, [(x[0], labels, lr) for x, labels, lr in batches]
        )
        np.testing.assert_allclose(losses[:, t], expected[0], rtol=tolerance)
        np.testing.assert_allclose(totals[:, 2, t], expected[1], rtol=tolerance)
        for key, values in expected[2].items():
            np.testing.assert_allclose(model[key][t], values, rtol=tolerance, atol=tolerance, err_msg=key)
        if "clip" in name:
            assert np.median(expected[1]) > 2 * (trial.clip_global or trial.clip)  # so most steps were clipped


def test_test_mode_equals_pytorchs(twin: ModuleType) -> None:
    model = network.initial_model(SMALL, PAIRS["plain"], np.float64)
    rng = np.random.default_rng(0)
    for values in model.values():
        values += rng.uniform(0, 0.5, values.shape)
    x = rng.standard_normal((1, 5, 1, 6, 7))
    ours = network.logits(OPS, SMALL, model, x)
    for t in range(2):
        of_trial = {name: twin.torch.tensor(values[t]) for name, values in model.items()}
        features = twin.torch.tensor(x[0])
        for i in (1, 2):
            names = ("w", "b", "gamma", "beta", "running_mean", "running_var")
            features = twin.block_inference(features, *(of_trial[f"{name}{i}"] for name in names))
        expected = twin.linear(features.flatten(1), of_trial["w3"], of_trial["b3"])
        np.testing.assert_allclose(ours[t], expected, rtol=1e-12)
