"""What is trained, on what, and for how long."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from core.config.architecture import parse_filters
from core.config.rules import BELOW_ONE, COUNT, NORM, POSITIVE, number, one_of, text, whole
from core.config.setting import Column, setting

MOST_DROPOUT = 1 - 2.0**-24  # the largest float32 below 1: of a rate nearer to 1, 1 - rate would be 0 in float32
INITIALS = ("he", "xavier", "normal")

_CLIP = Column(entry=lambda value: value or math.inf, update=True)


@dataclass(frozen=True)
class TrainingSettings:
    """What is trained, on what, and for how long. See core.config.settings."""

    filters: str = setting(
        "32x32",
        text(lambda value: bool(parse_filters(value)), 'text like "32x64"'),
        "output channels of each conv block",
        by_group=True,
        synonyms="channels out_channels n_filters num_filters conv_filters widths hidden_layer_sizes hidden_sizes"
        " layers architecture units",
    )
    lr: float = setting(
        0.01,
        POSITIVE,
        "the schedule's learning rate: its first; for one-cycle its largest",
        synonyms="learning_rate learning_rate_init init_lr initial_lr base_lr max_lr eta eta0 step_length",
    )
    reg: float = setting(
        0.005,
        number(lambda value: 0 <= value <= 1e12, "a number from 0 to 1e12"),  # its square is a float32
        "L2: the loss has reg/2 times the sum of squares of conv and linear weights",
        column=Column(update=True),
        synonyms="weight_decay wd l2 l2_reg l2_penalty alpha lambda regularization regularisation kernel_regularizer",
    )
    dropout: float = setting(
        0.5,
        BELOW_ONE,
        "share of features dropped before the linear layer, in [0, 1); 1 - 2^-24 at most",
        column=Column(entry=lambda value: min(value, MOST_DROPOUT)),
        synonyms="dropout_rate drop_rate drop p_dropout dropout_p dropout_prob",
    )
    seed: int = setting(
        0,
        whole(0, 2**63 - 1, "a whole number from 0 to 2**63 - 1"),
        "of its initial weights and its dropout",
        column=Column(np.uint64),
        synonyms="random_state random_seed",
    )
    epochs: int = setting(
        20,
        whole(1, 10**6),
        "at most so many",
        synonyms="n_epochs num_epochs max_epochs epochs_max nb_epoch n_epoch epoch max_iter num_train_epochs n_iter",
    )
    patience: int = setting(
        5,
        COUNT,
        "stop when validation accuracy was not above its best for so many epochs",
        synonyms="early_stopping early_stopping_patience early_stop early_stopping_rounds n_iter_no_change",
    )
    batch_size: int = setting(
        128,
        whole(2, 10**9),
        "images a step",
        by_group=True,
        synonyms="batch bs minibatch minibatch_size mini_batch mini_batch_size train_batch_size batchsize"
        " per_device_train_batch_size",
    )
    initial: str = setting(
        "he",
        one_of(*INITIALS),
        "initial weights: `he`, `xavier` or `normal` (standard deviation 0.01)",
        synonyms="init initializer initialiser initialization initialisation kernel_initializer weight_init",
    )
    gradient: str = setting(
        "mean",
        one_of("mean", "sum"),
        'over the batch; `"sum"` as in the report\'s published code',
        column=Column(bool, lambda value: value == "sum", array="sums"),
        synonyms="reduction loss_reduction",
    )
    clip: float = setting(
        5.0,
        NORM,
        "largest 2-norm of each weight and batch-norm gradient; 0: no clipping",
        column=_CLIP,
        synonyms="clipnorm clip_norm clipping",
    )
    clip_global: float = setting(
        0.0,
        NORM,
        "largest 2-norm of all gradients together; 0: no clipping",
        column=_CLIP,
        synonyms="global_clipnorm max_grad_norm max_norm grad_clip clip_grad_norm gradient_clip gradient_clip_val",
    )
