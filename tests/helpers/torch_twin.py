"""Each operation, each network and the training of one trial in PyTorch: no trial axis, gradients by autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from core.config.architecture import Architecture
from core.config.settings import Settings
from core.random import Purpose, uniform
from tests.helpers.cases import Arrays, Case

torch.set_num_threads(1)  # more only wait for each other on arrays this small


def conv2d(x: Tensor, w: Tensor, b: Tensor, *, stride: int = 1, pad: int = 2) -> Tensor:
    return functional.conv2d(x, w, b, stride, pad)


def batch_norm(x: Tensor, gamma: Tensor, beta: Tensor, *, eps: float = 1e-5) -> Tensor:
    return functional.batch_norm(x, None, None, gamma, beta, training=True, eps=eps)


def batch_norm_inference(x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return functional.batch_norm(x, mean, variance, gamma, beta, training=False, eps=1e-5)


def max_pool(x: Tensor, *, size: int = 2) -> Tensor:
    return functional.max_pool2d(x, size)


def block(
    x: Tensor,
    w: Tensor,
    b: Tensor,
    gamma: Tensor,
    beta: Tensor,
    shortcut: Tensor | float = 0,
    *,
    pad: int = 2,
    pool: int = 2,
) -> Tensor:
    return max_pool((batch_norm(conv2d(x, w, b, pad=pad), gamma, beta) + shortcut).relu(), size=pool)


def block_inference(
    x: Tensor,
    w: Tensor,
    b: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
    shortcut: Tensor | float = 0,
    *,
    pad: int = 2,
    pool: int = 2,
) -> Tensor:
    normal = batch_norm_inference(conv2d(x, w, b, pad=pad), gamma, beta, mean, variance)
    return max_pool((normal + shortcut).relu(), size=pool)


def mean_pool(x: Tensor) -> Tensor:
    return functional.adaptive_avg_pool2d(x, 1)


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
    "mean_pool": mean_pool,
    "dropout": dropout,
    "linear": linear,
    "softmax_cross_entropy": softmax_cross_entropy,
    "block": block,
    "block_inference": block_inference,
    "head": head,
    "head_inference": lambda x, w, b: linear(x.flatten(1), w, b),
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


def features(
    architecture: Architecture, weights: dict[str, Tensor], running: dict[str, Tensor], x: Tensor, *, training: bool
) -> Tensor:
    """What the linear layer reads; in training, running moves to the batch's statistics."""
    number = 0
    for index, pools in enumerate(architecture.pool or (None,) * len(architecture.filters)):
        source = x
        for last in (False, True) if architecture.residual else (True,):
            number += 1
            w, b, gamma, beta = (weights[f"{name}{number}"] for name in ("w", "b", "gamma", "beta"))
            x = functional.conv2d(x, w, b, padding=1 if architecture.residual else 2)
            statistics = running[f"running_mean{number}"], running[f"running_var{number}"]
            if training:
                _track(x, *statistics)
                x = batch_norm(x, gamma, beta)
            else:
                x = batch_norm_inference(x, gamma, beta, *statistics)
            if last and architecture.residual:
                same = source.shape[1] == architecture.filters[index]
                x = x + (source if same else functional.conv2d(source, weights[f"p{number}"]))
            x = x.relu()
        if pools or (pools is None and min(x.shape[2:]) >= 2):
            x = max_pool(x)
    return x.mean((2, 3)) if architecture.global_pool else x.flatten(1)


def _track(z: Tensor, mean: Tensor, variance: Tensor) -> None:
    """Move to the batch's mean and biased variance, where PyTorch itself tracks the unbiased."""
    with torch.no_grad():
        mean.lerp_(z.mean((0, 2, 3)), 0.1)
        variance.lerp_(z.var((0, 2, 3), correction=0), 0.1)


def train(
    architecture: Architecture,
    start: Arrays,
    settings: Settings,
    batches: Iterable[tuple[np.ndarray, np.ndarray, float]],
) -> tuple[list[float], list[float], Arrays]:
    """Train on batches (x, labels, learning rate): each step's mean cross entropy and gradient norm; the last model."""
    running = {name: torch.tensor(values) for name, values in start.items() if name.startswith("running")}
    weights = {name: torch.tensor(values, requires_grad=True) for name, values in start.items() if name not in running}
    optimiser = _optimiser(weights, settings)
    *_, w, b = weights  # the linear layer's
    losses, norms = [], []
    for number, (x, labels, lr) in enumerate(batches):
        flat = features(architecture, weights, running, torch.tensor(x), training=True)
        chance = (torch.tensor(labels), settings.dropout, settings.seed, number)
        loss = head(flat, weights[w], weights[b], *chance)
        total = loss.sum() if settings.gradient == "sum" else loss.mean()
        if settings.optimiser != "adamw":
            total = total + settings.reg / 2 * sum((weights[name] ** 2).sum() for name in _decayed(weights))
        optimiser.zero_grad()
        total.backward()
        losses.append(loss.mean().item())
        norms.append(_clip(weights, settings))
        for group in optimiser.param_groups:
            group["lr"] = lr
        optimiser.step()
    return losses, norms, {name: values.detach().numpy() for name, values in (weights | running).items()}


def _decayed(weights: Iterable[str]) -> set[str]:
    """The weights of convolutions, projections and the linear layer."""
    return {name for name in weights if name[0] in "wp"}


def _optimiser(weights: dict[str, Tensor], settings: Settings) -> torch.optim.Optimizer:
    """PyTorch's own; the learning rate is set before each step."""
    decayed = [weights[name] for name in sorted(_decayed(weights))]
    others = [weights[name] for name in sorted(weights.keys() - _decayed(weights))]
    if settings.optimiser == "sgd":
        nesterov = settings.nesterov and settings.momentum > 0  # PyTorch refuses it without momentum
        return torch.optim.SGD(weights.values(), momentum=settings.momentum, nesterov=nesterov)
    betas = {"betas": (settings.beta1, settings.beta2), "eps": settings.adam_eps}
    if settings.optimiser == "adam":
        return torch.optim.Adam(weights.values(), **betas)
    groups = [{"params": decayed, "weight_decay": settings.reg}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, **betas)


def _clip(weights: dict[str, Tensor], settings: Settings) -> float:
    """Clip the gradients in place, each tensor but the biases and then all together; their joint norm before."""
    before = _norm(weights)
    for name, values in weights.items():
        if settings.clip and not (name[0] == "b" and name[1:].isdigit()):
            values.grad *= min(1, settings.clip / values.grad.norm().item())
    if settings.clip_global:
        factor = min(1, settings.clip_global / _norm(weights))
        for values in weights.values():
            values.grad *= factor
    return before


def _norm(weights: dict[str, Tensor]) -> float:
    return torch.cat([values.grad.flatten() for values in weights.values()]).norm().item()


def one_cycle(settings: Settings, steps: int) -> list[float]:
    """The learning rate of each step by PyTorch's own scheduler."""
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=settings.lr,
        total_steps=steps,
        pct_start=settings.cycle_rise,
        div_factor=settings.cycle_start,
        final_div_factor=settings.cycle_end,
        cycle_momentum=False,
    )
    rates = []
    for step in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if step < steps - 1:
            scheduler.step()
    return rates
