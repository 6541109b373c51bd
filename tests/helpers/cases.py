"""Tables for the tests and for any new backend: every field of Ops that computes, and networks of every kind.

The sizes differ from each other, so that a silent broadcast fails, and no input has ties: neither two equal values in
a pooling window nor a value at a kink. Inputs of operations are float64, in the order of the operation's arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core.backends.reference.backend import OPS as REFERENCE
from core.config.architecture import Architecture
from core.config.settings import AUGMENTATIONS
from core.ops import Ops

T, N, C, H, W, F, K, L = 3, 5, 2, 7, 6, 4, 3, 8
EPSILON = np.finfo(np.float32).eps
FACTOR = 8  # how much more than the reference another backend may err in float32
Inputs = Mapping[str, Any]
Arrays = dict[str, np.ndarray]
WHOLE = {"labels", "step"}  # inputs without a trial axis
ON_HOST = {"seed", "strength"}


@dataclass(frozen=True)
class Case:
    """One operation and its arguments.

    inputs   positional arguments; arrays start with T (1: shared by all trials), but for labels; numbers are for all
    outputs  names of what comes back before `saved`; the gradient goes into the first
    wanted   the inputs whose gradients operation_grad returns, in its order; none: there is no gradient
    options  keyword arguments
    """

    operation: str
    inputs: Inputs
    outputs: tuple[str, ...]
    wanted: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        marks = [*("+shortcut" for name in self.inputs if name == "shortcut"), *(f"shared {n}" for n in self.shared)]
        return "-".join([self.operation, *marks, *(f"{name}{value}" for name, value in self.options.items())])

    @property
    def shared(self) -> list[str]:
        """The inputs that have one entry for all trials; gradients of theirs are sums over the trials."""
        return [name for name, value in self.inputs.items() if isinstance(value, np.ndarray) and len(value) == 1]

    @property
    def own(self) -> list[str]:
        """The inputs that each trial has for itself."""
        arrays = [name for name, value in self.inputs.items() if isinstance(value, np.ndarray)]
        return [name for name in arrays if name not in WHOLE and name not in self.shared]

    def forward(self, ops: Ops, inputs: Inputs) -> tuple[Arrays, Any]:
        """The outputs by name, on the host, and saved."""
        result = getattr(ops, self.operation)(*inputs.values(), **self.options)
        parts = result if isinstance(result, tuple) else (result,)
        *values, saved = parts if self.wanted else (*parts, None)
        return _named(ops, self.outputs, values), saved

    def run(self, ops: Ops, inputs: Inputs, dtype: type = np.float64, **options: bool) -> Arrays:
        """Outputs, and the gradients of sum(y * cotangent) as "d" + name, computed in dtype, on the host.

        options  of operation_grad
        """
        outputs, saved = self.forward(ops, on_device(ops, inputs, dtype))
        if not self.wanted:
            return outputs
        dy = ops.xp.asarray(cotangent(outputs[self.outputs[0]]), dtype=dtype)
        return outputs | self.gradients(ops, dy, saved, **options)

    def gradients(self, ops: Ops, dy: Any, saved: Any, **options: bool) -> Arrays:
        """What operation_grad returns, by "d" + name, on the host, but for what it leaves out: None."""
        result = getattr(ops, f"{self.operation}_grad")(dy, saved, **options)
        values = [value for value in (result if isinstance(result, tuple) else (result,)) if value is not None]
        wanted = self.wanted if options.get("need_dx", True) else self.wanted[1:]
        gradients = _named(ops, [f"d{name}" for name in wanted], values)
        for name in [f"d{name}" for name in self.shared if name == "shortcut"]:  # which comes trial by trial
            gradients[name] = gradients[name].sum(axis=0, keepdims=True)
        return gradients

    def alone(self, trial: int) -> Inputs:
        """The inputs of a group that has this trial only."""
        return self.arranged([trial])

    def arranged(self, trials: list[int]) -> Inputs:
        """The inputs of a group of these trials, in this order."""
        return {name: value[trials] if name in self.own else value for name, value in self.inputs.items()}


def float32_errors(case: Case, ops: Ops, **options: bool) -> dict[str, float]:
    """Largest error of float32 results, in units of the largest exact value or of 1."""
    exact = case.run(REFERENCE, case.inputs)
    results = case.run(ops, case.inputs, np.float32, **options)
    assert all(values.dtype in (np.float32, np.bool_) for values in results.values())
    return {
        name: np.abs(values - 1.0 * exact[name]).max(initial=0) / max(1, np.abs(exact[name]).max(initial=0))
        for name, values in results.items()
    }


def worst_excess(case: Case, ops: Ops, **options: bool) -> float:
    """The largest error of float32 results over what is allowed: FACTOR times what the reference errs."""
    reference, errors = (float32_errors(case, backend, **options) for backend in (REFERENCE, ops))
    return max(error / (FACTOR * max(reference[name], EPSILON)) for name, error in errors.items())


def cotangent(y: np.ndarray) -> np.ndarray:
    """What y's gradient is taken along: for each trial the same numbers, whatever the group."""
    return np.broadcast_to(np.random.default_rng(99).standard_normal(y.shape[1:]), y.shape)


