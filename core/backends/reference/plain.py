"""What every operation means: textbook array code for NumPy and CuPy, float32 or float64.

Every array carries the trial axis T in front. An input that all trials share has T = 1 and broadcasts.
Operations are pure; what a gradient needs comes back as `saved` and goes into the operation's `_grad`.
Axis letters: T trials, N images, C channels in, F channels out, H W pixels, K kernel width, D features, L classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from core.config.architecture import EPSILON, PAD, POOL
from core.random import Array, module_of

SLAB_BYTES = 16 * 2**20  # patches made at once: they stay in cache, and a group's memory stays small


def _per_channel(v: Array) -> Array:
    """(T, C) -> (T, 1, C, 1, 1), to broadcast over images and pixels."""
    return v[:, None, :, None, None]


# ---------------------------------------------------------------------------------------------- plain operations


def _patches(x: Array, kernel: int, stride: int, pad: int) -> Array:
    """The windows that a convolution sees: (N, C, H, W) -> (N, C * K * K, OH * OW)."""
    xp = module_of(x)
    n, c, height, width = x.shape
    if pad:
        padded = xp.zeros((n, c, height + 2 * pad, width + 2 * pad), x.dtype)
        padded[:, :, pad:-pad, pad:-pad] = x
        x = padded
    windows = xp.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]
    oh, ow = windows.shape[2:4]
    return windows.transpose(0, 1, 4, 5, 2, 3).reshape(n, c * kernel * kernel, oh * ow)


def _slabs(images: int, bytes_per_image: int) -> Iterator[slice]:
    """Cut the batch so that a slab's patches hold at most SLAB_BYTES. T plays no part, so neither does the group."""
    size = max(1, SLAB_BYTES // bytes_per_image)
    return (slice(start, start + size) for start in range(0, images, size))


def _correlate(x: Array, w: Array, stride: int, pad: int) -> Array:
    """out[t,n,f,i,j] = sum over c,k,l of x[t,n,c,i*stride+k,j*stride+l] * w[t,f,c,k,l], x zero outside its edges."""
    xp = module_of(x)
    _, n, _, height, width = x.shape
    trials, filters, _, kernel, _ = w.shape
    oh, ow = ((size + 2 * pad - kernel) // stride + 1 for size in (height, width))
    out = xp.empty((trials, n, filters, oh * ow), w.dtype)
    rows = w.reshape(trials, filters, -1)
    for t in range(trials):
        source = x[t % len(x)]
        for slab in _slabs(n, rows.shape[2] * oh * ow * w.itemsize):
            xp.matmul(rows[t], _patches(source[slab], kernel, stride, pad), out=out[t, slab])
    return out.reshape(trials, n, filters, oh, ow)


def conv2d(x: Array, w: Array, b: Array, *, stride: int = 1, pad: int = PAD) -> tuple[Array, Any]:
    """Cross-correlate each image with each filter and add the bias (LeCun et al. 1998).

    x  (T or 1, N, C, H, W)
    w  (T, F, C, K, K)
    b  (T, F)

    Returns y (T, N, F, OH, OW) with OH = (H + 2 * pad - K) // stride + 1, and saved for conv2d_grad.
    Raises ValueError if pad is K or more: such a pad yields pixels that see no image.
    """
    if pad >= w.shape[-1]:
        raise ValueError(f"pad is {pad}: it must be below the kernel's width, {w.shape[-1]}")
    y = _correlate(x, w, stride, pad)
    y += _per_channel(b)
    return y, (x, w, stride, pad)


def conv2d_grad(dy: Array, saved: Any, *, need_dx: bool = True) -> tuple[Array | None, Array, Array]:
    """dx shaped like x (summed over trials if they share x; None unless needed), dw, db."""
    x, w, stride, pad = saved
    xp = module_of(dy)
    trials, filters, c, kernel, _ = w.shape
    _, n, _, oh, ow = dy.shape
    flat = dy.reshape(trials, n, filters, -1)
    dw = xp.zeros((trials, filters, c * kernel * kernel), dy.dtype)
    for t in range(trials):
        source = x[t % len(x)]
        for slab in _slabs(n, dw.shape[2] * oh * ow * dy.itemsize):
            dw[t] += xp.matmul(flat[t, slab], _patches(source[slab], kernel, stride, pad).swapaxes(1, 2)).sum(axis=0)
    db = flat.sum(axis=(1, 3))
    dx = _conv2d_dx(dy, saved) if need_dx else None
    return dx, dw.reshape(w.shape), db


def _conv2d_dx(dy: Array, saved: Any) -> Array:
    """Correlate dy, spread out to stride 1, with the filters turned by 180 degrees."""
    x, w, stride, pad = saved
    kernel = w.shape[-1]
    if stride > 1:
        xp = module_of(dy)
        full = (size + 2 * pad - kernel + 1 for size in x.shape[3:])
        spread = xp.zeros((*dy.shape[:3], *full), dy.dtype)
        spread[..., ::stride, ::stride] = dy
        dy = spread
    dx = _correlate(dy, w[..., ::-1, ::-1].swapaxes(1, 2), 1, kernel - 1 - pad)
    return dx if len(x) == len(w) else dx.sum(axis=0, keepdims=True)


def batch_norm(x: Array, gamma: Array, beta: Array, *, eps: float = EPSILON) -> tuple[Array, Array, Array, Any]:
    """Normalise each channel of each trial over its batch and image, then scale and shift.

    x            (T, N, C, H, W)
    gamma, beta  (T, C)
    eps          added to the variance; 1e-5 in the report

    Returns y shaped like x, the batch's mean and variance (T, C), and saved for batch_norm_grad.
    The variance divides by N*H*W (Ioffe & Szegedy 2015, algorithm 1).
    Raises ValueError if N*H*W is 1: every variance would be zero.
    """
    xp = module_of(x)
    count = x.shape[1] * x.shape[3] * x.shape[4]
    if count == 1:
        raise ValueError("one value a channel cannot be normalised: use a batch of 2 or more")
    mean = x.mean(axis=(1, 3, 4))
    centred = x - _per_channel(mean)
    variance = xp.einsum("tnchw,tnchw->tc", centred, centred) / count
    inverse = 1 / xp.sqrt(variance + eps)
    y = centred * _per_channel(gamma * inverse)
    y += _per_channel(beta)
    return y, mean, variance, (centred, inverse, gamma)


def batch_norm_grad(dy: Array, saved: Any) -> tuple[Array, Array, Array]:
    """dx, dgamma, dbeta (Ioffe & Szegedy 2015, section 3)."""
    centred, inverse, gamma = saved
    xp = module_of(dy)
    count = dy.shape[1] * dy.shape[3] * dy.shape[4]
    dbeta = dy.sum(axis=(1, 3, 4))
    dgamma = xp.einsum("tnchw,tnchw->tc", dy, centred) * inverse
    dx = centred * _per_channel(-inverse * dgamma / count)
    dx += dy
    dx -= _per_channel(dbeta / count)
    dx *= _per_channel(gamma * inverse)
    return dx, dgamma, dbeta


def batch_norm_inference(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, *, eps: float = EPSILON
) -> Array:
    """batch_norm with the running statistics (T, C) in place of the batch's."""
    scale = gamma / module_of(x).sqrt(variance + eps)
    y = x * _per_channel(scale)
    y += _per_channel(beta - mean * scale)
    return y


def relu(x: Array) -> tuple[Array, Any]:
    """max(x, 0), and saved for relu_grad. NaN stays NaN."""
    y = module_of(x).maximum(x, 0)
    return y, y


def relu_grad(dy: Array, saved: Any) -> Array:
    """dy where x was above 0, else 0."""
    return dy * (saved > 0)


def max_pool(x: Array, *, size: int = POOL) -> tuple[Array, Any]:
    """The largest value of each size x size window; rows and columns that do not fill a window are dropped.

    x  (T, N, C, H, W)

    Returns y (T, N, C, H // size, W // size), and saved: the index of the maximum in its window, uint8 in row order.
    A tie goes to the first. NaN anywhere in a window makes it NaN.
    """
    xp = module_of(x)
    y: Array = None
    argmax: Array = None
    for k, window in enumerate(_window_pixels(x, size)):
        if k == 0:
            y, argmax = window.copy(), xp.zeros(window.shape, xp.uint8)
        else:
            xp.maximum(argmax, (window > y) * xp.uint8(k), out=argmax)
            xp.maximum(y, window, out=y)
    return y, (argmax, x.shape, size)


def max_pool_grad(dy: Array, saved: Any) -> Array:
    """dx shaped like x: dy at each window's maximum, 0 elsewhere."""
    argmax, shape, size = saved
    xp = module_of(dy)
    dx = xp.zeros(shape, dy.dtype)
    for k, window in enumerate(_window_pixels(dx, size)):
        xp.multiply(dy, argmax == k, out=window)
    return dx


def _window_pixels(x: Array, size: int) -> Iterator[Array]:
    """For each pixel of a size x size window, in row order: the view of x that holds it for all windows."""
    bottom, right = (length // size * size for length in x.shape[3:])
    return (x[..., i:bottom:size, j:right:size] for i in range(size) for j in range(size))


def mean_pool(x: Array) -> tuple[Array, Any]:
    """Each channel's mean over the image: x (T, N, C, H, W) -> (T, N, C, 1, 1) (Lin et al. 2014)."""
    return x.mean(axis=(3, 4), keepdims=True), x.shape


def mean_pool_grad(dy: Array, saved: Any) -> Array:
    """dx: dy spread evenly over the image."""
    return module_of(dy).broadcast_to(dy / (saved[3] * saved[4]), saved)


def dropout(x: Array, u: Array, rate: Array) -> tuple[Array, Any]:
    """x * m / (1 - rate), m = 0 with probability rate (Srivastava et al. 2014, scaled while training).

    x     (T, N, D)
    u     (T or 1, N, D) uniform in [0, 1): m is u >= rate
    rate  (T,) from 0 to core.config.training.MOST_DROPOUT
    """
    rate = module_of(x).asarray(rate, dtype=x.dtype)[:, None, None]
    factor = (u >= rate) / (1 - rate)
    return x * factor, factor


def dropout_grad(dy: Array, saved: Any) -> Array:
    """dy where x was kept, scaled alike."""
    return dy * saved


def linear(x: Array, w: Array, b: Array) -> tuple[Array, Any]:
    """x @ w + b for x (T, N, D), w (T, D, L), b (T, L)."""
    return x @ w + b[:, None, :], (x, w)


def linear_grad(dy: Array, saved: Any) -> tuple[Array, Array, Array]:
    """dx, dw, db."""
    x, w = saved
    return dy @ w.swapaxes(1, 2), x.swapaxes(1, 2) @ dy, dy.sum(axis=1)


def softmax_cross_entropy(logits: Array, labels: Array) -> tuple[Array, Any]:
    """-log of the probability that softmax gives each image's label.

    logits  (T, N, L)
    labels  (N,) integers in [0, L)

    Returns the loss of each image (T, N), and saved for softmax_cross_entropy_grad.
    """
    xp = module_of(logits)
    shifted = logits - logits.max(axis=2, keepdims=True)
    exponentials = xp.exp(shifted)
    total = exponentials.sum(axis=2, keepdims=True)
    image = xp.arange(len(labels))
    loss = xp.log(total[..., 0]) - shifted[:, image, labels]
    return loss, (exponentials / total, labels)


def softmax_cross_entropy_grad(dloss: Array, saved: Any) -> Array:
    """dlogits (T, N, L) for dloss (T, N)."""
    probability, labels = saved
    dlogits = probability.copy()
    dlogits[:, module_of(dlogits).arange(len(labels)), labels] -= 1
    dlogits *= dloss[..., None]
    return dlogits
