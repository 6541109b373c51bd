"""The fused pairs that a fast backend replaces whole: block and head."""

from __future__ import annotations

from typing import Any

import numpy as np

from core.backends.reference.plain import (
    batch_norm,
    batch_norm_grad,
    batch_norm_inference,
    conv2d,
    conv2d_grad,
    dropout,
    dropout_grad,
    linear,
    linear_grad,
    max_pool,
    max_pool_grad,
    relu,
    relu_grad,
    softmax_cross_entropy,
    softmax_cross_entropy_grad,
)
from core.config.architecture import EPSILON, PAD, POOL
from core.random import Array, Purpose, module_of, uniform


def block(
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
    """conv2d -> batch_norm (-> add the shortcut) -> ReLU -> max_pool.

    x            (T or 1, N, C, H, W)
    w            (T, F, C, K, K)
    b            (T, F)
    gamma, beta  (T, F)
    shortcut     (T or 1, N, F, OH, OW): the input of a residual block (He et al. 2016); None: nothing is added
    pool         window of the pooling; 1: none

    Returns y (T, N, F, PH, PW), the batch's mean and variance (T, F), and saved for block_grad.
    """
    z, conv_saved = conv2d(x, w, b, pad=pad)
    z, mean, variance, norm_saved = batch_norm(z, gamma, beta, eps=eps)
    if shortcut is not None:
        z += shortcut
    pool_saved = None
    if pool > 1:  # ReLU never changes which value is the largest, so it may follow, on a quarter of the values
        z, pool_saved = max_pool(z, size=pool)
    y, relu_saved = relu(z)
    return y, mean, variance, (conv_saved, norm_saved, shortcut is not None, pool_saved, relu_saved)


def block_grad(
    dy: Array, saved: Any, *, need_dx: bool = True
) -> tuple[Array | None, Array, Array, Array, Array, Array | None]:
    """dx (None unless needed), dw, db, dgamma, dbeta, dshortcut (None if there was none).

    dshortcut is (T, N, F, OH, OW), also where the trials share the shortcut: the caller sums.
    """
    conv_saved, norm_saved, has_shortcut, pool_saved, relu_saved = saved
    dz = relu_grad(dy, relu_saved)
    if pool_saved is not None:
        dz = max_pool_grad(dz, pool_saved)
    dshortcut = dz if has_shortcut else None
    dz, dgamma, dbeta = batch_norm_grad(dz, norm_saved)
    dx, dw, db = conv2d_grad(dz, conv_saved, need_dx=need_dx)
    return dx, dw, db, dgamma, dbeta, dshortcut


def block_inference(
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
    """block with the running statistics (T, F) in place of the batch's; nothing is saved."""
    z, _ = conv2d(x, w, b, pad=pad)
    z = batch_norm_inference(z, gamma, beta, mean, variance, eps=eps)
    if shortcut is not None:
        z += shortcut
    if pool > 1:
        z, _ = max_pool(z, size=pool)
    return relu(z)[0]


def head(
    x: Array, w: Array, b: Array, labels: Array, rate: Array, seed: np.ndarray, step: int
) -> tuple[Array, Array, Any]:
    """flatten -> dropout -> linear -> softmax cross entropy.

    x       (T, N, C, H, W)
    w       (T, C * H * W, L), rows in C, H, W order
    b       (T, L)
    labels  (N,)
    rate    (T,) dropout
    seed    (T,) uint64 on the host; with step it decides which features drop out
    step    counted from 0 through the whole training

    Returns the loss of each image (T, N), whether its largest logit is its label (T, N), and saved for head_grad.
    """
    xp = module_of(x)
    flat = x.reshape(*x.shape[:2], -1)
    seeds, rows = np.unique(seed, return_inverse=True)  # trials of one seed share their numbers: draw them once
    u = uniform(seeds, Purpose.DROPOUT, step, flat[0].size, xp).reshape(-1, *flat.shape[1:])
    kept, dropout_saved = dropout(flat, u if len(seeds) == 1 else u[xp.asarray(rows)], rate)
    logits, linear_saved = linear(kept, w, b)
    loss, loss_saved = softmax_cross_entropy(logits, labels)
    return loss, logits.argmax(axis=2) == labels, (x.shape, dropout_saved, linear_saved, loss_saved)


def head_grad(dloss: Array, saved: Any) -> tuple[Array, Array, Array]:
    """dx shaped like x, dw, db for dloss (T, N)."""
    shape, dropout_saved, linear_saved, loss_saved = saved
    dkept, dw, db = linear_grad(softmax_cross_entropy_grad(dloss, loss_saved), linear_saved)
    return dropout_grad(dkept, dropout_saved).reshape(shape), dw, db


def head_inference(x: Array, w: Array, b: Array) -> Array:
    """The linear layer's outputs (T, N, L), with no dropout; nothing is saved."""
    return linear(x.reshape(*x.shape[:2], -1), w, b)[0]