def on_device(ops: Ops, inputs: Inputs, dtype: type) -> Inputs:
    """Arrays as ops wants them: floats in dtype; some stay on the host."""
    return {
        name: ops.xp.asarray(value, dtype=dtype if value.dtype.kind == "f" else None)
        if isinstance(value, np.ndarray) and name not in ON_HOST
        else value
        for name, value in inputs.items()
    }


def _named(ops: Ops, names: Sequence[str], values: Any) -> Arrays:
    return {name: np.array(ops.to_host(value)) for name, value in zip(names, values, strict=True)}


def _distinct(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Values in (-2, 2) that keep apart from each other and from 0."""
    count = int(np.prod(shape))
    return ((rng.permutation(count) + 0.25) * 4 / count - 2).reshape(shape)


def _channels(rng: np.random.Generator, count: int) -> Arrays:
    """gamma of both signs, as training may make it, and beta."""
    return {"gamma": _distinct(rng, T, count), "beta": rng.standard_normal((T, count))}


def conv2d(x_trials: int = T, k: int = K, **options: int) -> Case:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((x_trials, N, C, H, W))
    w, b = rng.standard_normal((T, F, C, k, k)), rng.standard_normal((T, F))
    return Case("conv2d", {"x": x, "w": w, "b": b}, ("y",), ("x", "w", "b"), options)


def batch_norm(**options: float) -> Case:
    rng = np.random.default_rng(2)
    inputs = {"x": 3 * rng.standard_normal((T, N, C, H, W)) + 1, **_channels(rng, C)}
    return Case("batch_norm", inputs, ("y", "mean", "variance"), ("x", "gamma", "beta"), options)


def batch_norm_inference() -> Case:
    rng = np.random.default_rng(3)
    inputs = {"x": rng.standard_normal((T, N, C, H, W)), **_channels(rng, C), **_statistics(rng, C)}
    return Case("batch_norm_inference", inputs, ("y",))


def _statistics(rng: np.random.Generator, count: int) -> Arrays:
    return {"mean": rng.standard_normal((T, count)), "variance": rng.uniform(0.5, 2, (T, count))}


def relu() -> Case:
    return Case("relu", {"x": _distinct(np.random.default_rng(4), T, N, C, H, W)}, ("y",), ("x",))


def max_pool(**options: int) -> Case:
    x = _distinct(np.random.default_rng(5), T, N, C, H, W)
    return Case("max_pool", {"x": x}, ("y",), ("x",), options)


def mean_pool() -> Case:
    return Case("mean_pool", {"x": np.random.default_rng(12).standard_normal((T, N, C, H, W))}, ("y",), ("x",))


def dropout(u_trials: int = T) -> Case:
    rng = np.random.default_rng(6)
    x = rng.standard_normal((T, N, H))
    u = rng.integers(0, 2**24, (u_trials, N, H)) * 2.0**-24
    return Case("dropout", {"x": x, "u": u, "rate": np.array([0.0, 0.3, 0.75])}, ("y",), ("x",))


def linear() -> Case:
    rng = np.random.default_rng(7)
    x, w, b = (rng.standard_normal(shape) for shape in ((T, N, H), (T, H, L), (T, L)))
    return Case("linear", {"x": x, "w": w, "b": b}, ("y",), ("x", "w", "b"))


def softmax_cross_entropy() -> Case:
    rng = np.random.default_rng(8)
    inputs = {"logits": 3 * rng.standard_normal((T, N, L)), "labels": rng.integers(0, L, N)}
    return Case("softmax_cross_entropy", inputs, ("loss",), ("logits",))


def block(x_trials: int = T, shortcut_trials: int = 0, **options: int) -> Case:
    """shortcut_trials: how many entries the shortcut has; 0: there is none."""
    rng = np.random.default_rng(9)
    inputs = {**conv2d(x_trials).inputs, **_channels(rng, F), **_shortcut(shortcut_trials, **options)}
    return Case("block", inputs, ("y", "mean", "variance"), tuple(inputs), options)


def block_inference(x_trials: int = T, shortcut_trials: int = 0, **options: int) -> Case:
    statistics = _statistics(np.random.default_rng(10), F)
    inputs = {**block(x_trials).inputs, **statistics, **_shortcut(shortcut_trials, **options)}
    return Case("block_inference", inputs, ("y",), (), options)


def _shortcut(trials: int, pad: int = 2, **_: int) -> Arrays:
    """What is added to the output of conv2d."""
    shape = (trials, N, F, H + 2 * pad - K + 1, W + 2 * pad - K + 1)
    return {"shortcut": np.random.default_rng(13).standard_normal(shape)} if trials else {}


def head(seeds: tuple[int, ...] = (11, 2**40, 11)) -> Case:
    rng = np.random.default_rng(11)
    inputs = {
        "x": rng.standard_normal((T, N, C, H, W)),
        "w": rng.standard_normal((T, C * H * W, L)) / 8,
        "b": rng.standard_normal((T, L)),
        "labels": rng.integers(0, L, N),
        "rate": np.array([0.0, 0.3, 0.75]),
        "seed": np.array(seeds, np.uint64),
        "step": 17,
    }
    return Case("head", inputs, ("loss", "correct"), ("x", "w", "b"))


def head_inference() -> Case:
    rng = np.random.default_rng(15)
    w = rng.standard_normal((T, C * H * W, L)) / 8
    return Case(
        "head_inference",
        {"x": rng.standard_normal((T, N, C, H, W)), "w": w, "b": rng.standard_normal((T, L))},
        ("logits",),
    )


def augment() -> Case:
    """A trial that does nothing to the images, one that does everything, one that does half of it."""
    everything = {"flip": 0.5, "crop": 2, "rotate": 30, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4}
    full = np.array([(everything | {"noise": 0.1, "cutout": 3})[name] for name in AUGMENTATIONS])
    strength = np.stack([0 * full, full, full * (np.arange(len(full)) % 2)])
    x = np.random.default_rng(14).random((1, N, 3, H, W))  # three channels: colours may be told from grey
    return Case("augment", {"x": x, "strength": strength, "seed": 2**40 + 1, "step": 17}, ("y",))


CASES = [
    *(conv2d(stride=stride, pad=pad) for stride in (1, 2) for pad in (0, 1, 2)),
    conv2d(x_trials=1),
    conv2d(x_trials=1, stride=2, pad=1),
    conv2d(k=2, pad=1),
    conv2d(k=1, pad=0),  # the projection of a shortcut
    conv2d(x_trials=1, k=1, pad=0),
    batch_norm(),
    batch_norm(eps=0.1),
    batch_norm_inference(),
    relu(),
    max_pool(),
    max_pool(size=3),
    mean_pool(),
    dropout(),
    dropout(u_trials=1),
    linear(),
    softmax_cross_entropy(),
    block(),
    block(x_trials=1),
    block(pad=1, pool=3),
    block(pad=1, pool=1),
    block(shortcut_trials=T, pad=1),
    block(shortcut_trials=T, pad=1, pool=1),
    block(shortcut_trials=1, pad=1, pool=1),
    block(x_trials=1, shortcut_trials=1, pad=1),
    block_inference(),
    block_inference(x_trials=1),
    block_inference(pad=1, pool=1),
    block_inference(shortcut_trials=T, pad=1, pool=3),
    block_inference(shortcut_trials=T, pad=1, pool=1),
    block_inference(x_trials=1, shortcut_trials=1, pad=1),
    head(),
    head(seeds=(5, 5, 5)),
    head_inference(),
    augment(),
]

IMAGES, CLASSES = (2, 9, 8), 3
NETWORKS = {
    "report": Architecture(IMAGES, (3, 4), CLASSES),
    "one block": Architecture(IMAGES, (5,), CLASSES),
    "four blocks": Architecture(IMAGES, (3, 4, 2, 3), CLASSES),
    "pooled at times": Architecture(IMAGES, (3, 4, 3), CLASSES, pool=(True, False, True)),
    "never pooled": Architecture(IMAGES, (3, 2), CLASSES, pool=(False, False), global_pool=True),
    "residual": Architecture(IMAGES, (2, 3), CLASSES, residual=True),  # identity on the shared input, then projection
    "residual to one pixel": Architecture(IMAGES, (3, 3, 4, 4), CLASSES, residual=True),
    "residual, pooled at times": Architecture(IMAGES, (3, 3, 3), CLASSES, pool=(False, True, False), residual=True),
    "residual, global": Architecture(IMAGES, (3, 2, 2), CLASSES, (True, False, False), residual=True, global_pool=True),
}
