"""The network, for any number of conv blocks: forward, backward, and in test mode.

A model is a dict of arrays (T, ...), named as in the .npz files: w1, b1, gamma1, beta1, running_mean1,
running_var1 for the first convolution and so on, then w and b of the linear layer with the next number. The 1x1
projection of a shortcut is p<number of the convolution whose output it joins>.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from core.config.architecture import MOMENTUM, Architecture, Layer
from core.config.hyperparameters import Hyperparameters
from core.data.images import Images
from core.network.parameters import Model
from core.ops import Ops
from core.random import Array


def loss_and_gradients(
    ops: Ops, architecture: Architecture, model: Model, x: Array, labels: Array, trials: Hyperparameters, step: int
) -> tuple[Array, Array, Model, Model]:
    """One forward and backward pass in training mode.

    x       (1, N, C, H, W), shared by the trials; (T, N, C, H, W) where they augment differently
    labels  (N,)
    step    counted from 0 through the whole training: decides what drops out

    Returns each image's cross entropy (T, N), whether it was classified rightly (T, N), the gradients of the
    trained parameters without L2, and the batch's statistics under their running names.
    """
    x, pooled, saved, statistics = _forward(ops, architecture, model, x)
    last = len(architecture.layers) + 1
    loss, correct, head = ops.head(x, *arrays_of(model, last, "w", "b"), labels, trials.dropout, trials.seed, step)
    weight = ops.xp.where(ops.xp.asarray(trials.sums), 1.0, 1.0 / len(labels)).astype(loss.dtype)
    dloss = ops.xp.repeat(weight, len(labels)).reshape(loss.shape)
    return loss, correct, _backward(ops, architecture, dloss, head, pooled, saved), statistics


def _forward(ops: Ops, architecture: Architecture, model: Model, x: Array) -> tuple[Array, Any, list[Any], Model]:
    """What the head reads, and what the gradients need: of the global pooling, and of each layer; the statistics."""
    saved: list[Any] = []
    statistics: Model = {}
    source = x  # of the block: what its shortcut adds
    for layer in architecture.layers:
        i = layer.number
        shortcut, projected = shortcut_of(ops, layer, model, source)
        w, b, gamma, beta = arrays_of(model, i, "w", "b", "gamma", "beta")
        x, statistics[f"running_mean{i}"], statistics[f"running_var{i}"], kept = ops.block(
            x, w, b, gamma, beta, shortcut, pad=layer.pad, pool=layer.pool
        )
        saved.append((kept, projected))
        source = x if layer.ends_block else source
    x, pooled = ops.mean_pool(x) if architecture.global_pool else (x, None)
    return x, pooled, saved, statistics


def _backward(ops: Ops, architecture: Architecture, dloss: Array, head: Any, pooled: Any, saved: list[Any]) -> Model:
    """The gradients, from the head to the first layer. Takes out of saved what it has used."""
    gradients: Model = {}
    last = len(architecture.layers) + 1
    dx, gradients[f"w{last}"], gradients[f"b{last}"] = ops.head_grad(dloss, head)
    if architecture.global_pool:
        dx = ops.mean_pool_grad(dx, pooled)
    dsource = None  # what reaches the block's input by its shortcut
    for layer in reversed(architecture.layers):
        i = layer.number
        kept, projected = saved.pop()
        dx, dw, db, dgamma, dbeta, dshortcut = ops.block_grad(dx, kept, need_dx=i > 1)
        gradients |= {f"w{i}": dw, f"b{i}": db, f"gamma{i}": dgamma, f"beta{i}": dbeta}
        if layer.shortcut == "projection":
            dsource, gradients[f"p{i}"], _ = ops.conv2d_grad(dshortcut, projected, need_dx=layer.block > 1)
        elif layer.shortcut == "identity":
            dsource = dshortcut
        elif dsource is not None and dx is not None:
            dx += dsource
            dsource = None
    return gradients


def arrays_of(model: Model, number: int, *names: str) -> Iterator[Array]:
    """The layer's arrays of these names."""
    return (model[f"{name}{number}"] for name in names)


def shortcut_of(ops: Ops, layer: Layer, model: Model, source: Array) -> tuple[Array | None, Any]:
    """What the layer adds before its ReLU, and what the gradient of that needs."""
    if layer.shortcut != "projection":
        return (source if layer.shortcut else None), None
    projection = model[f"p{layer.number}"]
    result: tuple[Array, Any] = ops.conv2d(
        source, projection, ops.xp.zeros(projection.shape[:2], projection.dtype), pad=0
    )
    return result


def track_statistics(model: Model, statistics: Model) -> None:
    """Move the running statistics towards the batch's, in place."""
    for name, batch in statistics.items():
        model[name] *= MOMENTUM
        model[name] += batch * (1 - MOMENTUM)


def logits(ops: Ops, architecture: Architecture, model: Model, x: Array) -> Array:
    """Outputs of the linear layer in test mode: running statistics, no dropout. x (1, N, C, H, W) -> (T, N, L)."""
    source = x
    for layer in architecture.layers:
        shortcut, _ = shortcut_of(ops, layer, model, source)
        names = "w", "b", "gamma", "beta", "running_mean", "running_var"
        w, b, gamma, beta, mean, variance = arrays_of(model, layer.number, *names)
        x = ops.block_inference(x, w, b, gamma, beta, mean, variance, shortcut, pad=layer.pad, pool=layer.pool)
        source = x if layer.ends_block else source
    if architecture.global_pool:
        x, _ = ops.mean_pool(x)
    outputs: Array = ops.head_inference(x, *arrays_of(model, len(architecture.layers) + 1, "w", "b"))
    return outputs


def predict(
    ops: Ops, architecture: Architecture, model: Model, images: Images, batch_size: int = 128
) -> Iterator[tuple[Array, Array]]:
    """Batch by batch in the images' order: logits (T, n, L) and labels (n,), on the device."""
    dtype = model["w1"].dtype.type
    for start in range(0, len(images), batch_size):
        x, labels = images.batch(slice(start, start + batch_size), dtype)
        yield logits(ops, architecture, model, x), labels
