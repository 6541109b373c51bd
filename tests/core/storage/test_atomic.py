"""What is written appears whole or not at all, and a changed bit of it is noticed when it is read."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

import numpy as np
import optuna
import pytest

from core.errors import InputError
from core.storage import atomic, checksums
from core.tracking.entities import RunInfo
from core.tracking.tracker import Tracker
from sweep.records.journal_file import CheckedJournal


def test_a_file_takes_its_place_only_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some.txt"
    path.write_text("before")
    with suppress(ZeroDivisionError), atomic.replacing(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_text() == "before"
    synced: list[tuple[bool, str]] = []
    monkeypatch.setattr(
        os, "fsync", lambda number: synced.append((stat.S_ISDIR(os.fstat(number).st_mode), path.read_text()))
    )
    with atomic.replacing(path) as file:
        file.write(b"after")
    assert path.read_text() == "after"
    assert synced == [(False, "before"), (True, "after")]  # on the disk before it took the place; then the place, too
    assert os.listdir(tmp_path) == ["some.txt"]


def test_what_a_dead_process_was_writing_is_told_from_what_a_live_one_is_and_from_other_files(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name in (f".model.npz.{dead.pid}.unfinished", f".a.{os.getppid()}.unfinished", ".notes.2024", ".b.unfinished"):
        (tmp_path / name).touch()
    with atomic.replacing(tmp_path / "mine"):
        found = atomic.unfinished(tmp_path)
    assert found == [tmp_path / f".mine.{os.getpid()}.unfinished", tmp_path / f".model.npz.{dead.pid}.unfinished"]


@pytest.fixture
def stored(project: Path) -> tuple[Tracker, str, Path]:
    """A run with two files, of which one was replaced and one came later."""
    tracker = Tracker()
    run_id = tracker.start(tracker.experiment("some"), "run")
    for name, text in (("a.txt", "first"), ("b.txt", "second"), ("a.txt", "third")):
        tracker.artifacts.log_text(run_id, text, name)
    (folder,) = project.glob("mlruns/some/*/artifacts")
    return tracker, run_id, folder


def refused(tracker: Tracker, run: RunInfo) -> bool:
    """Whether one of the two files is."""
    try:
        tracker.artifacts.path(run, "b.txt")
        tracker.artifacts.path(run, "a.txt")
    except InputError:
        return True
    return False


def test_sha256sum_agrees_with_the_list(stored: tuple[Tracker, str, Path]) -> None:
    tracker, run_id, folder = stored
    assert tracker.artifacts.path(tracker.lookup.find(run_id), "a.txt").read_text() == "third"
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True, check=True)
    assert checked.stdout.splitlines() == ["a.txt: OK", "b.txt: OK"]


def test_a_changed_file_or_list_is_refused(stored: tuple[Tracker, str, Path]) -> None:
    tracker, run_id, folder = stored
    run, sums = tracker.lookup.find(run_id), folder / "SHA256SUMS"
    right = (folder / "a.txt").read_text()
    (folder / "a.txt").write_text("thirt")
    with pytest.raises(InputError, match=r"a\.txt is damaged: its SHA-256 differs from the one in SHA256SUMS"):
        tracker.artifacts.path(run, "a.txt")
    assert tracker.artifacts.path(run, "b.txt").read_text() == "second"
    (folder / "a.txt").write_text(right)
    assert not refused(tracker, run)
    whole, sound = sums.read_bytes(), checksums.listed(folder)
    for position in range(len(whole)):
        for bit in range(8):
            sums.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << bit]) + whole[position + 1 :])
            assert refused(tracker, run) or checksums.listed(folder) == sound  # another kind of line break
    for length in (0, 1, 64, 65, 70, 73, 140):
        sums.write_bytes(whole[:length])
        assert refused(tracker, run)
    sums.unlink()  # as runs that another program wrote
    assert not refused(tracker, run)


def journal_of(path: Path) -> optuna.Study:
    storage = optuna.storages.JournalStorage(CheckedJournal(path))
    return optuna.create_study(storage=storage, study_name="some", load_if_exists=True)


def filled(path: Path) -> optuna.Study:
    study = journal_of(path)
    for value in (0.1, 3.0, 1e-300):
        trial = study.ask()
        trial.suggest_float("lr", 0, 1, log=False)
        trial.set_user_attr("what", ["ä", 1, None, {"x": -0.0}])
        study.tell(trial, value)
    return study


def test_every_line_of_a_journal_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "optuna.journal"
    written = filled(path).trials
    assert [t.params for t in journal_of(path).trials] == [t.params for t in written]
    lines = path.read_bytes().splitlines(keepends=True)
    assert all("sha256" in json.loads(line) for line in lines)
    rng = np.random.default_rng(0)
    whole = path.read_bytes()
    for position in rng.integers(0, len(whole), 300):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.integers(0, 8)
        path.write_bytes(damaged)
        try:
            read = journal_of(path).trials
        except InputError as error:
            assert "line" in str(error)  # noqa: PT017 - either is right
        else:  # in the name of the checksum, or the end of the last line
            assert [t.params for t in read] == [t.params for t in written][: len(read)]
    path.write_bytes(b"".join(lines[:3] + lines[4:]))
    with pytest.raises(InputError, match=r"line 4 of .*: its SHA-256 differs"):
        journal_of(path)


def test_optunas_own_programs_read_it_and_may_write_to_it(tmp_path: Path) -> None:
    path = tmp_path / "optuna.journal"
    ours = filled(path)
    theirs = optuna.load_study(
        storage=optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path))), study_name="some"
    )
    assert [t.user_attrs for t in theirs.trials] == [t.user_attrs for t in ours.trials]
    theirs.set_user_attr("note", "by their page")
    ours.set_user_attr("more", "of ours")
    again = journal_of(path)
    assert again.user_attrs == {"note": "by their page", "more": "of ours"}
    assert [t.user_attrs for t in again.trials] == [t.user_attrs for t in ours.trials]


def test_a_journal_that_cannot_be_written_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "optuna.journal"
    study = filled(path)
    whole = path.read_bytes()

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"optuna\.journal cannot be written: No space left on device"):
        study.set_user_attr("more", "than fits")
    assert path.read_bytes() == whole
    monkeypatch.undo()
    study.set_user_attr("more", "fits now")
    assert journal_of(path).user_attrs == {"more": "fits now"}
