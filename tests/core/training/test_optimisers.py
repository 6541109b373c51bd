"""From gradients to parameters: L2, the two kinds of clipping, and the optimisers, against their papers' formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from core.config.architecture import Architecture
from core.config.hyperparameters import Hyperparameters
from core.config.settings import Settings
from core.network.parameters import parameter_shapes
from core.training import optimisers

SHAPES = parameter_shapes(Architecture((2, 6, 7), (3,), 5, residual=True))
TRAINED = [name for name in SHAPES if not name.startswith("running")]
WEIGHTS = {"w1", "w2", "p2", "w3"}
BIASES = {"b1", "b2", "b3"}
T = 3
Model = dict[str, np.ndarray]


def arrays(seed: int, names: Sequence[str] = TRAINED) -> Model:
    """One array for each trained parameter, of T trials."""
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal((T, *SHAPES[name])) for name in names}


def norms(gradients: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.linalg.norm(values.reshape(T, -1), axis=1) for name, values in gradients.items()}


def test_l2_pulls_on_weights_alone_each_trial_by_its_own_reg() -> None:
    model, gradients = arrays(0), arrays(1)
    before = {name: values.copy() for name, values in gradients.items()}
    optimisers.add_l2(model, gradients, np.array([0.0, 0.5, 2.0]))
    for name, values in gradients.items():
        pull = model[name] * (name in WEIGHTS)
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
    optimisers.clip_by_tensor(gradients, np.array([5.0, 9.0, math.inf]))
    for name, values in gradients.items():
        expected = [10, 10, 10] if name in BIASES else [5, 9, 10]
        np.testing.assert_allclose(norms(gradients)[name], expected, rtol=1e-14)
        np.testing.assert_allclose(values[0] / np.abs(values[0]).max(), before[name][0] / np.abs(before[name][0]).max())


@pytest.mark.parametrize("norm", [0.0, 4.9])
def test_gradients_within_the_limit_are_left_bit_for_bit(norm: float) -> None:
    gradients = scaled(norm)
    before = {name: values.copy() for name, values in gradients.items()}
    optimisers.clip_by_tensor(gradients, np.full(T, 5.0))
    optimisers.clip_by_global_norm(gradients, np.full(T, 5.0 * math.sqrt(len(TRAINED))))
    for name, values in gradients.items():
        np.testing.assert_array_equal(values, before[name])


def test_the_global_norm_is_cut_to_the_limit_keeping_the_direction() -> None:
    gradients = arrays(3)
    before = {name: values.copy() for name, values in gradients.items()}
    whole = np.sqrt(sum(norm**2 for norm in norms(before).values()))
    limit = np.array([1.0, whole[1] * 2, math.inf])
    optimisers.clip_by_global_norm(gradients, limit)
    for name, values in gradients.items():
        np.testing.assert_allclose(values[0], before[name][0] / whole[0], rtol=1e-13)
        np.testing.assert_array_equal(values[1:], before[name][1:])


def group(**different: list[Any]) -> Hyperparameters:
    """Settings of T trials; different: what is not equal among them."""
    trials = [Settings(**dict(zip(different, values, strict=True))) for values in zip(*different.values(), strict=True)]
    return Hyperparameters.of(trials)


def updated(optimiser: str, trials: Hyperparameters, lr: Sequence[float], steps: int) -> tuple[Model, Model, Model]:
    """The parameters before and after steps with the gradients arrays(0), arrays(1), ..., and the state."""
    model = arrays(100, list(SHAPES))
    before = {name: values.copy() for name, values in model.items()}
    state = optimisers.initial_state(optimiser, model, trials)
    for number in range(steps):
        optimisers.UPDATES[optimiser](model, arrays(number), state, trials, np.array(lr), number)
    return before, model, state


def test_sgd_steps_down_the_gradient_at_each_trials_rate() -> None:
    rates = [0.0, 0.1, 3.0]
    before, after, state = updated("sgd", group(momentum=[0.0] * T, nesterov=[True, False, False]), rates, 1)
    assert state == {}
    for name, gradient in arrays(0).items():
        for t, lr in enumerate(rates):
            np.testing.assert_allclose(after[name][t], before[name][t] - lr * gradient[t], rtol=1e-14)


def test_momentum_moves_by_a_sum_of_all_gradients_that_fades() -> None:
    momentum, nesterov, rates = [0.5, 0.9, 0.0], [False, True, True], [0.1, 0.2, 0.3]
    before, after, state = updated("sgd", group(momentum=momentum, nesterov=nesterov), rates, 3)
    for name in TRAINED:
        for t, (m, lr) in enumerate(zip(momentum, rates, strict=True)):
            g = [arrays(number)[name][t] for number in range(3)]
            v = [g[0], g[1] + m * g[0], g[2] + m * g[1] + m * m * g[0]]
            moves = [g[k] + m * v[k] for k in range(3)] if nesterov[t] else v
            np.testing.assert_allclose(after[name][t], before[name][t] - lr * sum(moves), rtol=1e-12)
            np.testing.assert_allclose(state[f"velocity.{name}"][t], v[2], rtol=1e-12)


@pytest.mark.parametrize("optimiser", ["adam", "adamw"])
def test_adam_divides_the_mean_gradient_by_its_length_and_adamw_lets_weights_decay(optimiser: str) -> None:
    settings = {
        "beta1": [0.9, 0.0, 0.5],
        "beta2": [0.999, 0.9, 0.0],
        "adam_eps": [1e-8, 0.1, 1.0],
        "reg": [0.0, 0.5, 2],
    }
    rates = [0.1, 0.2, 0.05]
    before, after, state = updated(optimiser, group(**settings), rates, 3)
    for name in TRAINED:
        for t, (b1, b2, eps, reg) in enumerate(zip(*settings.values(), strict=True)):
            value, mean, square = before[name][t].copy(), 0.0, 0.0
            for number in range(3):
                g = arrays(number)[name][t]
                mean, square = b1 * mean + (1 - b1) * g, b2 * square + (1 - b2) * g**2
                decay = reg * value * (optimiser == "adamw" and name in WEIGHTS)
                k = number + 1
                value -= rates[t] * (decay + mean / (1 - b1**k) / (np.sqrt(square / (1 - b2**k)) + eps))
            np.testing.assert_allclose(after[name][t], value, rtol=1e-11, atol=1e-13)
            np.testing.assert_allclose(state[f"mean.{name}"][t], mean, rtol=1e-12)
            np.testing.assert_allclose(state[f"square.{name}"][t], square, rtol=1e-12)


def test_the_first_step_of_adam_has_the_length_of_the_rate_whatever_the_gradient() -> None:
    before, after, _ = updated("adam", group(beta1=[0.9, 0.5, 0.0]), [0.1] * T, 1)
    for name, gradient in arrays(0).items():
        np.testing.assert_allclose(before[name] - after[name], 0.1 * np.sign(gradient), rtol=1e-3)


@pytest.mark.parametrize("optimiser", optimisers.UPDATES)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_running_statistics_are_not_the_optimisers(optimiser: str, momentum: float) -> None:
    before, after, state = updated(optimiser, group(momentum=[0.0, momentum, 0.0]), [0.1] * T, 2)
    for name in SHAPES.keys() - set(TRAINED):
        np.testing.assert_array_equal(after[name], before[name])
    slots = {"sgd": ["velocity"] if momentum else []}.get(optimiser, ["mean", "square"])
    assert state.keys() == {f"{slot}.{name}" for slot in slots for name in TRAINED}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("optimiser", optimisers.UPDATES)
def test_the_state_is_zeros_of_the_parameters_type_that_share_no_memory(optimiser: str, dtype: type) -> None:
    model = {name: values.astype(dtype) for name, values in arrays(0).items()}
    state = optimisers.initial_state(optimiser, model, group(momentum=[0.5] * T))
    for name, values in state.items():
        parameter = model[name.partition(".")[2]]
        assert (values.shape, values.dtype, values.any()) == (parameter.shape, dtype, False)
    trials = group(momentum=[0.5] * T)
    optimisers.UPDATES[optimiser](
        model, {n: v.astype(dtype) for n, v in arrays(1).items()}, state, trials, np.ones(T), 0
    )
    everything = [*model.values(), *state.values()]
    assert all(values.dtype == dtype for values in everything)
    assert not any(np.shares_memory(one, other) for k, one in enumerate(everything) for other in everything[:k])


@pytest.mark.parametrize("optimiser", optimisers.UPDATES)
def test_an_optimiser_changes_no_gradient_and_works_in_place(optimiser: str) -> None:
    """Steps hand it views of the group's arrays."""
    trials, gradients = group(momentum=[0.5, 0.0, 0.9], nesterov=[True, False, True]), arrays(1)
    kept = {name: values.copy() for name, values in gradients.items()}
    model = arrays(0)
    state = optimisers.initial_state(optimiser, model, trials)
    views = {name: values[1:2] for name, values in model.items()}, {name: values[1:2] for name, values in state.items()}
    alone = trials.take(slice(1, 2))
    optimisers.UPDATES[optimiser](views[0], {n: v[1:2] for n, v in gradients.items()}, views[1], alone, np.ones(1), 0)
    for name, values in gradients.items():
        np.testing.assert_array_equal(values, kept[name])
        np.testing.assert_array_equal(model[name][[0, 2]], arrays(0)[name][[0, 2]])
        assert (model[name][1] != arrays(0)[name][1]).any()
    for values in state.values():
        assert values[1].any()
        assert not values[[0, 2]].any()
