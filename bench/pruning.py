"""Do pruned groups get cheaper? Steps per second of a group before and after half of its trials are pruned.

    python bench/pruning.py [--trials 8] [--filters 32x32] [--epochs 16] [--out bench/results/pruning.json]

Trains on scikit-learn's digits; the second half of the trials is pruned in the middle. The first epoch, in which memory
is touched for the first time, is left out.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from pathlib import Path

from core.backends import registry as backends
from core.config.architecture import Architecture, parse_filters
from core.config.settings import Settings
from core.data import registry as datasets
from core.data.images import Images
from core.machine.environment import environment
from core.training.loop import train_group
from core.training.progress import EpochReport, Verdict


def measure(trials: int, filters: str, epochs: int, backend: str) -> dict[str, object]:
    """Median steps per second of the whole group in each half of the training."""
    found, backend_ops = datasets.load("digits"), backends.load(backend)
    split = found.split(0)
    train = Images.on_device(backend_ops, split.x_train, split.y_train, found.scale)
    validation = Images.on_device(backend_ops, split.x_validation, split.y_validation, found.scale)
    group = [Settings(filters=filters, epochs=epochs, patience=epochs, seed=seed) for seed in range(trials)]
    shape = Architecture((1, 8, 8), parse_filters(filters), len(found.classes))

    def judge(report: EpochReport) -> dict[int, Verdict]:
        if report.epoch != epochs // 2:
            return {}
        return dict.fromkeys(range(trials // 2, trials), ("pruned", "for the measurement"))

    rates: dict[int, list[float]] = {}
    steps = math.ceil(len(train) / group[0].batch_size)
    for report in train_group(backend_ops, shape, group, train, validation, judge=judge):
        if report.epoch > 1:
            seconds = next(iter(report.metrics.values()))["epoch_seconds"]
            rates.setdefault(len(report.metrics), []).append(steps / seconds)
    return {
        "filters": filters,
        "steps_per_second": {str(count): round(statistics.median(values), 2) for count, values in rates.items()},
        "epochs_measured": {str(count): len(values) for count, values in rates.items()},
        **environment(backend_ops.name, backend_ops.device, backend_ops.precision),
    }


def main() -> int:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--filters", default="32x32")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result = measure(options.trials, options.filters, options.epochs, options.backend)
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
