"""The pictures that runs have among their artifacts."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from core.data.dataset import Dataset
from core.ops import Ops
from core.random import Array
from core.tracking.tracker import Tracker

if TYPE_CHECKING:
    from core.figures.style import Picture

FOLDER = "figures"  # of the artifacts


class RunPictures:
    """Draws stages and their winners. Matplotlib, which takes half a second to import, waits for the first."""

    def __init__(self, tracker: Tracker, ops: Ops, data: Dataset) -> None:
        self._tracker, self._ops, self._data = tracker, ops, data

    def augmented(self, run_id: str, rows: Sequence[tuple[str, Array]]) -> None:
        """Training images before and after augmentation, for the stage's run: see core.figures.augmented."""
        from core import figures

        title = f"Training images of {self._data.name}, as they are and as augmentation changes them"
        self._log(run_id, {"augmented": partial(figures.augmented, rows, title)})

    def stage_and_winner(self, stage: str, winner: str) -> None:
        """The pictures of a stage's run, and of its winner's."""
        from core.figures import runs

        trial = self._tracker.lookup.find(winner)
        drawn = runs.of_stage(self._tracker, self._tracker.lookup.find(stage))
        self._log(stage, drawn | runs.of_beginning(self._tracker, trial, self._ops, self._data))
        self._log(winner, runs.of_trial(self._tracker, trial, self._ops, self._data))

    def _log(self, run_id: str, pictures: Mapping[str, Picture]) -> None:
        from core import figures

        with tempfile.TemporaryDirectory() as name:
            for file, drawn in figures.rendered(pictures, "png"):
                (Path(name) / file).write_bytes(drawn)
            self._tracker.artifacts.log_files(run_id, Path(name), FOLDER)
