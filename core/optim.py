"""From gradients to new parameters: L2, clipping, and the optimisers.

All settings are float64 arrays (T,) on the device, rounded to the parameters' type where they are used.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from core.config import Hyperparameters
from core.model import Model, is_bias, is_weight
from core.ops import Ops
from core.random import Array


def _spread(per_trial: Array, like: Array) -> Array:
    """(T,) -> (T, 1, ...), to broadcast against like, in its type."""
    return per_trial.astype(like.dtype).reshape(-1, *[1] * (like.ndim - 1))


def add_l2(model: Model, gradients: Model, reg: Array) -> None:
    """Add the gradient of reg / 2 * sum of squares of the conv, projection and linear weights, in place."""
    for name, gradient in gradients.items():
        if is_weight(name):
            gradient += _spread(reg, gradient) * model[name]


def squared_norms(ops: Ops, gradients: Model) -> dict[str, Array]:
    """Squared 2-norm of each tensor of each trial: (T,)."""
    flat = {name: gradient.reshape(len(gradient), -1) for name, gradient in gradients.items()}
    return {name: ops.xp.einsum("ti,ti->t", values, values) for name, values in flat.items()}


def clip_by_tensor(ops: Ops, gradients: Model, limit: Array) -> None:
    """Scale each tensor but the biases, whose 2-norm exceeds limit, to that norm, in place (report 4.3.3)."""
    for name, square in squared_norms(ops, gradients).items():
        if not is_bias(name):
            gradients[name] *= _spread(_shrink(ops, square, limit), gradients[name])


def clip_by_global_norm(ops: Ops, gradients: Model, limit: Array) -> None:
    """Scale all gradients of a trial whose joint 2-norm exceeds limit to that norm, in place (Pascanu et al. 2013)."""
    factor = _shrink(ops, sum(squared_norms(ops, gradients).values()), limit)
    for gradient in gradients.values():
        gradient *= _spread(factor, gradient)


def _shrink(ops: Ops, square: Array, limit: Array) -> Array:
    """limit / norm where the norm exceeds limit, else 1."""
    norm = ops.xp.sqrt(square)
    limit = limit.astype(norm.dtype)
    one = ops.xp.ones_like(norm)
    return ops.xp.where(norm > limit, limit, one) / ops.xp.where(norm > limit, norm, one)


def initial_state(optimiser: str, model: Model, trials: Hyperparameters, ops: Ops) -> Model:
    """What the optimiser remembers of the gradients, zeros at first: arrays (T, ...) called slot.parameter."""
    slots = {"sgd": ("velocity",) if np.any(trials.momentum) else ()}.get(optimiser, ("mean", "square"))
    trained = {name: values for name, values in model.items() if not name.startswith("running_")}
    return {f"{slot}.{name}": ops.xp.zeros_like(values) for slot in slots for name, values in trained.items()}


def sgd(
    ops: Ops, model: Model, gradients: Model, state: Model, trials: Hyperparameters, lr: Array, number: int
) -> None:
    """parameter -= lr * velocity, where velocity = momentum * velocity + gradient, in place (Sutskever et al. 2013).

    Nesterov's variant looks ahead: gradient + momentum * velocity takes the velocity's place. A group in which no
    trial has momentum remembers no velocity.
    """
    for name, gradient in gradients.items():
        move = gradient
        if state:
            velocity, momentum = state[f"velocity.{name}"], _spread(trials.momentum, gradient)
            velocity *= momentum
            velocity += gradient
            ahead = trials.nesterov.reshape(momentum.shape)
            move = ops.xp.where(ahead, gradient + momentum * velocity, velocity)
        model[name] -= _spread(lr, gradient) * move


def adam(
    ops: Ops, model: Model, gradients: Model, state: Model, trials: Hyperparameters, lr: Array, number: int
) -> None:
    """parameter -= lr * mean / (sqrt(square) + eps), in place (Kingma & Ba 2015, algorithm 1).

    mean and square are moving averages of the gradient and of its square, corrected for their start at 0.
    """
    rate = lr / (1 - trials.beta1 ** (number + 1))
    root = ops.xp.sqrt(1 - trials.beta2 ** (number + 1))
    for name, gradient in gradients.items():
        mean, square = state[f"mean.{name}"], state[f"square.{name}"]
        mean *= _spread(trials.beta1, gradient)
        mean += _spread(1 - trials.beta1, gradient) * gradient
        square *= _spread(trials.beta2, gradient)
        square += _spread(1 - trials.beta2, gradient) * gradient * gradient
        length = ops.xp.sqrt(square) / _spread(root, gradient) + _spread(trials.adam_eps, gradient)
        model[name] -= _spread(rate, gradient) * mean / length


def adamw(
    ops: Ops, model: Model, gradients: Model, state: Model, trials: Hyperparameters, lr: Array, number: int
) -> None:
    """adam, after the weights have decayed by lr * reg of themselves, in place (Loshchilov & Hutter 2019)."""
    for name in gradients:
        if is_weight(name):
            model[name] -= _spread(lr * trials.reg, model[name]) * model[name]
    adam(ops, model, gradients, state, trials, lr, number)


UPDATES: dict[str, Callable[..., None]] = {"sgd": sgd, "adam": adam, "adamw": adamw}
