"""Does asking for several settings at once cost an adaptive sampler anything? Best value found on a known function.

    python bench/search.py [--seeds 20] [--trials 48] [--at-once 1 4 8] [--out bench/results/search.json]

The function stands for a validation accuracy over the learning rate (log), the regularisation (log), the dropout and
the optimiser: 1 at its best point, with a ridge between learning rate and regularisation, and an optimiser that moves
the best learning rate. Asking one at a time is the peer; random search is the floor. near_duplicates is the share of
settings asked together that are closer than 1 % of the space to another one of the same ask.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path

from core.machine.environment import environment
from sweep.experiment.checks import Value
from sweep.experiment.space import Range, Space
from sweep.experiment.stage import Stage
from sweep.records.journal import Journal
from sweep.records.study import Study
from sweep.search.outcome import Outcome
from sweep.search.samplers import draw

SPACE = Space(
    {
        "lr": Range(1e-4, 1.0, log=True),
        "reg": Range(1e-6, 1e-1, log=True),
        "dropout": Range(0.0, 0.9),
        "optimiser": ("sgd", "adam"),
    }
)


def accuracy(setting: dict[str, Value]) -> float:
    """The known function: at most 1, at lr 0.1 (SGD), reg 1e-3 and dropout 0.3."""
    best = -1.0 if setting["optimiser"] == "sgd" else -2.5
    lr, reg = math.log10(float(setting["lr"])) - best, math.log10(float(setting["reg"])) + 3
    penalty = 0.15 * lr**2 + 0.05 * (lr + reg / 2) ** 2 + 0.4 * (float(setting["dropout"]) - 0.3) ** 2
    return 1 / (1 + penalty) - (0.02 if setting["optimiser"] == "adam" else 0)


def place(setting: dict[str, Value]) -> tuple[float, ...]:
    """The setting in the unit cube, the optimiser as a distance of 1."""
    lr, reg = math.log10(float(setting["lr"])) / 4, math.log10(float(setting["reg"])) / 5
    return lr, reg, float(setting["dropout"]) / 0.9, float(setting["optimiser"] == "adam")


def search(sampler: str, trials: int, at_once: int, seed: int) -> tuple[float, int]:
    """The best value found, and how many settings were near-duplicates of another asked for with them."""
    stage = Stage("known", sampler, SPACE, {}, trials=trials)
    if not stage.adaptive:
        return max(accuracy(setting) for setting in draw(stage, seed)), 0
    best, close, known = 0.0, 0, dict[str, Outcome]()
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Journal(Path(folder) / "journal"), stage, "known", seed)
        for start in range(0, trials, at_once):
            asked = study.propose(min(at_once, trials - start), lambda setting: [str(setting)], known, print)
            places = [place(setting) for setting in asked]
            close += sum(any(math.dist(p, q) < 0.01 for q in places[:n]) for n, p in enumerate(places))
            for trial, setting in zip(study.enqueue(asked), asked, strict=True):
                value = accuracy(setting)
                known[str(setting)] = Outcome("finished", str(setting), value, 0.0, 1, 1)
                study.describe(trial, "", [str(setting)], {})
                study.tell(trial, str(setting), known[str(setting)])
                best = max(best, value)
    return best, close


def measure(sampler: str, trials: int, at_once: int, seeds: int) -> dict[str, float | int | str]:
    """Mean best value over seeds, with its standard error."""
    found = [search(sampler, trials, at_once, seed * 1000) for seed in range(seeds)]
    values = [value for value, _ in found]
    return {
        "sampler": sampler,
        "at_once": at_once,
        "best": round(statistics.fmean(values), 5),
        "standard_error": round(statistics.stdev(values) / math.sqrt(seeds), 5),
        "near_duplicates": round(sum(close for _, close in found) / (trials * seeds), 4),
    }


def main() -> int:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = [measure("tpe", options.trials, at_once, options.seeds) for at_once in options.at_once]
    rows += [measure(sampler, options.trials, options.trials, options.seeds) for sampler in ("qmc", "random")]
    for row in rows:
        print(*(f"{name}={value}" for name, value in row.items()))
    result = {"trials": options.trials, "seeds": options.seeds, "rows": rows, **environment("none", "none", "none")}
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
