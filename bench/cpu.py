"""The CPU backend against PyTorch and against the report's own algorithm, in one run.

    python -m bench.cpu [--quick] [--backend auto] [--out bench/results]

Each row times contenders in turn, for so many rounds of 8 steps; a time is the median of the rounds' means. A ratio is
the time per trial-step of PyTorch's best mode over ours. Images are random bytes of the size of CIFAR-10's and of
scikit-learn's digits: what they show does not change the time. Every step gathers its batch and draws its dropout.
--quick leaves out torch.compile and all but three rows; the last line it prints is JSON with their ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench import peers
from core import ops, project
from core.arguments import exit_status
from core.backends import registry as backends
from core.config.architecture import Architecture, parse_filters
from core.config.hyperparameters import Hyperparameters
from core.config.settings import Settings
from core.data.images import Images
from core.errors import reason
from core.machine import environment, threads
from core.network.parameters import initial_model
from core.training.optimisers import initial_state

STEPS, ROUNDS, QUICK_ROUNDS, REPORT_STEPS = 8, 20, 6, 20
PHOTOS, DIGITS = (3, 32, 32), (1, 8, 8)
PAUSE = 0.05  # seconds, in which the last contender's threads stop looking for work
OURS, REPORT = "ours", "the report's algorithm"
REPORT_SETTINGS = Settings(lr=0.01, reg=0.005, dropout=0.5)
BEST = Settings(
    filters="32x64x128x256",
    global_pool=True,
    lr=0.1,
    reg=0.0005,
    dropout=0.1,
    momentum=0.9,
    nesterov=True,
    flip=0.5,
    crop=4,
)


@dataclass
class Row:
    """One comparison.

    trials   of the group that is ours; peers train one trial
    least    the ratio that is promised, and aim, the one hoped for
    seconds  per trial-step (per trial-epoch), of each contender and round
    """

    name: str
    work: str
    least: float
    aim: float
    trials: int = 1
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, contender: str) -> float:
        return statistics.median(self.seconds[contender])

    @property
    def rivals(self) -> list[str]:
        return [contender for contender in self.seconds if contender != OURS]

    @property
    def ratio(self) -> float | None:
        """The best rival's median over ours."""
        return min(map(self.median, self.rivals)) / self.median(OURS) if self.rivals else None


def our_step(backend: ops.Ops, shape: tuple[int, int, int], trials: list[Settings]) -> Callable[[], None]:
    """A step of a group, as core.training.loop takes it."""
    architecture = architecture_of(shape, trials[0])
    pixels, labels = random_images(shape)
    images = Images.on_device(backend, pixels, labels, 1 / 255)
    group, model = Hyperparameters.of(trials), initial_model(architecture, trials, xp=backend.xp)
    state = initial_state("sgd", model, group)
    step = backend.make_step(backend, architecture, group)
    rates, rng, number = backend.xp.asarray([trial.lr for trial in trials]), np.random.default_rng(0), 0
    batches = backend.xp.asarray(rng.integers(0, len(pixels), (peers.BATCHES, trials[0].batch_size)))

    def one() -> None:
        nonlocal number
        step(model, state, images, batches[number % peers.BATCHES], rates, number)
        number += 1

    return one


def architecture_of(shape: tuple[int, int, int], settings: Settings) -> Architecture:
    return Architecture(shape, parse_filters(settings.filters), 10, global_pool=settings.global_pool)


def random_images(shape: tuple[int, int, int], count: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8), rng.integers(0, 10, count)


