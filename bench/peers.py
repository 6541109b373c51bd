"""What the CPU backend is measured against: PyTorch in its three modes, and the report's own algorithm in NumPy.

Each returns a function that takes one training step of one trial: the batch gathered from uint8 images and scaled,
forward, backward, L2, clipping to norm 5, update.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from core.config.architecture import EPSILON, Architecture
from core.config.settings import Settings
from core.network.parameters import initial_model

Step = Callable[[], None]
MODES = ("eager", "channels-last", "compiled")
BATCHES = 64  # that are drawn beforehand, by either side


def torch_module(architecture: Architecture, dropout: float) -> Any:
    """The architecture in PyTorch, for networks without shortcuts."""
    from torch import nn

    assert not architecture.residual
    layers: list[Any] = []
    for layer in architecture.layers:
        layers += [nn.Conv2d(layer.channels, layer.filters, 3, padding=layer.pad), nn.BatchNorm2d(layer.filters)]
        layers += [nn.ReLU(), *([nn.MaxPool2d(layer.pool)] if layer.pool > 1 else [])]
    if architecture.global_pool:
        layers.append(nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(architecture.features, architecture.classes)
    )


def torch_step(
    architecture: Architecture, settings: Settings, pixels: np.ndarray, labels: np.ndarray, mode: str
) -> Step:
    """A step in one of MODES; compiled is torch.compile of the channels-last model."""
    import torch
    from torch import nn

    layout = torch.contiguous_format if mode == "eager" else torch.channels_last
    images, classes = torch.from_numpy(pixels).contiguous(memory_format=layout), torch.from_numpy(labels)
    plain = torch_module(architecture, settings.dropout).to(memory_format=layout)
    model = torch.compile(plain) if mode == "compiled" else plain
    optimiser = torch.optim.SGD(
        plain.parameters(),
        settings.lr,
        weight_decay=settings.reg,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
    )
    drawn = np.random.default_rng(0).integers(0, len(pixels), (BATCHES, settings.batch_size))
    batches = cycle(torch.from_numpy(drawn))

    def step() -> None:
        chosen = next(batches)
        x = images[chosen].float().mul_(1 / 255)
        if settings.flip or settings.crop:
            x = _flipped_and_cropped(x, settings).contiguous(memory_format=layout)
        optimiser.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(x), classes[chosen]).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 5.0)
        optimiser.step()

    return step


def _flipped_and_cropped(x: Any, settings: Settings) -> Any:
    """Each image mirrored with probability flip, and cut anywhere from itself with a rim of zeros, in one gather."""
    import torch

    pad, (n, c, height, width) = settings.crop, x.shape
    padded = torch.nn.functional.pad(x, (pad, pad, pad, pad))
    rows = torch.randint(0, 2 * pad + 1, (n, 1)) + torch.arange(height)
    columns = torch.randint(0, 2 * pad + 1, (n, 1)) + torch.arange(width)
    columns = torch.where(torch.rand(n, 1) < settings.flip, columns.flip(1), columns)
    batch, channel = torch.arange(n)[:, None, None, None], torch.arange(c)[:, None, None]
    return padded[batch, channel, rows[:, None, :, None], columns[:, None, None, :]]


def report_step(architecture: Architecture, settings: Settings, pixels: np.ndarray, labels: np.ndarray) -> Step:
    """The algorithm of the report's code: float64, convolution and pooling by loops over output positions.

    Like that code it computes the gradient of the pictures as well, which nobody needs.
    """
    model = {name: values[0].astype(np.float64) for name, values in initial_model(architecture, [settings]).items()}
    rng = np.random.default_rng(0)

    def step() -> None:
        chosen = rng.integers(0, len(pixels), settings.batch_size)
        x, saved = pixels[chosen] / 255, []
        for layer in architecture.layers:
            w, b, gamma, beta = (model[f"{name}{layer.number}"] for name in ("w", "b", "gamma", "beta"))
            x, kept = _report_block(x, w, b, gamma, beta, layer.pad)
            saved.append(kept)
        last = len(saved) + 1
        keep = (rng.random((len(x), x[0].size)) >= settings.dropout) / (1 - settings.dropout)
        flat = x.reshape(len(x), -1) * keep
        logits = flat @ model[f"w{last}"] + model[f"b{last}"]
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        delta = exponentials / exponentials.sum(axis=1, keepdims=True)
        delta[np.arange(len(x)), labels[chosen]] -= 1
        delta /= len(x)
        gradients = {f"w{last}": flat.T @ delta, f"b{last}": delta.sum(axis=0)}
        dx = (delta @ model[f"w{last}"].T * keep).reshape(x.shape)
        for number in reversed(range(1, last)):
            dx, *values = _report_block_gradient(dx, *saved.pop())
            gradients |= {
                f"{name}{number}": value for name, value in zip(("w", "b", "gamma", "beta"), values, strict=True)
            }
        for name, gradient in gradients.items():
            if name[0] == "w":
                gradient += settings.reg * model[name]
            norm = np.linalg.norm(gradient)
            model[name] -= settings.lr * gradient * (5 / norm if norm > 5 and name[0] != "b" else 1)

    return step


def _positions(height: int, width: int) -> Sequence[tuple[int, int]]:
    return [(i, j) for i in range(height) for j in range(width)]


def _report_block(
    x: np.ndarray, w: np.ndarray, b: np.ndarray, gamma: np.ndarray, beta: np.ndarray, pad: int
) -> tuple[np.ndarray, tuple[Any, ...]]:
    """conv -> batch norm -> ReLU -> max pool, which writes down where each maximum was."""
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    height, width = padded.shape[2] - 2, padded.shape[3] - 2
    z = np.zeros((len(x), len(w), height, width))
    for i, j in _positions(height, width):
        z[:, :, i, j] = np.tensordot(padded[:, :, i : i + 3, j : j + 3], w, axes=([1, 2, 3], [1, 2, 3])) + b
    rows = _as_rows(z)
    mean, variance = rows.mean(axis=0), rows.var(axis=0)
    normal = (rows - mean) / np.sqrt(variance + EPSILON)
    before = _as_images(gamma * normal + beta, z.shape)
    active = np.maximum(0, before)
    y, where = np.zeros((*z.shape[:2], height // 2, width // 2)), np.zeros_like(active)
    every_image, every_filter = np.ogrid[: len(x), : len(w)]
    for i, j in _positions(*y.shape[2:]):
        window = active[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        y[:, :, i, j] = window.max(axis=(2, 3))
        largest = np.zeros((*y.shape[:2], 4))
        largest[every_image, every_filter, window.reshape(*y.shape[:2], 4).argmax(axis=2)] = 1
        where[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = largest.reshape(window.shape)
    return y, (padded, w, gamma, rows - mean, variance, normal, before, where, pad)


def _as_rows(images: np.ndarray) -> np.ndarray:
    """(N, F, H, W) -> (N * H * W, F)."""
    return images.transpose(0, 2, 3, 1).reshape(-1, images.shape[1])


def _as_images(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    n, f, height, width = shape
    return rows.reshape(n, height, width, f).transpose(0, 3, 1, 2)


def _report_block_gradient(dy: np.ndarray, *saved: Any) -> tuple[np.ndarray, ...]:
    """dx, dw, db, dgamma, dbeta."""
    padded, w, gamma, from_mean, variance, normal, before, where, pad = saved
    dz = np.zeros_like(where)
    for i, j in _positions(*dy.shape[2:]):
        window = ..., slice(2 * i, 2 * i + 2), slice(2 * j, 2 * j + 2)
        dz[window] += dy[:, :, i, j, None, None] * where[window]
    rows = _as_rows(dz * (before > 0))
    dgamma, dbeta = (rows * normal).sum(axis=0), rows.sum(axis=0)
    scaled, spread = rows * gamma, variance + EPSILON
    dvariance = (scaled * from_mean * -0.5 * spread**-1.5).sum(axis=0)
    dmean = -(scaled / np.sqrt(spread)).sum(axis=0) - 2 * dvariance * from_mean.mean(axis=0)
    rows = scaled / np.sqrt(spread) + dvariance * 2 * from_mean / len(rows) + dmean / len(rows)
    dz = _as_images(rows, dz.shape)
    dx, dw = np.zeros_like(padded), np.zeros_like(w)
    for i, j in _positions(*dz.shape[2:]):
        at = dz[:, :, i, j]
        dw += np.tensordot(at, padded[:, :, i : i + 3, j : j + 3], axes=(0, 0))
        dx[:, :, i : i + 3, j : j + 3] += np.tensordot(at, w, axes=(1, 0))
    return dx[:, :, pad:-pad, pad:-pad], dw, dz.sum(axis=(0, 2, 3)), dgamma, dbeta
