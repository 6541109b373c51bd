"""Each operation, and the training of one trial, written with PyTorch: no trial axis, gradients by autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from cases import Arrays, Case
from torch import Tensor
from torch.nn import functional

from core.config import Settings
from core.random import Purpose, uniform

torch.set_num_threads(1)  # more only wait for each other on arrays this small


def conv2d(x: Tensor, w: Tensor, b: Tensor, *, stride: int = 1, pad: int = 2) -> Tensor:
    return functional.conv2d(x, w, b, stride, pad)


def batch_norm(x: Tensor, gamma: Tensor, beta: Tensor, *, eps: float = 1e-5) -> Tensor:
    return functional.batch_norm(x, None, None, gamma, beta, training=True, eps=eps)


def batch_norm_inference(x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return functional.batch_norm(x, mean, variance, gamma, beta, training=False, eps=1e-5)


def max_pool(x: Tensor, *, size: int = 2) -> Tensor:
    return functional.max_pool2d(x, size)


def block(x: Tensor, w: Tensor, b: Tensor, gamma: Tensor, beta: Tensor, *, pad: int = 2, pool: int = 2) -> Tensor:
    return max_pool(batch_norm(conv2d(x, w, b, pad=pad), gamma, beta).relu(), size=pool)


def block_inference(x: Tensor, w: Tensor, b: Tensor, *norm: Tensor) -> Tensor:
    return max_pool(batch_norm_inference(conv2d(x, w, b), *norm).relu())


def dropout(x: Tensor, u: Tensor, rate: float) -> Tensor:
    return x * (u >= rate) / (1 - rate)


def linear(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return x @ w + b


def softmax_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits, labels, reduction="none")


def head(x: Tensor, w: Tensor, b: Tensor, labels: Tensor, rate: float, seed: int, step: int) -> Tensor:
    """With the mask that our random numbers make."""
    flat = x.flatten(1)
    u = uniform(np.array([seed], np.uint64), Purpose.DROPOUT, step, flat.numel()).reshape(flat.shape)
    return softmax_cross_entropy(linear(dropout(flat, torch.tensor(u), rate), w, b), labels)


ORACLES: dict[str, Callable[..., Tensor]] = {
    "conv2d": conv2d,
    "batch_norm": batch_norm,
    "batch_norm_inference": batch_norm_inference,
    "relu": torch.relu,
    "max_pool": max_pool,
    "dropout": dropout,
    "linear": linear,
    "softmax_cross_entropy": softmax_cross_entropy,
    "block": block,
    "block_inference": block_inference,
    "head": head,
}


def run(case: Case, trial: int, dy: np.ndarray) -> tuple[np.ndarray, Arrays]:
    """One trial's first output, and the gradients of sum(output * dy) by input."""
    inputs: dict[str, Any] = {}
    for name, value in case.alone(trial).items():
        whole = name in ("labels", "step")  # all else has a trial axis
        one = value if whole else value[0]
        inputs[name] = torch.tensor(one, requires_grad=name in case.wanted) if np.ndim(one) else one
    y = ORACLES[case.operation](*inputs.values(), **case.options)
    if case.wanted:
        y.backward(torch.tensor(dy))
    return y.detach().numpy(), {name: inputs[name].grad.numpy() for name in case.wanted}


def train(
    start: Arrays, settings: Settings, batches: Iterable[tuple[np.ndarray, np.ndarray, float]]
) -> tuple[list[float], list[float], Arrays]:
    """Train on batches (x, labels, learning rate): each step's mean cross entropy and gradient norm; the last model."""
    running = {name: torch.tensor(values) for name, values in start.items() if name.startswith("running")}
    weights = {name: torch.tensor(values, requires_grad=True) for name, values in start.items() if name not in running}
    optimiser = torch.optim.SGD(weights.values())
    losses, norms = [], []
    for number, (x, labels, lr) in enumerate(batches):
        features = _forward(weights, running, torch.tensor(x))
        last = (weights["w3"], weights["b3"], torch.tensor(labels), settings.dropout, settings.seed, number)
        loss = head(features, *last)
        penalty = sum((weights[name] ** 2).sum() for name in ("w1", "w2", "w3"))
        optimiser.zero_grad()
        ((loss.sum() if settings.gradient == "sum" else loss.mean()) + settings.reg / 2 * penalty).backward()
        losses.append(loss.mean().item())
        norms.append(_clip(weights, settings))
        optimiser.param_groups[0]["lr"] = lr
        optimiser.step()
    return losses, norms, {name: values.detach().numpy() for name, values in (weights | running).items()}


def _forward(weights: dict[str, Tensor], running: dict[str, Tensor], x: Tensor) -> Tensor:
    """Both blocks; running moves to the batch's mean and biased variance, where PyTorch itself tracks the unbiased."""
    for i in (1, 2):
        w, b, gamma, beta = (weights[f"{name}{i}"] for name in ("w", "b", "gamma", "beta"))
        with torch.no_grad():
            z = conv2d(x, w, b)
            running[f"running_mean{i}"].lerp_(z.mean((0, 2, 3)), 0.1)
            running[f"running_var{i}"].lerp_(z.var((0, 2, 3), correction=0), 0.1)
        x = block(x, w, b, gamma, beta)
    return x


def _clip(weights: dict[str, Tensor], settings: Settings) -> float:
    """Clip the gradients in place, each tensor but the biases and then all together; their joint norm before."""
    before = _norm(weights)
    for name in weights:
        if settings.clip and name not in ("b1", "b2", "b3"):
            weights[name].grad *= min(1, settings.clip / weights[name].grad.norm().item())
    if settings.clip_global:
        factor = min(1, settings.clip_global / _norm(weights))
        for values in weights.values():
            values.grad *= factor
    return before


def _norm(weights: dict[str, Tensor]) -> float:
    return torch.cat([values.grad.flatten() for values in weights.values()]).norm().item()
