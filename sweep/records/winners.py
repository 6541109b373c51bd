"""The winners of stages as versions of a registered model, and the best of them, its champion."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import core
from core.data.dataset import Dataset
from core.errors import printable
from core.tracking import tags
from core.tracking.entities import RunInfo
from core.tracking.errors import RefusedError
from core.tracking.model_registry import RegisteredModel
from core.tracking.served_package import ServedModel
from core.tracking.tracker import Tracker
from sweep.experiment.stage import Stage
from sweep.records.trial_files import MODEL
from sweep.results import ranking

CORE = Path(core.__file__).parent
SERVED_WITH = ("numpy", "pandas", "threadpoolctl")  # what core.export.mlflow_model and the reference backend import


class Winners:
    """Registers the winners of an experiment's stages."""

    def __init__(self, tracker: Tracker, data: Dataset, model: str | None) -> None:
        """model: the name that winners are registered under; None: they are not."""
        self._tracker, self._data = tracker, data
        self._model = None if model is None else tracker.model(model)

    @property
    def model(self) -> RegisteredModel | None:
        """The model that the stages' winners are versions of; None if they are not registered."""
        return self._model

    def register(self, stage: Stage, rows: Sequence[ranking.Row]) -> None:
        """Make the stage's winner a version of the experiment's model, unless it is one; the best of all stages is its
        champion.

        Where the store has no registry, or does not let us use it, a line says so, and nothing else is lost.
        """
        best, model, known = ranking.winner(rows), self._model, None
        if model is None or best is None or best.accuracy is None:
            return
        refused = f"the winner of {stage.name} is not registered"
        with unless_refused(refused):
            known = model.has(best.outcome.run_id)
        if known is False:
            run = self._tracker.lookup.find(best.outcome.run_id)
            told = {tags.STAGE_NAME: stage.name, tags.VERSION_TRIAL: best.cell.name}
            told |= {tags.BEST_VAL_ACCURACY: str(best.accuracy), tags.DATA_SHA256: self._data.sha256}
            with tempfile.TemporaryDirectory() as folder:
                served = self._served(run, Path(folder))
                with unless_refused(refused):
                    model.register(run, served, told)
                    known = True
        if known:
            with unless_refused(f"no champion of model {model.name} is set"):
                model.crown()

    def _served(self, run: RunInfo, folder: Path) -> ServedModel:
        """What MLflow serves the run's model from; a file of it is written into folder."""
        shape = tuple(self._data.x.shape[1:])
        about = {"classes": self._data.classes, "scale": self._data.scale, "input_shape": shape}
        about["offset"] = self._data.pixels.offset
        (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")
        files = {"model": self._tracker.artifacts.path(run, MODEL), "about": folder / "about.json"}
        return ServedModel(CORE / "export/mlflow_model.py", files, CORE, SERVED_WITH, shape)


@contextmanager
def unless_refused(what: str) -> Iterator[None]:
    """Go on where the store will not do something that nothing else needs; a line says so, and what follows."""
    try:
        yield
    except RefusedError as error:
        print(f"{printable(error)}: {what}", file=sys.stderr)