def grid(settings: Settings, count: int) -> list[Settings]:
    """So many trials that differ in learning rate and L2, as a grid's do."""
    return [replace(settings, lr=settings.lr * (1 + k % 3), reg=settings.reg * (1 + k // 3)) for k in range(count)]


def time_in_turn(row: Row, contenders: Mapping[str, Callable[[], None]], rounds: int) -> None:
    """Fill row.seconds: each contender warms up, then all take turns, each of which begins with an untimed step."""
    for step in contenders.values():
        for _ in range(3):
            step()
    for _ in range(rounds):
        for name, step in contenders.items():
            time.sleep(PAUSE)
            step()
            started = time.perf_counter()
            for _ in range(STEPS):
                step()
            per_step = (time.perf_counter() - started) / STEPS
            row.seconds.setdefault(name, []).append(per_step / (row.trials if name == OURS else 1))


def step_row(
    row: Row, backend: ops.Ops, shape: tuple[int, int, int], settings: Settings, modes: tuple[str, ...], rounds: int
) -> Row:
    """Steps on images of one shape against PyTorch in some modes."""
    contenders = {OURS: our_step(backend, shape, grid(settings, row.trials))}
    for mode in modes:
        step = peers.torch_step(architecture_of(shape, settings), settings, *random_images(shape), mode)
        try:
            step()
        except RuntimeError as error:  # torch.compile without a C++ compiler
            print(f"PyTorch {mode} does not run here: {reason(error)}", file=sys.stderr)
        else:
            contenders[f"PyTorch {mode}"] = step
    time_in_turn(row, contenders, rounds)
    return row


def report_row(backend: ops.Ops) -> Row:
    """Steps of the report's algorithm, one at a time, against ours."""
    row = Row("report_32x32", "one trial, 32x32 filters, against the report's algorithm in NumPy", 200, 500)
    settings = replace(REPORT_SETTINGS, filters="32x32")
    time_in_turn(row, {OURS: our_step(backend, PHOTOS, [settings])}, ROUNDS)
    step = peers.report_step(architecture_of(PHOTOS, settings), settings, *random_images(PHOTOS))
    step()
    for _ in range(REPORT_STEPS):
        started = time.perf_counter()
        step()
        row.seconds.setdefault(REPORT, []).append(time.perf_counter() - started)
    return row


def rows(backend: ops.Ops, quick: bool, modes: tuple[str, ...]) -> list[Row]:
    """All rows, measured one after another."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    small = replace(REPORT_SETTINGS, filters="16x32")
    measured = []

    def add(row: Row, shape: tuple[int, int, int], settings: Settings) -> None:
        print(f"{row.work} ...", file=sys.stderr, flush=True)
        measured.append(step_row(row, backend, shape, settings, modes, rounds))

    for filters in ("32x32",) if quick else ("32x32", "16x32", "32x64"):
        work = f"one trial, {filters} filters, 3x32x32 images"
        add(Row(f"one_trial_{filters}", work, 3, 4.5), PHOTOS, replace(REPORT_SETTINGS, filters=filters))
    middle = replace(REPORT_SETTINGS, filters="32x32")
    add(Row("group9_32x32", "group of 9, 32x32 filters, 3x32x32 images", 3.3, 5, 9), PHOTOS, middle)
    if not quick:
        add(Row("digits_one_trial", "one trial, 16x32 filters, 1x8x8 digits", 3, 5), DIGITS, small)
    add(Row("digits_group9", "group of 9, 16x32 filters, 1x8x8 digits", 4, 8, 9), DIGITS, small)
    if not quick:
        add(Row("best", "the network of experiments/best.toml, with its augmentation", 1.5, 3), PHOTOS, BEST)
        print("the report's algorithm ...", file=sys.stderr, flush=True)
        measured.append(report_row(backend))
        if modes:
            print("a whole epoch with validation, tracking and search ...", file=sys.stderr, flush=True)
            measured.append(epoch_row(backend))
    return measured


# --------------------------------------------------------------------------------------------------- a whole epoch

EPOCHS = 2
EXPERIMENT = f"""
data = "photos.npz"
[settings]
filters = "32x32"
dropout = 0.5
reg = 0.005
epochs = {EPOCHS}
[stages.grid]
sampler = "grid"
[stages.grid.space]
lr = [0.01]
"""


def epoch_row(backend: ops.Ops) -> Row:
    """A sweep of one trial, with all that goes with it, against a PyTorch loop that also tracks and searches."""
    import mlflow  # noqa: F401  that no side pays for loading it
    import optuna  # noqa: F401

    import sweep.stages.run  # noqa: F401

    row = Row("epoch", "an epoch of 40,000 images, 32x32 filters, with validation, tracking and search", 3, 4.5)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SWEEP_ROOT"] = folder
        x, y = random_images(PHOTOS, 50_000)
        np.savez(Path(folder) / "photos.npz", x=x, y=y)
        (Path(folder) / "experiment.toml").write_text(EXPERIMENT)
        for name, action in (
            (OURS, lambda: our_sweep(backend, Path(folder))),
            ("PyTorch channels-last", lambda: peer_sweep(x, y)),
        ):
            action_started = time.perf_counter()
            action()
            row.seconds[name] = [(time.perf_counter() - action_started) / EPOCHS]
        del os.environ["SWEEP_ROOT"]
    return row


def our_sweep(backend: ops.Ops, folder: Path) -> None:
    """What `python -m sweep run` does, once the programs are loaded."""
    from core.data import registry as datasets
    from core.tracking.tracker import Tracker
    from sweep.experiment import file as experiments
    from sweep.stages.run import run_stage
    from sweep.stages.sweep import Sweep
    from sweep.terminal import choose

    chosen = experiments.load(str(folder / "experiment.toml"))
    sweep = Sweep.of(chosen, datasets.load(str(folder / "photos.npz")), backend, choose.choose(True))
    result = run_stage(sweep, chosen.stages["grid"], Tracker(None))
    assert result.trained == 1


def peer_sweep(pixels: np.ndarray, labels: np.ndarray) -> None:
    """The same with PyTorch, Optuna and MLflow, as one would write it."""
    import mlflow
    import optuna
    import torch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mlflow.set_tracking_uri(f"sqlite:///{project.root() / 'peer.db'}")
    settings = replace(REPORT_SETTINGS, filters="32x32")
    train, held_out = (
        torch.from_numpy(part).contiguous(memory_format=torch.channels_last) for part in np.split(pixels, [40_000])
    )
    y, y_held_out = (torch.from_numpy(part) for part in np.split(labels, [40_000]))
    study = optuna.create_study(direction="maximize")
    trial = study.ask({"lr": optuna.distributions.CategoricalDistribution([settings.lr])})
    model = peers.torch_module(architecture_of(PHOTOS, settings), settings.dropout).to(
        memory_format=torch.channels_last
    )
    optimiser = torch.optim.SGD(model.parameters(), trial.params["lr"], weight_decay=settings.reg)
    with mlflow.start_run():
        for epoch in range(EPOCHS):
            metrics = {"train_loss": 0.0, "train_accuracy": 0.0, "val_loss": 0.0, "val_accuracy": 0.0}
            model.train()
            for chosen in torch.randperm(len(train)).split(settings.batch_size):
                optimiser.zero_grad(set_to_none=True)
                outputs = model(train[chosen].float().mul_(1 / 255))
                loss = torch.nn.functional.cross_entropy(outputs, y[chosen])
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
                optimiser.step()
                metrics["train_loss"] += loss.item() * len(chosen) / len(train)
                metrics["train_accuracy"] += (outputs.argmax(1) == y[chosen]).sum().item() / len(train)
            model.eval()
            with torch.inference_mode():
                for x, truth in zip(held_out.split(128), y_held_out.split(128), strict=True):
                    outputs = model(x.float().mul_(1 / 255))
                    metrics["val_loss"] += (
                        torch.nn.functional.cross_entropy(outputs, truth).item() * len(x) / len(held_out)
                    )
                    metrics["val_accuracy"] += (outputs.argmax(1) == truth).sum().item() / len(held_out)
            mlflow.log_metrics(metrics, step=epoch)
    study.tell(trial, metrics["val_accuracy"])


# ---------------------------------------------------------------------------------------------------- what comes out


def show(measured: list[Row]) -> str:
    """A table of the rows."""
    lines = [f"{'work (batch 128)':<82}{'ours':>10}{'best peer':>12}{'ratio':>8}{'least':>7}{'aim':>6}"]
    for row in measured:
        ratio = row.ratio
        peer = min(map(row.median, row.rivals)) if row.rivals else float("nan")
        verdict = (
            "" if ratio is None else "  aim met" if ratio >= row.aim else "" if ratio >= row.least else "  NOT MET"
        )
        lines.append(
            f"{row.work:<82}{_time(row.median(OURS)):>10}{_time(peer):>12}"
            f"{'-' if ratio is None else f'{ratio:.2f}':>8}{row.least:>7g}{row.aim:>6g}{verdict}"
        )
    return "\n".join(lines)


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.2f} ms"


def as_json(measured: list[Row], backend: ops.Ops) -> dict[str, Any]:
    """All that was measured, with quartiles, hardware and versions."""
    return {
        **environment.environment(backend.name, backend.device, backend.precision),
        "torch": _torch_version(),
        "threads": threads.count(),
        "rows": [
            {
                **{key: value for key, value in asdict(row).items() if key != "seconds"},
                "ratio": row.ratio,
                "seconds_per_trial_step": {name: _spread(values) for name, values in row.seconds.items()},
            }
            for row in measured
        ],
    }


def _spread(values: list[float]) -> dict[str, float]:
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return {"median": statistics.median(values), "quartile_1": low, "quartile_3": high, "n": len(values)}


def _torch_version() -> str | None:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads.count())
    return str(torch.__version__)


def draw(measured: list[Row], place: Path) -> None:
    """Bars of the ratios, with what is promised and aimed at."""
    from matplotlib.figure import Figure

    shown = [row for row in measured if row.ratio is not None and row.name != "report_32x32"]
    figure = Figure(figsize=(9, 0.6 * len(shown) + 1.4), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(shown))
    axes.barh(places, [row.ratio or 0 for row in shown], color="#0072b2", height=0.6)
    for place_, row in zip(places, shown, strict=True):
        axes.text((row.ratio or 0) + 0.05, place_, f"{row.ratio:.1f}x", va="center")
        axes.plot([row.least] * 2, [place_ - 0.4, place_ + 0.4], color="#d55e00", linewidth=2)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(places, [textwrap.fill(row.work, 44) for row in shown], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel(
        "times as fast as PyTorch's best CPU mode\n(black: equally fast; orange: the least that is promised)"
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1)
    figure.savefig(place, dpi=120)


def main() -> int:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three rows, in less than a minute")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="folder of cpu.json and cpu.png")
    parser.add_argument("--threads", help="of both sides; default: the cores this process may use")
    options = parser.parse_args()
    threads.use(options.threads)
    compared = _torch_version()  # loaded first, so that its threads wait as is usual for it, not as ours do
    backend = backends.load(options.backend)
    modes: tuple[str, ...] = peers.MODES[:2] if options.quick else peers.MODES
    if compared is None:
        print(
            "PyTorch is missing, so there is nothing to compare with: .venv/bin/python -m pip install torch",
            file=sys.stderr,
        )
        modes = ()
    measured = rows(backend, options.quick, modes)
    print(f"{backend.name} on {backend.device}, {threads.count()} threads, PyTorch {compared or 'missing'}")
    print(show(measured))
    if options.quick:
        print(json.dumps({row.name: row.ratio and round(row.ratio, 2) for row in measured}))
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "cpu.json").write_text(json.dumps(as_json(measured, backend), indent=2) + "\n")
    draw(measured, options.out / "cpu.png")
    print(f"written: {options.out / 'cpu.json'} and cpu.png")
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
