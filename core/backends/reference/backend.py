"""The reference as a backend."""

from __future__ import annotations

import numpy as np

from core.backends.reference.fused import block, block_grad, block_inference, head, head_grad, head_inference
from core.backends.reference.memory import free_memory, step_memory
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
    mean_pool,
    mean_pool_grad,
    relu,
    relu_grad,
    softmax_cross_entropy,
    softmax_cross_entropy_grad,
)
from core.machine import hardware, threads
from core.ops import Ops
from core.training.augment import augment
from core.training.optimisers import update
from core.training.step import make_step

OPS = Ops(
    name="reference",
    device=hardware.processor(),
    xp=np,
    to_host=np.asarray,
    precision="float32",
    conv2d=conv2d,
    conv2d_grad=conv2d_grad,
    batch_norm=batch_norm,
    batch_norm_grad=batch_norm_grad,
    batch_norm_inference=batch_norm_inference,
    relu=relu,
    relu_grad=relu_grad,
    max_pool=max_pool,
    max_pool_grad=max_pool_grad,
    mean_pool=mean_pool,
    mean_pool_grad=mean_pool_grad,
    dropout=dropout,
    dropout_grad=dropout_grad,
    linear=linear,
    linear_grad=linear_grad,
    softmax_cross_entropy=softmax_cross_entropy,
    softmax_cross_entropy_grad=softmax_cross_entropy_grad,
    block=block,
    block_grad=block_grad,
    block_inference=block_inference,
    head=head,
    head_grad=head_grad,
    head_inference=head_inference,
    augment=augment,
    update=update,
    map_trials=threads.map_trials,
    make_step=make_step,
    step_memory=step_memory,
    free_memory=free_memory,
    device_count=1,
    max_processes=threads.count,
    process_resource="threads",
    processes_share_device=True,
    measure_group_size=False,
)
