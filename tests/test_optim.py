"""From gradients to parameters: L2, the two kinds of clipping, and the step down the gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest

from core import optim
from core.config import Architecture
from core.model import parameter_shapes
from core.ops.reference import OPS

TRAINED = [name for name in parameter_shapes(Architecture((2, 6, 7), (3, 4), 5)) if not name.startswith("running")]
BIASES = {"b1", "b2", "b3"}
T = 3


def arrays(seed: int) -> dict[str, np.ndarray]:
    """One array for each trained parameter, of T trials."""
    rng = np.random.default_rng(seed)
    shapes = parameter_shapes(Architecture((2, 6, 7), (3, 4), 5))
    return {name: rng.standard_normal((T, *shapes[name])) for name in TRAINED}


def norms(gradients: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.linalg.norm(values.reshape(T, -1), axis=1) for name, values in gradients.items()}


def test_l2_pulls_on_weights_alone_each_trial_by_its_own_reg() -> None:
    model, gradients = arrays(0), arrays(1)
    before = {name: values.copy() for name, values in gradients.items()}
    optim.add_l2(model, gradients, np.array([0.0, 0.5, 2.0]))
    for name, values in gradients.items():
        pull = model[name] * (name in {"w1", "w2", "w3"})
        for t, reg in enumerate([0.0, 0.5, 2.0]):
            np.testing.assert_allclose(values[t], before[name][t] + reg * pull[t], rtol=1e-14)


def scaled(norm: float) -> dict[str, np.ndarray]:
    """Gradients of which every tensor of every trial has this 2-norm."""
    return {
        name: values * (norm / norms({name: values})[name]).reshape(T, *[1] * (values.ndim - 1))
        for name, values in arrays(2).items()
    }


def test_every_tensor_but_the_biases_is_cut_to_its_trials_limit() -> None:
    gradients = scaled(10)
    before = {name: values.copy() for name, values in gradients.items()}
    optim.clip_by_tensor(OPS, gradients, np.array([5.0, 9.0, math.inf]))
    for name, values in gradients.items():
        expected = [10, 10, 10] if name in BIASES else [5, 9, 10]
        np.testing.assert_allclose(norms(gradients)[name], expected, rtol=1e-14)
        np.testing.assert_allclose(values[0] / np.abs(values[0]).max(), before[name][0] / np.abs(before[name][0]).max())


@pytest.mark.parametrize("norm", [0.0, 4.9])
def test_gradients_within_the_limit_are_left_bit_for_bit(norm: float) -> None:
    gradients = scaled(norm)
    before = {name: values.copy() for name, values in gradients.items()}
    optim.clip_by_tensor(OPS, gradients, np.full(T, 5.0))
    optim.clip_by_global_norm(OPS, gradients, np.full(T, 5.0 * math.sqrt(len(TRAINED))))
    for name, values in gradients.items():
        np.testing.assert_array_equal(values, before[name])


def test_the_global_norm_is_cut_to_the_limit_keeping_the_direction() -> None:
    gradients = arrays(3)
    before = {name: values.copy() for name, values in gradients.items()}
    whole = np.sqrt(sum(norm**2 for norm in norms(before).values()))
    limit = np.array([1.0, whole[1] * 2, math.inf])
    optim.clip_by_global_norm(OPS, gradients, limit)
    for name, values in gradients.items():
        np.testing.assert_allclose(values[0], before[name][0] / whole[0], rtol=1e-13)
        np.testing.assert_array_equal(values[1:], before[name][1:])


def test_sgd_steps_down_the_gradient_at_each_trials_rate() -> None:
    model, gradients = arrays(4), arrays(5)
    before = {name: values.copy() for name, values in model.items()}
    optim.sgd(model, gradients, np.array([0.0, 0.1, 3.0]))
    for name, values in model.items():
        for t, lr in enumerate([0.0, 0.1, 3.0]):
            np.testing.assert_allclose(values[t], before[name][t] - lr * gradients[name][t], rtol=1e-14)
