"""The operations as launches of the kernels: what reference.py means, in float32. Other types and rare shapes go there.

Activations lie as (T, N, H, W, C), C rounded up to a multiple of 8 and the padding zero; callers see views
(T, N, C, H, W). A Device runs the kernels: a GPU, or, to check them, a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from math import ceil, prod
from typing import Any

import numpy as np

from core import optim
from core.augment import augment_by, shifted
from core.config import EPSILON, PAD, POOL, Architecture, Hyperparameters
from core.model import Model
from core.ops import Ops, reference
from core.ops.cuda import tiles, update
from core.ops.cuda.device import BLOCK, Device, for_each, whole
from core.ops.cuda.step import Step as Recorded
from core.random import Array
from core.step import Step, make_step

_PIXELS = 512  # pooled pixels of a block that sums gradients
_CLASSES = 2048  # most that the head's kernels take


def backend(on: Device, precision: str = "float32", **fields: Any) -> Ops:
    """The reference with the operations that have kernels of their own, for arrays of that device.

    precision  "float32", or "tf32": the 3x3 convolutions' operands, but for the first layer's, are rounded to 10 bits
    fields     of Ops, as the device has them
    """
    fast = _Operations(on, tensor=precision == "tf32")
    fields["precision"] = precision
    names = (
        *("conv2d", "conv2d_grad", "block", "block_grad", "block_inference", "head", "head_grad", "head_inference"),
        *("augment", "update", "make_step"),
    )
    own = {name: getattr(fast, name) for name in names}
    return replace(reference.OPS, name="gpu", concurrency=None, map_trials=all_at_once, **own, **fields)


def all_at_once(function: Callable[[slice], Any], trials: int) -> list[Any]:
    """function(all trials): a GPU is filled by them together."""
    return [function(slice(0, trials))]


def _structure(values: Any) -> Array:
    """A dataclass of whole numbers as a structure for a kernel."""
    numbers = astuple(values)
    return np.array([(numbers,)], np.dtype([("numbers", np.int32, (len(numbers),))]))


def _of_type(x: Array, *others: Array) -> bool:
    return all(values.dtype == np.float32 for values in (x, *others))


class _Operations:
    """The operations of a device, as in reference.py."""

    def __init__(self, device: Device, *, tensor: bool) -> None:
        self._device, self._xp, self._tensor = device, device.xp, tensor

    # ------------------------------------------------------------------------------------------- order and padding

    def _whole(self, values: Array, dtype: Any = np.float32) -> Array:
        return whole(self._device, values, dtype)

    def _stored(self, x: Array) -> Array:
        """(T, N, C, H, W) -> (T, N, H, W, C'); no copy where memory is in that order already."""
        last = x.transpose(0, 1, 3, 4, 2)
        channels = tiles.stored(x.shape[2])
        if channels == x.shape[2]:
            return self._whole(last)
        result = self._xp.zeros((*last.shape[:4], channels), x.dtype)
        result[..., : x.shape[2]] = last
        return result

    def _seen(self, x: Array, channels: int) -> Array:
        """The view (T, N, C, H, W) of (T, N, H, W, C')."""
        return x[..., :channels].transpose(0, 1, 4, 2, 3)

    def _of_input(self, dx: Array, x: Array, channels: int) -> Array:
        """The gradient dx (T, N, H, W, C') of x: summed where the trials share x."""
        return self._seen(dx if len(x) == len(dx) else dx.sum(axis=0, keepdims=True), channels)

    def _for_each(self, kernel: str, size: int, trials: int, *arguments: Any) -> None:
        for_each(self._device, kernel, size, trials, *arguments)

    # ------------------------------------------------------------------------------------------------- convolutions

    def _filters(self, w: Array, *, backward: bool = False, rounded: bool = True) -> Array:
        """w (T, F, C, K, K) as `convolve` reads it: (T, K * K, C', F'); backward: turned, (T, K * K, F', C').

        Unless rounded, C' is C.
        """
        trials, f, c, kernel, _ = w.shape
        stored_c, stored_f = tiles.stored(c) if rounded else c, tiles.stored(f)
        shape = (trials, kernel**2, *((stored_f, stored_c) if backward else (stored_c, stored_f)))
        arranged = self._device.empty(shape)
        where = (None, arranged) if backward else (arranged, None)
        size = prod(shape[1:])
        self._for_each("arrange_filters", size, trials, self._whole(w), *where, kernel**2, c, f, stored_c, stored_f)
        return arranged

    def _convolve(self, kernel: str, cut: tiles.Cut, trials: int, *arguments: Any) -> None:
        grid = (cut.shape.tiles, trials, cut.shape.filters // tiles.width(cut.shape.filters))
        self._device.launch(f"{kernel}_{cut.kernel}", grid, cut.threads, cut.shared, *arguments)

    def _filter_gradient(
        self, kernel: str, cut: tiles.Correlation, w: Array, arguments: Sequence[Any], *flags: int
    ) -> Array:
        """dw from `correlate`: arguments come before the parts, flags after the shape."""
        (trials, f, c, size, _), shape, block = w.shape, cut.cut.shape, cut.cut
        parts = self._device.empty((trials, cut.parts, size**2, shape.channels, shape.filters))
        self._device.launch(
            f"{kernel}_{block.kernel}", (cut.groups, trials, cut.blocks), block.threads, block.shared,
            *arguments, parts, _structure(shape), *flags, cut.images, cut.slices,
        )  # fmt: skip
        dw, numbers = self._device.empty(w.shape), prod(parts.shape[2:])
        self._for_each(
            "sum_filters", numbers, trials, parts, dw, cut.parts, size**2, c, f, shape.channels, shape.filters
        )
        return dw

    def conv2d(self, x: Array, w: Array, b: Array, *, stride: int = 1, pad: int = PAD) -> tuple[Array, Any]:
        shape = tiles.Convolution.of(x.shape[1:], w.shape[1], w.shape[-1], pad)
        fits = stride == 1 and w.shape[-1] in (1, 3) and pad < w.shape[-1] and _of_type(x, w)
        cuts = tiles.cuts(shape) if fits else None
        if cuts is None:
            y, saved = reference.conv2d(x, w, b, stride=stride, pad=pad)
            return y, (reference.conv2d_grad, saved)
        pixels, trials, cut = self._stored(x), len(w), cuts.forward
        bias = self._xp.zeros((trials, shape.filters), np.float32)
        bias[:, : w.shape[1]] = b
        z = self._device.empty((trials, shape.images, shape.rows, shape.columns, shape.filters))
        shared = int(len(x) == 1)
        self._convolve("convolve", cut, trials, pixels, self._filters(w), bias, z, None, _structure(cut.shape), shared)
        return self._seen(z, w.shape[1]), (self._conv2d_grad, (pixels, w, cuts))

    def _conv2d_grad(self, dy: Array, saved: Any, *, need_dx: bool) -> tuple[Array | None, Array, Array]:
        pixels, w, cuts = saved
        gradient, shared = self._stored(dy), int(len(pixels) == 1)
        dw = self._filter_gradient("correlate", cuts.filters, w, (pixels, gradient), shared)
        db = gradient[..., : w.shape[1]].sum(axis=(1, 2, 3))
        dx = None
        if need_dx:
            stored, cut = self._device.empty((len(w), *pixels.shape[1:])), cuts.backward
            filters = self._filters(w, backward=True)
            self._convolve("convolve", cut, len(w), gradient, filters, None, stored, None, _structure(cut.shape), 0)
            dx = self._of_input(stored, pixels, w.shape[2])
        return dx, dw, db

    def conv2d_grad(self, dy: Array, saved: Any, *, need_dx: bool = True) -> tuple[Array | None, Array, Array]:
        gradient, kept = saved
        results: tuple[Array | None, Array, Array] = gradient(dy, kept, need_dx=need_dx)
        return results

    # -------------------------------------------------------------------------------------------------------- block

    def _as_convolution(self, x: Array, w: Array, pad: int, pool: int) -> tiles.Convolution | None:
        """The shape of a block whose convolution the kernels can do."""
        if not _of_type(x, w) or w.shape[-1] != 3 or pad > 2:
            return None
        shape = tiles.Convolution.of(x.shape[1:], w.shape[1], 3, pad)
        enough = shape.images * shape.rows * shape.columns > 1 and pool <= 3 and min(shape.rows, shape.columns) >= pool
        return shape if enough and tiles.cuts(shape, tensor=self._tensor) else None

    def _as_pictures(self, x: Array, w: Array, shortcut: Array | None, pad: int, pool: int) -> tiles.Pictures | None:
        """The shape of a block that reads images as they come."""
        few = x.shape[2] <= tiles.FEW_CHANNELS and shortcut is None
        if not few or self._as_convolution(x, w, pad, pool) is None:
            return None
        return tiles.pictures(x.shape, w.shape[1], pad, pool)

    def block(
        self,
        x: Array,
        w: Array,
        b: Array,
        gamma: Array,
        beta: Array,
        shortcut: Array | None = None,
        *,
        pad: int = PAD,
        pool: int = POOL,
        eps: float = EPSILON,
    ) -> tuple[Array, Array, Array, Any]:
        if (pictures := self._as_pictures(x, w, shortcut, pad, pool)) is not None:
            return self._first_block(pictures, x, w, b, gamma, beta, eps)
        if (shape := self._as_convolution(x, w, pad, pool)) is None:
            y, mean, variance, saved = reference.block(x, w, b, gamma, beta, shortcut, pad=pad, pool=pool, eps=eps)
            return y, mean, variance, (reference.block_grad, saved)
        pixels, trials, f = self._stored(x), len(w), w.shape[1]
        z, moments = self._convolved(shape, pixels, w)
        table = self._device.empty((trials, 4, shape.filters))
        mean, variance = self._device.empty((trials, f)), self._device.empty((trials, f))
        self._device.launch(
            "statistics", (ceil(shape.filters / 32), trials), BLOCK, 8 * BLOCK,
            moments, *map(self._whole, (b, gamma, beta)), table, mean, variance,
            _structure(self._cuts(shape).forward.shape), f, float(eps),
        )  # fmt: skip
        y, place = self._normalised(shape, z, shortcut, table, pool)
        saved = shape, pixels, w, z, place, table, pool, shortcut is not None
        return self._seen(y, f), mean, variance, (self._block_grad, saved)

    def _cuts(self, shape: tiles.Convolution) -> tiles.Cuts:
        """How a block's convolution is cut, of a shape that fits."""
        cuts = tiles.cuts(shape, tensor=self._tensor)
        assert cuts is not None
        return cuts

    def _convolved(self, shape: tiles.Convolution, pixels: Array, w: Array) -> tuple[Array, Array]:
        """The convolution's output (T, N, OH, OW, F'), and the tiles' moments."""
        cut, trials = self._cuts(shape).forward, len(w)
        z = self._device.empty((trials, shape.images, shape.rows, shape.columns, shape.filters))
        moments = self._device.empty((trials, cut.shape.tiles, 2, shape.filters))
        shared = int(len(pixels) == 1)
        self._convolve(
            "convolve", cut, trials, pixels, self._filters(w), None, z, moments, _structure(cut.shape), shared
        )
        return z, moments

    def _normalised(
        self, shape: tiles.Convolution, z: Array, shortcut: Array | None, table: Array, pool: int
    ) -> tuple[Array, Array]:
        """The block's output (T, N, PH, PW, F') and the places of the maxima."""
        pooled = (len(z), shape.images, shape.rows // pool, shape.columns // pool, shape.filters)
        y, place = self._device.empty(pooled), self._device.empty(pooled, np.uint8)
        added, step = None, 0
        if shortcut is not None:
            added = self._stored(shortcut)
            step = prod(added.shape[1:]) if len(added) > 1 else 0
        self._for_each(
            "normalise", prod(pooled[1:]) // 4, len(z),
            z, added, np.uint64(step), table, y, place, shape.images, shape.rows, shape.columns, shape.filters, pool,
        )  # fmt: skip
        return y, place

    def _block_grad(
        self, dy: Array, saved: Any, *, need_dx: bool
    ) -> tuple[Array | None, Array, Array, Array, Array, Array | None]:
        shape, pixels, w, z, place, table, pool, has_shortcut = saved
        trials, f, c = w.shape[:3]
        gradient = self._stored(dy)
        blocks = ceil(shape.images * (shape.rows // pool) * (shape.columns // pool) / _PIXELS)
        parts = self._device.empty((trials, blocks, 2, shape.filters))
        lines = ceil(shape.filters / 32)
        form = (shape.images, shape.rows, shape.columns, shape.filters, pool)
        self._device.launch(
            "gradient_sums",
            (blocks, trials, lines),
            BLOCK,
            32 * BLOCK,
            z,
            gradient,
            place,
            table,
            parts,
            *form,
            _PIXELS,
        )
        dgamma, dbeta = self._device.empty((trials, f)), self._device.empty((trials, f))
        constants = self._device.empty((trials, 4, shape.filters))
        self._device.launch(
            "gradient_constants", (lines, trials), BLOCK, 16 * BLOCK,
            parts, table, dgamma, dbeta, constants, blocks, f, shape.filters, float(prod(form[:3])),
        )  # fmt: skip
        source = (z, gradient, place, constants)
        cuts, shared = self._cuts(shape), int(len(pixels) == 1)
        dw = self._filter_gradient("correlate_gradient", cuts.filters, w, (pixels, *source), pool, shared)
        dx = dshortcut = None
        if need_dx:
            stored, cut = self._device.empty((trials, *pixels.shape[1:])), cuts.backward
            filters = self._filters(w, backward=True)
            self._convolve("convolve_gradient", cut, trials, *source, filters, stored, _structure(cut.shape), pool)
            dx = self._of_input(stored, pixels, c)
        if has_shortcut:
            spread = self._device.empty(z.shape)
            self._for_each("unpool", prod(z.shape[1:]) // 4, trials, gradient, place, spread, *form)
            dshortcut = self._seen(spread, f)
        return dx, dw, self._xp.zeros((trials, f), np.float32), dgamma, dbeta, dshortcut

    def block_grad(
        self, dy: Array, saved: Any, *, need_dx: bool = True
    ) -> tuple[Array | None, Array, Array, Array, Array, Array | None]:
        gradient, kept = saved
        results: tuple[Array | None, Array, Array, Array, Array, Array | None] = gradient(dy, kept, need_dx=need_dx)
        return results

    def block_inference(
        self,
        x: Array,
        w: Array,
        b: Array,
        gamma: Array,
        beta: Array,
        mean: Array,
        variance: Array,
        shortcut: Array | None = None,
        *,
        pad: int = PAD,
        pool: int = POOL,
        eps: float = EPSILON,
    ) -> Array:
        pictures, shape = self._as_pictures(x, w, shortcut, pad, pool), self._as_convolution(x, w, pad, pool)
        if pictures is None and shape is None:
            return reference.block_inference(
                x, w, b, gamma, beta, mean, variance, shortcut, pad=pad, pool=pool, eps=eps
            )
        trials, f = w.shape[:2]
        table = self._device.empty((trials, 4, tiles.stored(f)))
        known = map(self._whole, (b, gamma, beta, mean, variance))
        self._for_each("running_table", table.shape[2], trials, *known, table, f, table.shape[2], float(eps))
        if pictures is not None:
            y, _ = self._first_forward(pictures, self._whole(x), w, table)
        else:
            assert shape is not None
            z, _ = self._convolved(shape, self._stored(x), w)
            y, _ = self._normalised(shape, z, shortcut, table, pool)
        return self._seen(y, f)

    # -------------------------------------------------------------------------------------------------- first block

    def _first_block(
        self, s: tiles.Pictures, x: Array, w: Array, b: Array, gamma: Array, beta: Array, eps: float
    ) -> tuple[Array, Array, Array, Any]:
        images, kernels, trials, f = self._whole(x), self._whole(w), len(w), w.shape[1]
        gram = self._gram(s, images)
        table = self._device.empty((trials, 4, s.filters))
        mean, variance = self._device.empty((trials, f)), self._device.empty((trials, f))
        self._device.launch(
            "first_statistics", (ceil(s.filters / 8), trials), BLOCK, 16 * BLOCK,
            gram, kernels, *map(self._whole, (b, gamma, beta)), table, mean, variance, _structure(s), f, float(eps),
        )  # fmt: skip
        y, place = self._first_forward(s, images, w, table)
        saved = s, (x, w, b, gamma, beta, eps), images, kernels, gram, table, place
        return self._seen(y, f), mean, variance, (self._first_block_grad, saved)

    def _gram(self, s: tiles.Pictures, images: Array) -> Array:
        """The Gram matrices (1 or T, K, K) of the images' patches, float64."""
        rows = s.gram_rows
        bands, size = ceil(s.rows / rows), s.gram**2
        parts = self._device.empty((len(images), s.images * bands, size))
        self._device.launch(
            "gram", (s.images, len(images), bands), BLOCK, s.gram_shared(rows), images, parts, _structure(s), rows
        )
        return self._summed(parts)

    def _summed(self, parts: Array) -> Array:
        """parts (T, count, size) summed over count, float64."""
        trials, count, size = parts.shape
        total = self._device.empty((trials, size), np.float64)
        self._for_each("sum_parts", size, trials, parts, total, count, size)
        return total

    def _first_forward(self, s: tiles.Pictures, images: Array, w: Array, table: Array) -> tuple[Array, Array]:
        """The first block's output (T, N, PH, PW, F') and the places of the maxima."""
        pooled = (len(w), s.images, s.rows // s.pool, s.columns // s.pool, s.filters)
        y, place = self._device.empty(pooled), self._device.empty(pooled, np.uint8)
        grid = (s.images * s.bands, len(w), ceil(s.filters / 64))
        filters = self._filters(w, rounded=False)
        self._device.launch(
            f"first_block_{s.pool}", grid, BLOCK, s.block_shared, images, filters, table, y, place, _structure(s)
        )
        return y, place

    def _first_block_grad(
        self, dy: Array, saved: Any, *, need_dx: bool
    ) -> tuple[Array | None, Array, Array, Array, Array, None]:
        s, (x, w, b, gamma, beta, eps), images, kernels, gram, table, place = saved
        if need_dx:  # pictures have no use for it: the textbook's way
            *_, again = reference.block(x, w, b, gamma, beta, pad=s.pad, pool=s.pool, eps=eps)
            return reference.block_grad(dy, again)
        trials, f = w.shape[:2]
        each = max(1, s.images // tiles.PARTS)
        count = ceil(s.images / each) * s.bands
        parts = self._device.empty((trials, count, s.gram * s.filters))
        self._device.launch(
            f"first_products_{s.channels}", (count, trials, ceil(s.filters / 32)), BLOCK, s.products_shared,
            images, self._stored(dy), place, parts, _structure(s), each,
        )  # fmt: skip
        dw = self._device.empty(w.shape)
        dgamma, dbeta = self._device.empty((trials, f)), self._device.empty((trials, f))
        self._device.launch(
            "first_gradient", (ceil(s.filters / 8), trials), BLOCK, 8 * BLOCK,
            gram, self._summed(parts), kernels, table, dw, dgamma, dbeta, _structure(s), f,
        )  # fmt: skip
        return None, dw, self._xp.zeros((trials, f), np.float32), dgamma, dbeta, None

    # --------------------------------------------------------------------------------------------------------- head

    def head(
        self, x: Array, w: Array, b: Array, labels: Array, rate: Array, seed: np.ndarray, step: int
    ) -> tuple[Array, Array, Any]:
        if not _of_type(x, w) or w.shape[2] > _CLASSES:
            loss, correct, saved = reference.head(x, w, b, labels, rate, seed, step)
            return loss, correct, (reference.head_grad, saved)
        draws = (
            self._xp.asarray(rate, np.float32),
            self._xp.asarray(seed, np.uint64),
            self._xp.asarray(step, np.uint32),
        )
        logits, features, form = self._logits(x, w, b, draws)
        trials, images, classes = logits.shape
        whole = self._whole(labels, np.int64)
        loss, correct = self._device.empty((trials, images)), self._device.empty((trials, images), np.bool_)
        self._for_each("cross_entropy", images, trials, logits, whole, loss, correct, logits, images, classes)
        return loss, correct, (self._head_grad, (x.shape, self._whole(w), logits, whole, features, draws, form))

    def _logits(self, x: Array, w: Array, b: Array, draws: Sequence[Any]) -> tuple[Array, Array, Array]:
        """Logits (T, N, L), the features (T, N, D) and their form as a structure."""
        pixels, (trials, d, classes) = self._stored(x), w.shape
        images, height, width = pixels.shape[1:4]
        numbers = (images, height * width, x.shape[2], pixels.shape[4], classes)
        form = np.array([(numbers,)], np.dtype([("numbers", np.int32, (5,))]))
        features, logits = self._device.empty((trials, images, d)), self._device.empty((trials, images, classes))
        self._device.launch("flatten", (images, trials), BLOCK, 4 * 8 * 129, pixels, features, *draws, form)
        grid = (ceil(images / 4), trials, ceil(classes / 16))
        self._device.launch(
            "linear", grid, BLOCK, 4 * BLOCK * 18, features, self._whole(w), self._whole(b), logits, form
        )
        return logits, features, form

    def _head_grad(self, dloss: Array, saved: Any) -> tuple[Array, Array, Array]:
        shape, w, probability, labels, features, draws, form = saved
        trials, images, classes = probability.shape
        d = w.shape[1]
        dlogits, db = self._device.empty(probability.shape), self._device.empty((trials, classes))
        self._device.launch(
            "output_gradient", (ceil(classes / 8), trials), BLOCK, 4 * BLOCK,
            probability, labels, self._whole(dloss), dlogits, db, images, classes,
        )  # fmt: skip
        dw = self._device.empty(w.shape)
        grid = (ceil(d / 64), trials, ceil(classes / 16))
        self._device.launch("linear_weight_gradient", grid, 64, 4 * 64 * 16, features, dlogits, dw, form)
        stored = tiles.stored(shape[2])
        dx = self._device.empty((trials, images, *shape[3:], stored))
        self._device.launch(
            "linear_input_gradient", (ceil(images / 4), trials, stored // 8), BLOCK, 4 * (4 * 8 * 129 + 4 * classes),
            dlogits, w, dx, *draws, form,
        )  # fmt: skip
        return self._seen(dx, shape[2]), dw, db

    def head_grad(self, dloss: Array, saved: Any) -> tuple[Array, Array, Array]:
        gradient, kept = saved
        results: tuple[Array, Array, Array] = gradient(dloss, kept)
        return results

    def head_inference(self, x: Array, w: Array, b: Array) -> Array:
        if not _of_type(x, w):
            return reference.head_inference(x, w, b)
        return self._logits(x, w, b, (None, None, None))[0]

    # ----------------------------------------------------------------------------------------------- augment, update

    def augment(self, x: Array, strength: np.ndarray, seed: int, step: int) -> Array:
        return augment_by(x, strength, seed, step, shift=shifted, uniform=self._uniform)

    def _uniform(self, seed: Array, purpose: int, step: int, count: int) -> Array:
        """As core.random.uniform."""
        numbers = self._device.empty((len(seed), count))
        seeds = self._xp.asarray(seed, np.uint64)
        self._for_each(
            "uniform", ceil(count / 4), len(seed), seeds, numbers, np.uint32(purpose), np.uint32(step), count
        )
        return numbers

    def update(
        self,
        model: Model,
        gradients: Model,
        state: Model,
        trials: Hyperparameters,
        lr: Array,
        number: int,
        *,
        optimiser: str,
    ) -> Array:
        if not _of_type(*gradients.values()):
            return optim.update(model, gradients, state, trials, lr, number, optimiser=optimiser)
        settings, step = update.settings_on(self._device, trials), self._xp.asarray(number, np.uint32)
        rates = self._whole(lr, np.float64)
        return update.update(self._device, model, gradients, state, settings, rates, step, optimiser)

    # --------------------------------------------------------------------------------------------------------- step

    def make_step(
        self,
        ops: Ops,
        architecture: Architecture,
        trials: Hyperparameters,
        *,
        optimiser: str = "sgd",
        data_seed: int = 0,
        dtype: type = np.float32,
    ) -> Step:
        if dtype is not np.float32:
            return make_step(ops, architecture, trials, optimiser=optimiser, data_seed=data_seed, dtype=dtype)
        return Recorded(self._device, ops, architecture, trials, optimiser, data_seed)
