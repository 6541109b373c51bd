"""What PyTorch, Keras, scikit-learn, Optuna, Ray and W&B call the keys and values of an experiment's file.

Names are compared in lower case, without blanks, dots, - and _.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_OTHERS = {
    # settings
    "lr": "learning_rate learning_rate_init init_lr initial_lr base_lr max_lr eta eta0 step_length",
    "reg": "weight_decay wd l2 l2_reg l2_penalty alpha lambda regularization regularisation kernel_regularizer",
    "dropout": "dropout_rate drop_rate drop p_dropout dropout_p dropout_prob",
    "epochs": "n_epochs num_epochs max_epochs epochs_max nb_epoch n_epoch epoch max_iter num_train_epochs n_iter",
    "patience": "early_stopping early_stopping_patience early_stop early_stopping_rounds n_iter_no_change",
    "batch_size": "batch bs minibatch minibatch_size mini_batch mini_batch_size train_batch_size batchsize"
    " per_device_train_batch_size",
    "initial": "init initializer initialiser initialization initialisation kernel_initializer weight_init",
    "gradient": "reduction loss_reduction",
    "clip": "clipnorm clip_norm clipping",
    "clip_global": "global_clipnorm max_grad_norm max_norm grad_clip clip_grad_norm gradient_clip gradient_clip_val",
    "schedule": "scheduler lr_schedule lr_scheduler learning_rate_schedule lr_policy",
    "decay": "gamma lr_decay decay_rate learning_rate_decay lr_gamma",
    "step_factor": "factor lr_factor drop_factor",
    "step_epochs": "step_size lr_step_size decay_steps drop_every",
    "exp_rate": "exp_decay exponential_rate",
    "lr_min": "eta_min min_lr final_lr",
    "warmup": "warmup_epochs warmup_steps num_warmup_steps warm_up",
    "cycle_rise": "pct_start",
    "cycle_start": "div_factor",
    "cycle_end": "final_div_factor",
    "optimiser": "optimizer optim opt solver updater",
    "momentum": "momentum_factor sgd_momentum mu",
    "nesterov": "use_nesterov nesterovs_momentum nesterov_momentum",
    "beta1": "beta_1 b1 adam_beta1 betas",
    "beta2": "beta_2 b2 adam_beta2 betas",
    "adam_eps": "eps epsilon adam_epsilon",
    "filters": "channels out_channels n_filters num_filters conv_filters widths hidden_layer_sizes hidden_sizes layers"
    " architecture units",
    "pool": "pooling max_pool maxpool maxpooling",
    "residual": "skip skip_connections resnet shortcut shortcuts",
    "global_pool": "gap global_avg_pool global_average_pooling avg_pool global_pooling",
    "flip": "horizontal_flip hflip random_flip random_horizontal_flip mirror fliplr",
    "crop": "random_crop shift translate padding pad width_shift_range height_shift_range",
    "rotate": "rotation rotation_range random_rotation degrees",
    "brightness": "brightness_range color_jitter colour_jitter",
    "contrast": "contrast_range",
    "saturation": "saturation_range",
    "noise": "gaussian_noise noise_std stddev sigma",
    "cutout": "random_erasing erasing coarse_dropout",
    # the file
    "seed": "random_state random_seed",
    "data": "dataset",
    "backend": "device",
    "stages": "stage",
    # a stage
    "sampler": "method algorithm search_alg search_algorithm search tuner strategy",
    "space": "search_space param_space params parameters hyperparameters param_grid param_distributions grid",
    "settings": "fixed config defaults constants",
    "trials": "n_trials num_trials max_trials num_samples n_samples n_iter count n_calls max_evals",
    "at_once": "n_jobs max_concurrent max_concurrent_trials concurrency parallel parallelism n_parallel wave_size",
    "seeds": "n_seeds repeats n_repeats replicates replications executions_per_trial cv",
    "pruner": "pruning early_terminate scheduler early_stopping",
    "budget": "timeout time_budget time_budget_s time_limit max_time",
    "after": "depends_on needs parent from previous",
    "inherit": "inherits inherited keep",
    "points": "points_to_evaluate initial_points enqueue enqueue_trial warm_start",
    "on_divergence": "on_nan on_error on_failure error_score",
    # a range, a pruner, a budget
    "low": "min minimum lower start from",
    "high": "max maximum upper stop end to",
    "log": "log_scale loguniform log_uniform logarithmic",
    "step": "q increment by",
    "choices": "values options categories categorical",
    "when": "if condition conditions where only_if given",
    "min_epochs": "grace_period min_resource n_warmup_steps min_iter warmup",
    "reduction": "reduction_factor eta factor",
    "minutes": "timeout time seconds hours",
    # values
    "tpe": "bayes bayesian bayes_opt bayesian_optimization bo gp hyperopt optuna TPESampler",
    "qmc": "sobol quasi_random halton lhs latin_hypercube QMCSampler",
    "grid": "grid_search exhaustive brute_force GridSampler",
    "random": "random_search randomized uniform RandomSampler",
    "cmaes": "cma cma_es evolution evolutionary es CmaEsSampler",
    "median": "median_pruner median_stopping",
    "halving": "asha sha successive_halving successive_halving_pruner",
    "hyperband": "bohb hyperband_pruner",
    "sgd": "gd gradient_descent",
    "adamw": "adam_w",
    "he": "kaiming he_normal kaiming_normal he_uniform kaiming_uniform",
    "xavier": "glorot glorot_normal xavier_normal glorot_uniform xavier_uniform",
    "normal": "gaussian random_normal",
    "mean": "average avg",
    "constant": "fixed none constant_lr",
    "geometric": "exponential_lr",
    "exponential": "exponential_decay",
    "cosine": "cosine_annealing cosine_annealing_lr cosine_decay",
    "one-cycle": "one_cycle_lr",
}


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter not in " .-_")


_KNOWN: dict[str, list[str]] = {}
for _ours, _theirs in _OTHERS.items():
    for _name in _theirs.split():
        _KNOWN.setdefault(_plain(_name), []).append(_ours)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the known name that this one means elsewhere, or that looks most like it; or nothing."""
    by_plain = {_plain(other): other for other in known}
    meant = [other for other in _KNOWN.get(_plain(name), ()) if other in by_plain.values()]
    found = by_plain.get(_plain(name)) or next(iter(meant), None)
    if found is None and (close := difflib.get_close_matches(_plain(name), by_plain, n=1)):
        found = by_plain[close[0]]
    return f': did you mean "{found}"?' if found else ""
