"""What the GPU backend is measured against: PyTorch on the same GPU, in the ways that people use it.

Each function returns one that takes a training step of one trial (grouped: of a group). The images are on the GPU
already, as uint8, but for the DataLoader's; float32 products are exact unless the precision is "tf32".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import numpy as np

from bench import peers
from core.config.architecture import Architecture
from core.config.settings import Settings

Step = Callable[[], None]
CLIP = 5.0


def use_precision(precision: str) -> None:
    """Whether PyTorch may round what it multiplies, as ours does."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True


class _OneTrial:
    """A model with its optimiser and the images on the device."""

    def __init__(
        self, architecture: Architecture, settings: Settings, pixels: np.ndarray, labels: np.ndarray, device: str
    ) -> None:
        import torch

        self.torch, self.settings = torch, settings
        layout = torch.channels_last
        self.images = torch.from_numpy(pixels).to(device).contiguous(memory_format=layout)
        self.labels = torch.from_numpy(labels).to(device)
        self.model = peers.torch_module(architecture, settings.dropout).to(device).to(memory_format=layout)
        self.forward: Callable[[Any], Any] = self.model
        self.optimiser = torch.optim.SGD(self.model.parameters(), settings.lr, weight_decay=settings.reg)

    def train(self, chosen: Any) -> None:
        """A step on the chosen images."""
        x = self.images[chosen].float().mul_(1 / 255)
        self.optimiser.zero_grad(set_to_none=True)
        self.torch.nn.functional.cross_entropy(self.forward(x), self.labels[chosen]).backward()
        self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimiser.step()


def eager(
    architecture: Architecture, settings: Settings, pixels: np.ndarray, labels: np.ndarray, device: str = "cuda"
) -> Step:
    """Channels-last, one kernel after another."""
    trial = _OneTrial(architecture, settings, pixels, labels, device)
    batches = _batches(len(pixels), settings.batch_size, device)
    return lambda: trial.train(next(batches))


def compiled(architecture: Architecture, settings: Settings, pixels: np.ndarray, labels: np.ndarray) -> Step:
    """torch.compile, and the whole step as one CUDA graph: the fastest that PyTorch offers."""
    import torch

    trial = _OneTrial(architecture, settings, pixels, labels, "cuda")
    trial.forward = torch.compile(trial.model)
    batches = _batches(len(pixels), settings.batch_size, "cuda")
    chosen = next(batches).clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # warm up, as PyTorch's notes on graphs ask for
        for _ in range(5):
            trial.train(chosen)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    trial.optimiser.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        trial.train(chosen)

    def step() -> None:
        chosen.copy_(next(batches))
        graph.replay()

    return step


def grouped(
    architecture: Architecture,
    trials: list[Settings],
    pixels: np.ndarray,
    labels: np.ndarray,
    device: str = "cuda",
) -> Step:
    """A group of trials as one network whose convolutions have a group of channels a trial."""
    import torch
    from torch import nn

    count, settings = len(trials), trials[0]
    layers: list[Any] = []
    for layer in architecture.layers:
        channels, groups = (layer.channels, 1) if layer.number == 1 else (layer.channels * count, count)
        layers.append(nn.Conv2d(channels, layer.filters * count, 3, padding=layer.pad, groups=groups))
        layers += [nn.BatchNorm2d(layer.filters * count), nn.ReLU()]
        layers += [nn.MaxPool2d(layer.pool)] if layer.pool > 1 else []
    body = nn.Sequential(*layers, nn.Dropout(settings.dropout)).to(device)
    weight = torch.randn(count, architecture.features, architecture.classes, device=device) * 0.01
    bias = torch.zeros(count, 1, architecture.classes, device=device)
    parameters = [*body.parameters(), weight.requires_grad_(), bias.requires_grad_()]
    rates, decay = (torch.tensor([getattr(trial, name) for trial in trials], device=device) for name in ("lr", "reg"))
    images, classes = torch.from_numpy(pixels).to(device), torch.from_numpy(labels).to(device)
    batches = _batches(len(pixels), settings.batch_size, device)

    def step() -> None:
        chosen = next(batches)
        features = body(images[chosen].float().mul_(1 / 255))
        features = features.reshape(len(chosen), count, -1).transpose(0, 1)
        outputs = torch.baddbmm(bias, features, weight)
        loss = nn.functional.cross_entropy(outputs.flatten(0, 1), classes[chosen].repeat(count), reduction="sum")
        gradients = torch.autograd.grad(loss / len(chosen), parameters)
        with torch.no_grad():
            apart = [(p.view(count, -1), g.reshape(count, -1)) for p, g in zip(parameters, gradients, strict=True)]
            moves = [g.add_(p * decay[:, None]) for p, g in apart]
            norm = torch.stack([move.square().sum(1) for move in moves]).sum(0).sqrt()
            factor = (rates * (CLIP / norm).clamp(max=1))[:, None]
            for (values, _), move in zip(apart, moves, strict=True):
                values -= factor * move

    return step


def data_loader(
    architecture: Architecture, settings: Settings, pixels: np.ndarray, labels: np.ndarray, device: str = "cuda"
) -> Step:
    """As most people write it: a DataLoader that makes float batches on the CPU, and loss.item() at every step."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    model = peers.torch_module(architecture, settings.dropout).to(device)
    optimiser = torch.optim.SGD(model.parameters(), settings.lr, weight_decay=settings.reg)
    data = TensorDataset(torch.from_numpy(pixels).float().div(255), torch.from_numpy(labels))
    loader = DataLoader(data, settings.batch_size, shuffle=True, num_workers=2, pin_memory=device == "cuda")
    losses = []

    def endless() -> Iterator[Any]:
        while True:
            yield from loader

    batches = endless()

    def step() -> None:
        x, y = (part.to(device) for part in next(batches))
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        losses.append(loss.item())

    return step


def _batches(count: int, size: int, device: str) -> Iterator[Any]:
    """Random batches, drawn on the device beforehand."""
    import torch

    return cycle(torch.randint(0, count, (peers.BATCHES, size), device=device))
