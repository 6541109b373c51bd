"""From gradients to new parameters: L2, clipping, and the optimisers.

All settings are float64 arrays (T,) on the device, rounded to the parameters' type where they are used.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from core.config.hyperparameters import Hyperparameters
from core.network.parameters import Model, is_bias, is_weight
from core.random import Array, module_of


def _broadcast(per_trial: Array, like: Array) -> Array:
    """(T,) -> (T, 1, ...), to broadcast against like, in its type."""
    return per_trial.astype(like.dtype).reshape(-1, *[1] * (like.ndim - 1))


def add_l2(model: Model, gradients: Model, reg: Array) -> None:
    """Add the gradient of reg / 2 * sum of squares of the conv, projection and linear weights, in place."""
    for name, gradient in gradients.items():
        if is_weight(name):
            gradient += _broadcast(reg, gradient) * model[name]


def squared_norms(gradients: Model) -> dict[str, Array]:
    """Squared 2-norm of each tensor of each trial: (T,)."""
    flat = {name: gradient.reshape(len(gradient), -1) for name, gradient in gradients.items()}
    return {name: module_of(values).einsum("ti,ti->t", values, values) for name, values in flat.items()}


def clip_by_tensor(gradients: Model, limit: Array) -> None:
    """Scale each tensor but the biases, whose 2-norm exceeds limit, to that norm, in place (report 4.3.3)."""
    for name, square in squared_norms(gradients).items():
        if not is_bias(name):
            gradients[name] *= _broadcast(_shrink(square, limit), gradients[name])


def clip_by_global_norm(gradients: Model, limit: Array) -> None:
    """Scale all gradients of a trial whose joint 2-norm exceeds limit to that norm, in place (Pascanu et al. 2013)."""
    factor = _shrink(sum(squared_norms(gradients).values()), limit)
    for gradient in gradients.values():
        gradient *= _broadcast(factor, gradient)


def _shrink(square: Array, limit: Array) -> Array:
    """limit / norm where the norm exceeds limit, else 1."""
    xp = module_of(square)
    norm = xp.sqrt(square)
    limit = limit.astype(norm.dtype)
    one = xp.ones_like(norm)
    return xp.where(norm > limit, limit, one) / xp.where(norm > limit, norm, one)


def initial_state(optimiser: str, model: Model, trials: Hyperparameters) -> Model:
    """What the optimiser remembers of the gradients, zeros at first: arrays (T, ...) called slot.parameter."""
    slots = {"sgd": ("velocity",) if np.any(trials.momentum) else ()}.get(optimiser, ("mean", "square"))
    trained = {name: values for name, values in model.items() if not name.startswith("running_")}
    return {
        f"{slot}.{name}": module_of(values).zeros_like(values) for slot in slots for name, values in trained.items()
    }


def sgd(model: Model, gradients: Model, state: Model, trials: Hyperparameters, lr: Array, step: int) -> None:
    """parameter -= lr * velocity, where velocity = momentum * velocity + gradient, in place (Sutskever et al. 2013).

    Nesterov's variant looks ahead: gradient + momentum * velocity takes the velocity's place. A group in which no
    trial has momentum remembers no velocity.
    """
    for name, gradient in gradients.items():
        move = gradient
        if state:
            velocity, momentum = state[f"velocity.{name}"], _broadcast(trials.momentum, gradient)
            velocity *= momentum
            velocity += gradient
            ahead = trials.nesterov.reshape(momentum.shape)
            move = module_of(gradient).where(ahead, gradient + momentum * velocity, velocity)
        model[name] -= _broadcast(lr, gradient) * move


def adam(model: Model, gradients: Model, state: Model, trials: Hyperparameters, lr: Array, step: int) -> None:
    """parameter -= lr * mean / (sqrt(square) + eps), in place (Kingma & Ba 2015, algorithm 1).

    mean and square are moving averages of the gradient and of its square, corrected for their start at 0.
    """
    rate = lr / (1 - trials.beta1 ** (step + 1))
    root = module_of(lr).sqrt(1 - trials.beta2 ** (step + 1))
    for name, gradient in gradients.items():
        mean, square = state[f"mean.{name}"], state[f"square.{name}"]
        mean *= _broadcast(trials.beta1, gradient)
        mean += _broadcast(1 - trials.beta1, gradient) * gradient
        square *= _broadcast(trials.beta2, gradient)
        square += _broadcast(1 - trials.beta2, gradient) * gradient * gradient
        length = module_of(square).sqrt(square) / _broadcast(root, gradient) + _broadcast(trials.adam_eps, gradient)
        model[name] -= _broadcast(rate, gradient) * mean / length


def adamw(model: Model, gradients: Model, state: Model, trials: Hyperparameters, lr: Array, step: int) -> None:
    """adam, after the weights have decayed by lr * reg of themselves, in place (Loshchilov & Hutter 2019)."""
    for name in gradients:
        if is_weight(name):
            model[name] -= _broadcast(lr * trials.reg, model[name]) * model[name]
    adam(model, gradients, state, trials, lr, step)


UPDATES: dict[str, Callable[..., None]] = {"sgd": sgd, "adam": adam, "adamw": adamw}


def update(
    model: Model, gradients: Model, state: Model, trials: Hyperparameters, lr: Array, step: int, *, optimiser: str
) -> Array:
    """One update of a group's parameters and of the optimiser's state, in place; the gradients are used up.

    trials  with the settings of the update on the device
    lr      (T,) on the device
    step    from 0

    Returns the 2-norm (T,) of each trial's gradient, with L2 (but for AdamW, whose decay is none), before clipping.
    """
    if optimiser != "adamw":
        add_l2(model, gradients, trials.reg)
    norm = module_of(lr).sqrt(sum(squared_norms(gradients).values()))
    clip_by_tensor(gradients, trials.clip)
    if module_of(lr).isfinite(trials.clip_global).any():
        clip_by_global_norm(gradients, trials.clip_global)
    UPDATES[optimiser](model, gradients, state, trials, lr, step)
    return norm
