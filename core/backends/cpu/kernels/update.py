"""The update of core.training.optimisers: a pass over each tensor measures its gradient, one moves its parameters."""

from __future__ import annotations

import numpy as np

from core.backends.cpu.kernels.jit import kernel
from core.config.hyperparameters import Hyperparameters
from core.network.parameters import Model, is_bias, is_weight
from core.training import optimisers

Array = np.ndarray


@kernel("void(float32[:,::1], float32[:,::1], float32[::1], int64, float64[:,::1])")
def _measure(parameters, gradient, reg, tensor, squares):  # type: ignore[no-untyped-def]
    """gradient += reg * parameters, and its squared 2-norm, for each trial."""
    trials, size = gradient.shape
    for t in range(trials):
        total = 0.0
        for i in range(size):
            value = gradient[t, i] + reg[t] * parameters[t, i]
            gradient[t, i] = value
            total += np.float64(value) * np.float64(value)
        squares[t, tensor] = total


@kernel("void(float64[:,::1], boolean[::1], float64[::1], float64[::1], float64[:,::1], float32[::1])")
def _clip(squares, biases, clip, clip_global, factors, norm):  # type: ignore[no-untyped-def]
    """From the squared norms of all tensors: what to multiply each gradient by to clip it, and each trial's norm."""
    trials, tensors = squares.shape
    for t in range(trials):
        before, after = 0.0, 0.0
        for k in range(tensors):
            length = np.sqrt(squares[t, k])
            factors[k, t] = clip[t] / length if length > clip[t] and not biases[k] else 1.0
            before += squares[t, k]
            after += squares[t, k] * factors[k, t] * factors[k, t]
        norm[t] = np.sqrt(before)
        whole = np.sqrt(after)
        if whole > clip_global[t]:
            for k in range(tensors):
                factors[k, t] *= clip_global[t] / whole


@kernel("void(float32[:,::1], float32[:,::1], float64[::1], float32[::1])")
def _descend(parameters, gradient, factor, lr):  # type: ignore[no-untyped-def]
    trials, size = gradient.shape
    for t in range(trials):
        shrunk, rate = np.float32(factor[t]), lr[t]
        for i in range(size):
            parameters[t, i] -= rate * (shrunk * gradient[t, i])


@kernel("void(float32[:,::1], float32[:,::1], float32[:,::1], float64[::1], float32[::1], float32[::1], boolean[::1])")
def _momentum(parameters, gradient, velocity, factor, lr, momentum, nesterov):  # type: ignore[no-untyped-def]
    trials, size = gradient.shape
    for t in range(trials):
        shrunk, rate, kept = np.float32(factor[t]), lr[t], momentum[t]
        if kept == 0:  # the rounding of _descend: who else is in the group must not matter
            for i in range(size):
                parameters[t, i] -= rate * (shrunk * gradient[t, i])
            for i in range(size):
                velocity[t, i] = shrunk * gradient[t, i]
            continue
        ahead, share = (kept, np.float32(1)) if nesterov[t] else (np.float32(1), np.float32(0))
        for i in range(size):
            move = shrunk * gradient[t, i]
            speed = kept * velocity[t, i] + move
            velocity[t, i] = speed
            parameters[t, i] -= rate * (share * move + ahead * speed)


@kernel("void(float32[:,::1], float32[:,::1], float32[:,::1], float32[:,::1], float64[::1], float32[:,::1])")
def _adam(parameters, gradient, mean, square, factor, settings):  # type: ignore[no-untyped-def]
    """settings  (T, 8): rate, decay of the weights, beta1, 1 - beta1, beta2, 1 - beta2, root, eps"""
    trials, size = gradient.shape
    for t in range(trials):
        shrunk = np.float32(factor[t])
        rate, decay, beta1, rest1, beta2, rest2, root, eps = settings[t]
        for i in range(size):
            value = shrunk * gradient[t, i]
            first = beta1 * mean[t, i] + rest1 * value
            second = beta2 * square[t, i] + rest2 * value * value
            mean[t, i], square[t, i] = first, second
            start = parameters[t, i] - decay * parameters[t, i]
            parameters[t, i] = start - rate * first / (np.sqrt(second) / root + eps)


def _flat(values: Array) -> Array:
    return values.reshape(len(values), -1)


def update(
    model: Model, gradients: Model, state: Model, trials: Hyperparameters, lr: Array, step: int, *, optimiser: str
) -> Array:
    """core.training.optimisers.update for float32 arrays."""
    if next(iter(gradients.values())).dtype != np.float32:
        plain: Array = optimisers.update(model, gradients, state, trials, lr, step, optimiser=optimiser)
        return plain
    names = list(gradients)
    tensors = [(_flat(model[name]), np.ascontiguousarray(_flat(gradients[name]))) for name in names]
    reg = trials.reg.astype(np.float32)
    none = np.zeros_like(reg)
    squares, factors = np.empty((len(lr), len(names))), np.empty((len(names), len(lr)))
    for k, (name, (parameters, gradient)) in enumerate(zip(names, tensors, strict=True)):
        _measure(parameters, gradient, reg if is_weight(name) and optimiser != "adamw" else none, k, squares)
    norm = np.empty(len(lr), np.float32)
    _clip(squares, np.array([is_bias(name) for name in names]), trials.clip, trials.clip_global, factors, norm)
    rate = lr.astype(np.float32)
    adam = [_adam_settings(trials, lr, step, decays) for decays in (False, True)] if optimiser != "sgd" else []
    for name, (parameters, gradient), factor in zip(names, tensors, factors, strict=True):
        if optimiser != "sgd":
            memory = _flat(state[f"mean.{name}"]), _flat(state[f"square.{name}"])
            _adam(parameters, gradient, *memory, factor, adam[optimiser == "adamw" and is_weight(name)])
        elif state:
            velocity = _flat(state[f"velocity.{name}"])
            _momentum(parameters, gradient, velocity, factor, rate, trials.momentum.astype(np.float32), trials.nesterov)
        else:
            _descend(parameters, gradient, factor, rate)
    return norm


def _adam_settings(trials: Hyperparameters, lr: Array, step: int, decay: bool) -> Array:
    rate, root = lr / (1 - trials.beta1 ** (step + 1)), np.sqrt(1 - trials.beta2 ** (step + 1))
    beta1, beta2 = trials.beta1, trials.beta2
    columns = [rate, lr * trials.reg if decay else 0 * lr, beta1, 1 - beta1, beta2, 1 - beta2, root, trials.adam_eps]
    return np.stack(columns, axis=1).astype(np.float32)
