"""A training that goes on after any epoch, in memory and through its file, ends as if it had not been stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.backends.reference.backend import OPS
from core.backends.registry import load
from core.config.architecture import Architecture
from core.config.settings import Settings
from core.errors import InputError
from core.ops import Ops
from core.training import checkpoint
from core.training.loop import train_group
from core.training.progress import EpochReport, Progress, TrialResult, Verdict
from tests.core.training.test_loop import BASE, GROUPS, KINDS, NINE, SMALL, TRAIN, VALIDATION, same


def prune_in_epoch_2(report: EpochReport) -> Mapping[int, Verdict]:
    return {1: ("pruned", "for this test")} if report.epoch == 2 and 1 in report.metrics else {}


class Training:
    """A training whose progress is kept in files, epoch by epoch."""

    def __init__(self, folder: Path, ops: Ops, architecture: Architecture, trials: list[Settings]) -> None:
        self._given = (ops, architecture, trials, TRAIN, VALIDATION)
        self._folder, self._ops = folder, ops
        self.epochs = 0

    def run(self, start: Progress | None = None) -> dict[int, TrialResult]:
        results: dict[int, TrialResult] = {}
        for report in train_group(*self._given, judge=prune_in_epoch_2, keep=self._keep, start=start):
            assert not report.ended.keys() & results.keys()
            results |= report.ended
        return results

    def path(self, epoch: int) -> Path:
        return self._folder / f"{epoch}.group"

    def _keep(self, progress: Progress) -> None:
        self.epochs = progress.epoch
        checkpoint.save_group(self.path(progress.epoch), progress, {"epoch": progress.epoch}, self._ops.to_host)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize(("architecture", "trials"), KINDS)
def test_it_goes_on_from_any_epoch_bit_for_bit(
    tmp_path: Path, architecture: Architecture, trials: list[Settings], backend: str
) -> None:
    training = Training(tmp_path, load(backend), architecture, trials)
    undisturbed = training.run()
    assert training.epochs == 4
    for epoch in range(1, training.epochs + 1):
        progress, about = checkpoint.load_group(training.path(epoch))
        assert about == {"epoch": epoch}
        going_on = list(progress.active)
        assert progress.epoch == epoch
        results = training.run(progress)
        assert sorted(results) == going_on
        for place, result in results.items():
            same(result, undisturbed[place])


def test_some_may_be_left_out(tmp_path: Path) -> None:
    training = Training(tmp_path, OPS, SMALL, NINE)
    undisturbed = training.run()
    progress, _ = checkpoint.load_group(training.path(1))
    progress.leave({0, 3, 7})
    results = training.run(progress)
    assert not results.keys() & {0, 3, 7}
    assert results
    for place, result in results.items():
        same(result, undisturbed[place])


def test_what_ended_in_the_epoch_that_was_kept_is_reported_again(tmp_path: Path) -> None:
    training = Training(tmp_path, OPS, SMALL, [replace(BASE, epochs=2), BASE, replace(BASE, epochs=2, seed=1)])
    training.run()
    progress, _ = checkpoint.load_group(training.path(2))
    reports = list(train_group(OPS, SMALL, [BASE] * 3, TRAIN, VALIDATION, start=progress))
    assert [(report.epoch, sorted(report.ended)) for report in reports] == [(2, [0, 1, 2])]
    assert reports[0].metrics[1] == reports[0].ended[1].history[-1]
    assert reports[0].ended[1].reason == "for this test"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of a group after its second epoch, and the one before it."""
    path = tmp_path / "some.group"

    def keep(progress: Progress) -> None:
        if progress.epoch <= 2:
            checkpoint.save_group(path, progress, {}, OPS.to_host)

    list(train_group(OPS, SMALL, [*GROUPS["momentum"][:3]], TRAIN, VALIDATION, keep=keep))
    return path


def test_a_flipped_bit_or_a_cut_is_noticed_wherever_it_is_and_the_one_before_counts(file: Path) -> None:
    whole, before = file.read_bytes(), file.with_name("some.group.before")
    assert checkpoint.load_group(file)[0].epoch == 2
    rng = np.random.default_rng(0)
    for position in [*range(110), *rng.integers(0, len(whole), 100)]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.integers(0, 8)
        file.write_bytes(damaged)
        assert checkpoint.load_group(file)[0].epoch == 1
    for length in (0, 1, 50, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert checkpoint.load_group(file)[0].epoch == 1
    file.unlink()
    assert checkpoint.load_group(file)[0].epoch == 1
    before.unlink()
    with pytest.raises(InputError, match=r"some\.group cannot be read"):
        checkpoint.load_group(file)
    file.write_bytes(whole.replace(b"training 1", b"training 2"))
    with pytest.raises(InputError, match="by another version"):
        checkpoint.load_group(file)
    file.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="its SHA-256 differs"):
        checkpoint.load_group(file)


def test_a_file_that_cannot_be_written_leaves_the_former_ones(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    progress, _ = checkpoint.load_group(file)
    before = sorted((path.name, path.read_bytes()) for path in file.parent.iterdir())

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match=r"some\.group cannot be written: No space left on device"):
        checkpoint.save_group(file, progress, {}, OPS.to_host)
    assert checkpoint.load_group(file)[0].epoch == 2
    monkeypatch.undo()
    checkpoint.save_group(file, replace(progress, epoch=3), {}, OPS.to_host)
    assert checkpoint.load_group(file)[0].epoch == 3
    assert len(before) == 2
    assert sorted(path.name for path in file.parent.iterdir()) == [name for name, _ in before]
