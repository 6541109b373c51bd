"""The GPU backend against PyTorch on the same GPU, in one run.

    python -m bench.gpu [--precision float32] [--data-dir DIR] [--out bench/results]

Times are wall time between two moments at which the GPU is idle. Contenders take turns; a time is the median of the
rounds. The floor of a step is what its operations and its bytes, counted on paper, would take at the rates of this GPU,
measured by a large matrix product and a large copy. Without PyTorch the peers are left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from bench.cpu import OURS, PHOTOS, REPORT_SETTINGS, architecture_of, grid, our_step, random_images
from core import ops
from core.arguments import exit_status
from core.backends import registry as backends
from core.config.architecture import Architecture
from core.config.settings import Settings
from core.data import registry as datasets
from core.data.images import Images
from core.machine import environment
from core.training.loop import train_group

ROUNDS, STEPS = 20, 50
EPOCHS = 20  # of the grid that is judged
FILTERS, LR, REG = ("16x32", "32x32", "32x64"), (0.1, 0.05, 0.01), (0.001, 0.005, 0.01)  # the report's grid
GRID_SECONDS = (45, 18)  # the most that is promised, and the aim
PROMISES = {  # least and aim: ours over the peer, in trial-steps a second
    ("group of 9", "eager"): (6, 12),
    ("group of 9", "compiled"): (2.5, 5),
    ("one trial", "compiled"): (1, 2),
}
FLOOR = (0.3, 0.5)
MIDDLE = replace(REPORT_SETTINGS, filters="32x32")


def timed(contenders: dict[str, Callable[[], None]], idle: Callable[[], None]) -> dict[str, list[float]]:
    """Seconds a step of each contender, round by round; idle waits until the GPU has nothing to do."""
    for step in contenders.values():
        for _ in range(5):
            step()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, step in contenders.items():
            idle()
            started = time.perf_counter()
            for _ in range(STEPS):
                step()
            idle()
            seconds[name].append((time.perf_counter() - started) / STEPS)
    return seconds


def median(seconds: Sequence[float]) -> float:
    return statistics.median(seconds)


def operations(architecture: Architecture, images: int) -> float:
    """Floating point operations of a trial's step: the products alone, forward and backward."""
    total = 2.0 * 3 * architecture.features * architecture.classes
    shapes = zip(architecture.layers, architecture.shapes, architecture.conv_shapes, strict=False)
    for layer, (_, height, width), (_, rows, columns) in shapes:
        places = rows * columns  # of the output, forward
        if layer.number > 1:
            places += rows * columns + height * width  # for the filters, and for the input
        else:
            places += (rows // layer.pool) * (columns // layer.pool)  # for the filters, at the maxima alone
        total += 2 * 9 * layer.channels * layer.filters * places
    return total * images


def traffic(architecture: Architecture, images: int) -> float:
    """Bytes that a trial's step must move, each array once a kernel: outputs, pooled values, places, gradients."""
    total = 4.0 * 6 * architecture.features
    shapes = zip(architecture.layers, architecture.shapes, architecture.conv_shapes, strict=False)
    for layer, source, (filters, rows, columns) in shapes:
        conv, pooled = filters * rows * columns, filters * rows * columns / layer.pool**2
        total += pooled * (4 + 1 + 4 + 1)  # written, and read by what comes back
        if layer.number > 1:
            given = source[0] * source[1] * source[2]
            total += 4 * (given + conv)  # convolve
            total += 4 * conv  # normalise
            total += 4 * (conv + pooled) + pooled  # gradient_sums
            total += 2 * (4 * (conv + pooled) + pooled) + 4 * 2 * given  # both gradients of the convolution
    return total * images


def rates(xp: Any, idle: Callable[[], None]) -> tuple[float, float]:
    """Operations and bytes a second that this GPU reaches in float32."""

    def best(action: Callable[[], Any]) -> float:
        action()
        seconds = []
        for _ in range(10):
            idle()
            started = time.perf_counter()
            action()
            idle()
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    size = 8192
    a = xp.ones((size, size), xp.float32)
    source, target = xp.ones(2**28, xp.float32), xp.empty(2**28, xp.float32)
    return 2 * size**3 / best(lambda: a @ a), 2 * source.nbytes / best(lambda: xp.copyto(target, source))


def grid_seconds(backend: ops.Ops, images: np.ndarray, labels: np.ndarray, epochs: int) -> dict[str, float]:
    """The training of the report's 27 trials, group by group, with validation after every epoch."""
    cut = len(images) * 4 // 5
    train, validation = (
        Images.on_device(backend, images[part], labels[part], 1 / 255) for part in (slice(cut), slice(cut, None))
    )
    seconds = {}
    for filters in FILTERS:
        settings = Settings(filters=filters, epochs=epochs, patience=epochs)
        trials = [replace(settings, lr=lr, reg=reg) for lr in LR for reg in REG]
        started = time.perf_counter()
        for _ in train_group(backend, architecture_of(PHOTOS, trials[0]), trials, train, validation):
            pass
        seconds[filters] = time.perf_counter() - started
        print(f"grid, nine trials of {filters}: {seconds[filters]:.1f} s", file=sys.stderr, flush=True)
    return seconds


def growth(backend: ops.Ops, idle: Callable[[], None]) -> list[dict[str, float]]:
    """How a step's time and memory grow with the number of trials and the batch."""
    found = []
    for count, size in [(1, 128), (3, 128), (9, 128), (27, 128), (9, 32), (9, 512)]:
        before = _left(backend)
        step = our_step(backend, PHOTOS, grid(replace(MIDDLE, batch_size=size), count))
        seconds = median(timed({OURS: step}, idle)[OURS])
        used = before - _left(backend, empty=False)
        found.append({"trials": count, "batch": size, "seconds": seconds, "bytes": used})
        del step
    return found


def _left(backend: ops.Ops, empty: bool = True) -> float:
    """Bytes that the GPU has left; empty: once what CuPy keeps for later is given back."""
    if backend.processes_share_device:  # it has no memory of its own
        return 0.0
    if empty:
        import_module("core.backends.gpu.backend").DEVICE.release_memory()
    return float(backend.xp.cuda.runtime.memGetInfo()[0])


def compare(backend: ops.Ops, idle: Callable[[], None]) -> dict[str, dict[str, list[float]]]:
    """Seconds per trial-step of ours and of the peers, for one trial and for a group of nine."""
    from bench import gpu_peers

    gpu_peers.use_precision(backend.precision)
    architecture, pictures, found = architecture_of(PHOTOS, MIDDLE), random_images(PHOTOS, 40_000), {}
    for work, count in (("one trial", 1), ("group of 9", 9)):
        contenders = {OURS: our_step(backend, PHOTOS, grid(MIDDLE, count))}
        contenders["eager"] = gpu_peers.eager(architecture, MIDDLE, *pictures)
        contenders["compiled"] = gpu_peers.compiled(architecture, MIDDLE, *pictures)
        contenders["DataLoader"] = gpu_peers.data_loader(architecture, MIDDLE, *pictures)
        if count > 1:
            contenders["grouped"] = gpu_peers.grouped(architecture, grid(MIDDLE, count), *pictures)
        together = {OURS, "grouped"}
        found[work] = {
            name: [value / (count if name in together else 1) for value in values]
            for name, values in timed(contenders, idle).items()
        }
    return found


def verdict(value: float, least: float, aim: float) -> str:
    return "aim met" if value >= aim else "" if value >= least else "NOT MET"


def show(result: dict[str, Any]) -> str:
    """The results as a table."""
    total, epochs = sum(result["grid"].values()), result["epochs"]
    most, aim = GRID_SECONDS
    judged = f"   (most {most}, aim {aim})  {verdict(1 / total, 1 / most, 1 / aim)}" if epochs == EPOCHS else ""
    lines = [f"{f'27-trial grid, {epochs} epochs, training':<44}{total:>9.1f} s{judged}"]
    for work, contenders in result["seconds_per_trial_step"].items():
        ours = median(contenders[OURS])
        lines.append(f"{work + ', ours':<44}{ours * 1e3:>9.3f} ms a trial-step")
        for name, seconds in contenders.items():
            if name == OURS:
                continue
            ratio, promise = median(seconds) / ours, PROMISES.get((work, name))
            judged = f"   (least {promise[0]}, aim {promise[1]})  {verdict(ratio, *promise)}" if promise else ""
            lines.append(f"{f'{work}, ours over {name}':<44}{ratio:>9.2f} x{judged}")
    if (share := result["share"]) is not None:
        lines.append(f"{'group of 9, share of the floor':<44}{share:>9.2f}     {verdict(share, *FLOOR)}")
    for row in result["growth"]:
        text = f"{row['trials']} trials, batch {row['batch']}"
        lines.append(f"{text:<44}{row['seconds'] * 1e3:>9.3f} ms a step, {row['bytes'] / 2**20:.0f} MiB")
    return "\n".join(lines)


def main() -> int:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="gpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--data-dir", help="CIFAR-10; default: random bytes of its size")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="folder of gpu.json")
    options = parser.parse_args()
    backend = backends.load(options.backend, options.precision)

    def idle() -> None:
        if cuda := getattr(backend.xp, "cuda", None):
            cuda.runtime.deviceSynchronize()  # all streams, PyTorch's too

    if options.data_dir:
        photos = datasets.load("cifar10", options.data_dir)
        pictures = photos.x, photos.y
    else:
        pictures = random_images(PHOTOS, 50_000)
    architecture = architecture_of(PHOTOS, MIDDLE)
    arithmetic, bandwidth = rates(backend.xp, idle)
    floor = max(9 * operations(architecture, 128) / arithmetic, 9 * traffic(architecture, 128) / bandwidth)
    try:
        import torch
    except ImportError:
        print("PyTorch is missing, so there is nothing to compare with", file=sys.stderr)
        compared, version = {"group of 9": timed({OURS: our_step(backend, PHOTOS, grid(MIDDLE, 9))}, idle)}, None
        compared["group of 9"][OURS] = [value / 9 for value in compared["group of 9"][OURS]]
    else:
        compared, version = compare(backend, idle), str(torch.__version__)
    result = {
        **environment.environment(backend.name, backend.device, backend.precision),
        "torch": version,
        "rounds": ROUNDS,
        "steps_a_round": STEPS,
        "operations_a_second": arithmetic,
        "bytes_a_second": bandwidth,
        "floor_of_nine": floor,
        # Tensor cores have another rate, which is not measured.
        "share": floor / (9 * median(compared["group of 9"][OURS])) if options.precision == "float32" else None,
        "images": "CIFAR-10" if options.data_dir else "random bytes of its size",
        "epochs": options.epochs,
        "seconds_per_trial_step": compared,
        "growth": growth(backend, idle),
        "grid": grid_seconds(backend, *pictures, options.epochs),
    }
    print(f"{backend.name} on {backend.device}, {backend.precision}, PyTorch {version or 'missing'}")
    print(show(result))
    options.out.mkdir(parents=True, exist_ok=True)
    name = "gpu.json" if options.precision == "float32" else f"gpu-{options.precision}.json"
    (options.out / name).write_text(json.dumps(result, indent=2) + "\n")
    print(f"written: {options.out / name}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
