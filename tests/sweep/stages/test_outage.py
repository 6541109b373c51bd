"""A store that does not answer for a while: training goes on, and afterwards every epoch is there once, in order."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from threading import Timer

import pytest
import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from core.errors import InputError
from core.tracking.errors import RefusedError, UnreachableError, clear_errors
from core.tracking.tracker import Tracker
from sweep.__main__ import main
from tests.core.export.test_mlflow_model import running
from tests.helpers.servers import free_port


@pytest.fixture
def patient_project(project: Path) -> Path:
    """Whose two trials train until a store has been away."""
    path = project / "experiments" / "small.toml"
    text = path.read_text().replace("epochs = 3", "epochs = 600\npatience = 600")
    path.write_text(text.replace('filters = ["3x4", "2"]', 'filters = ["3x4"]'))
    return project


def every_epoch_once(tracker: Tracker, count: int) -> None:
    """Of every trial, as its history tells."""
    (experiment,) = [
        found.experiment_id for found in tracker.store.client.search_experiments() if found.name != "Default"
    ]
    trials = tracker.lookup.runs(experiment, kind="trial")
    assert [run.status for run in trials] == ["FINISHED"] * count
    for run in trials:
        history = tracker.artifacts.history(run)
        found = tracker.lookup.metrics(run.run_id, ["val_loss"])
        assert found == {("val_loss", epoch): [row["val_loss"]] for epoch, row in enumerate(history, start=1)}


@pytest.mark.slow("trains for a minute, and starts MLflow's server twice")
def test_a_server_that_is_away_while_trials_train(patient_project: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, patient_project / "server.db")
    store = ("--backend-store-uri", f"sqlite:///{patient_project / 'server.db'}", "--workers", "1")
    serving = ("server", *store, "--artifacts-destination", f"{patient_project / 'kept'}")
    command = [sys.executable, "-m", "sweep", "run", "small", "--stage", "grid"]
    port = free_port()
    with ExitStack() as first:
        address = first.enter_context(running(patient_project, port, "health", *serving))
        with subprocess.Popen([*command, "--tracking-uri", address], stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            said = until(process, "epoch 5/")
            with halted(process):
                first.close()
            said += until(process, "training goes on, and its epochs are written later")
            said += until(process, "epoch 500/")
            with running(patient_project, port, "health", *serving):
                said += process.stderr.readlines()
                assert process.wait() == 0, said
                every_epoch_once(Tracker(address), 2)


@contextmanager
def halted(process: subprocess.Popen[str]) -> Iterator[None]:
    """It does nothing for the block: what happens in it comes before the end of the training, however slow it is."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def until(process: subprocess.Popen[str], sign: str) -> list[str]:
    """The lines that it writes, up to the first with this sign; it is killed if that takes two minutes."""
    assert process.stderr is not None
    deadline, said = Timer(120, process.kill), []
    deadline.start()
    try:
        for line in process.stderr:
            said.append(line)
            if sign in line:
                return said
    finally:
        deadline.cancel()
    raise AssertionError(f"no line with {sign!r} in {said}")


@pytest.mark.slow("a sweep trains until it has waited for a locked database")
def test_a_database_that_is_locked_while_trials_train(patient_project: Path) -> None:
    command = [sys.executable, "-m", "sweep", "run", "small", "--stage", "grid"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        until(process, "epoch 5/")
        with closing(sqlite3.connect(patient_project / "mlflow.db", isolation_level=None, timeout=0)) as database:
            lock(database, process)
            said = until(process, "is locked")
            database.execute("COMMIT")
        said += process.stderr.readlines()
        assert process.wait() == 0, said
    every_epoch_once(Tracker(), 2)


def lock(database: sqlite3.Connection, process: subprocess.Popen[str]) -> None:
    """Take it where the process is between two transactions."""
    while True:
        with halted(process), suppress(sqlite3.OperationalError):
            database.execute("BEGIN EXCLUSIVE")
            return


def test_who_has_no_patience_is_told_at_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Tracker()
    run_id = tracker.start(tracker.experiment("some"), "run")
    calls: list[str] = []

    def locked(*arguments: object, **options: object) -> None:
        calls.append("again")
        if len(calls) < 3 or tracker.store.patience == 0:
            raise UnreachableError("the database is locked")

    monkeypatch.setattr(tracker.store.client, "log_batch", locked)
    with pytest.raises(InputError, match="locked"):
        tracker.log_metrics(run_id, {"a": 1.0})
    assert len(calls) == 1
    calls.clear()
    with tracker.store.waiting(5.0):
        tracker.log_metrics(run_id, {"a": 1.0})
    assert len(calls) == 3


class AnswerError(Exception):
    """What a database's driver raises."""

    sqlstate: str | None = None
    pgcode: str | None = None


def answer(number: int | str, **codes: str) -> OperationalError:
    found = AnswerError(number, "no")
    for name, code in codes.items():
        setattr(found, name, code)
    return OperationalError("INSERT", {}, found)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        *((answer(number), False) for number in (1044, 1045, 1142, 1143)),
        (answer("no", sqlstate="28P01"), False),
        (answer("no", pgcode="28000"), False),
        (answer("no", pgcode="57P03"), True),  # the server is starting
        (answer(2003), True),  # nothing answers
    ],
    ids=str,
)
def test_a_database_that_lets_nobody_in_is_not_waited_for(error: OperationalError, passes: bool) -> None:
    with pytest.raises(UnreachableError if passes else RefusedError), clear_errors("the store"):
        raise error


def test_a_run_is_made_once_though_the_answer_was_lost(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Tracker(patience=5.0)
    experiment = tracker.experiment("some")
    create = tracker.store.client.create_run
    calls = []

    def losing(*arguments: object, **options: object) -> object:
        made = create(*arguments, **options)
        calls.append(made)
        if len(calls) == 1:
            raise MlflowException("API request to http://127.0.0.1 failed") from requests.Timeout("timed out")
        return made

    monkeypatch.setattr(tracker.store.client, "create_run", losing)
    run_id = tracker.start(experiment, "run")
    assert [run.run_id for run in tracker.lookup.runs(experiment)] == [run_id]
    assert len(calls) == 1


def test_the_name_of_an_experiment_is_waited_for_as_all_else_is(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = Tracker(patience=5.0)
    experiment, ask, calls = tracker.experiment("some"), tracker.store.client.get_experiment, []

    def late(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 1:
            said = "API request to http://me:hush@127.0.0.1 failed"
            raise MlflowException(said) from requests.Timeout("timed out")
        return ask(*arguments)

    monkeypatch.setattr(tracker.store.client, "get_experiment", late)
    assert tracker.lookup.experiment_name(experiment) == "some"
    assert "timed out: trying again for 5 s" in capsys.readouterr().err
    other = Tracker()
    calls.clear()
    monkeypatch.setattr(other.store.client, "get_experiment", late)
    with pytest.raises(UnreachableError, match=f"^experiment {experiment} cannot be used: timed out$"):
        other.lookup.experiment_name(experiment)


def test_a_clock_that_is_set_back_delays_no_epoch(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600 * (time.monotonic() % 7))
    assert main(["run", "small", "--stage", "grid", "--quiet"]) == 0
    every_epoch_once(Tracker(), 4)
