"""The pictures of runs in MLflow: a trial's, and a stage's."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from core.data.images import Images
from core.errors import InputError
from core.export import model_npz
from core.figures import model, search
from core.figures.activations import init_study
from core.figures.style import Picture
from core.figures.trials import Trial
from core.network.init_study import network_study
from core.network.parameters import architecture_of
from core.tracking import tags

if TYPE_CHECKING:
    from core.data.dataset import Dataset
    from core.ops import Ops
    from core.tracking.entities import RunInfo
    from core.tracking.tracker import Tracker

IMAGES, VALUES = 128, 2**20  # most images whose activations are counted, and values of a layer: a fraction of a second


def of_trial(tracker: Tracker, run: RunInfo, ops: Ops, data: Dataset, image: str = "0") -> dict[str, Picture]:
    """Everything about a trial, seen on its validation images: those for the test are for the last figure alone.

    image  see core.figures.model.select_image
    """
    arrays = model_npz.load_model(tracker.artifacts.path(run, "model.npz"))
    split = data.split(int(run.tags.get(tags.DATA_SEED, 0)))
    seen = Images.on_device(ops, split.x_validation, split.y_validation, data.scale)
    shown = model.select_image(image, seen, "validation image", ops, data.pixels)
    history = tracker.artifacts.history(run)
    best_epoch = int(run.metrics.get(tags.BEST_EPOCH, 0))
    of = f"validation images of {data.name}"
    given = (ops, arrays, seen, data.classes, shown, data.pixels)
    return model.pictures(*given, of=of, history=history, best_epoch=best_epoch)


def of_beginning(tracker: Tracker, run: RunInfo, ops: Ops, data: Dataset) -> dict[str, Picture]:
    """How the activations of a trial's network spread under each initialisation, by a batch of its training images."""
    architecture = architecture_of(model_npz.load_model(tracker.artifacts.path(run, "model.npz")), data.x.shape[1:])
    split, largest = data.split(int(run.tags.get(tags.DATA_SEED, 0))), max(map(math.prod, architecture.conv_shapes))
    count = max(1, min(IMAGES, VALUES // largest))
    seen = Images.on_device(ops, split.x_train[:count], split.y_train[:count], data.scale)
    network = f"{'residual ' * architecture.residual}network {'x'.join(map(str, architecture.filters))}"
    title = f"Activations by layer before training: {network}, without its batch normalisation"

    def draw() -> Figure:
        study = network_study(ops, seen.batch(slice(None))[0], architecture, int(run.params.get("seed", 0)))
        return init_study(study, f"{title}\n{len(seen)} training images of {data.name}")

    return {"activation-spread": draw}


def of_stage(tracker: Tracker, run: RunInfo) -> dict[str, Picture]:
    """The stage's trials side by side, by what was searched. Raises InputError while nothing is ranked."""
    trials = stage_trials(tracker, run)
    stage, on = run.tags.get(tags.STAGE_NAME, run.name), f"on {run.tags.get(tags.DATA_NAME, '')}"
    seeds = run.tags.get(tags.SEEDS, "1")
    if seeds == "1":
        return search.pictures(trials, f"{stage}: {len(trials)} trials {on}")
    title = f"{stage}: {len(trials)} settings with {seeds} seeds each {on}"
    return search.pictures(trials, f"{title}, whose mean is drawn", f"{title}, of which the best one's curve is drawn")


def stage_trials(tracker: Tracker, run: RunInfo) -> list[Trial]:
    """A stage's ranked trials, of several seeds the best one's curve."""
    siblings = tracker.lookup.siblings(run, kind=tags.TRIAL, stage=run.tags.get(tags.STAGE_NAME, ""))
    runs = {found.run_id: found for found in siblings}
    rows = tracker.artifacts.table(run, "summary.csv")
    if lost := [row["trial"] for row in rows if row["run_id"] not in runs]:
        raise InputError(f"run {run.run_id} tells of {lost[0]}, whose run is gone: run the sweep again")
    columns = list(rows[0])
    searched = columns[columns.index("trial") + 1 : columns.index("best_val_accuracy")]
    values = {key: _numbers_or_text([row[key] for row in rows]) for key in searched}
    return [
        Trial(
            row["trial"],
            {key: values[key][place] for key in searched if row[key]},
            float(row["best_val_accuracy"]) if row["best_val_accuracy"] else None,
            [epoch["val_accuracy"] for epoch in tracker.artifacts.history(runs[row["run_id"]])],
            fixed=runs[row["run_id"]].tags.get(tags.SOURCE) == "point",
            finished=row["status"] in ("finished", "cut"),
        )
        for place, row in enumerate(rows)
    ]


def _numbers_or_text(column: list[str]) -> list[Any]:
    """The values of a column, which are of one kind; what is empty does not matter."""
    for kind in (int, float):
        with suppress(ValueError):
            return [kind(text) if text else None for text in column]
    return column
