"""What PyTorch, Keras, scikit-learn, Optuna, Ray and W&B call the keys and values of an experiment's file.

Those of settings are declared with them. Names are compared in lower case, without blanks, dots, - and _.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from core.config.settings import DECLARED

_OTHERS = {
    # the file
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
for _ours, _theirs in [
    *((name, declared.synonyms) for name, declared in DECLARED.items()),
    *((name, names.split()) for name, names in _OTHERS.items()),
]:
    for _name in _theirs:
        _KNOWN.setdefault(_plain(_name), []).append(_ours)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the known name that this one means elsewhere, or that looks most like it; or nothing."""
    by_plain = {_plain(other): other for other in known}
    meant = [other for other in _KNOWN.get(_plain(name), ()) if other in by_plain.values()]
    found = by_plain.get(_plain(name)) or next(iter(meant), None)
    if found is None and (close := difflib.get_close_matches(_plain(name), by_plain, n=1)):
        found = by_plain[close[0]]
    return f': did you mean "{found}"?' if found else ""
