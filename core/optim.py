"""From gradients to new parameters: L2, clipping, plain SGD. All settings are arrays (T,) on the device."""

from __future__ import annotations

from core.model import Model, is_bias, is_weight
from core.ops import Ops
from core.random import Array


def _spread(per_trial: Array, like: Array) -> Array:
    """(T,) -> (T, 1, ...), to broadcast against like."""
    return per_trial.reshape(-1, *[1] * (like.ndim - 1))


def add_l2(model: Model, gradients: Model, reg: Array) -> None:
    """Add the gradient of reg / 2 * sum of squares of the conv and linear weights, in place."""
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
    one = ops.xp.ones_like(norm)
    return ops.xp.where(norm > limit, limit, one) / ops.xp.where(norm > limit, norm, one)


def sgd(model: Model, gradients: Model, lr: Array) -> None:
    """parameter -= lr * gradient, in place."""
    for name, gradient in gradients.items():
        model[name] -= _spread(lr, gradient) * gradient
