"""The commands that are printed do what they are printed for: typed as they are, in another folder, in a new shell."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core import shell_commands as commands
from core.project import root
from sweep.__main__ import main
from sweep.terminal import hints
from sweep.terminal.lines import labelled_lines
from tests.helpers.servers import free_port


@pytest.fixture
def anywhere(project: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The options of a sweep whose experiment, data and store all have blanks, and lie beside the current folder."""
    folder = project / "my work"
    folder.mkdir()
    for name in ("small.npz", "experiments/small.toml"):
        shutil.move(project / name, folder)
    shutil.copy(project / "mlflow.db", folder / "my runs.db")
    monkeypatch.setenv("SWEEP_ROOT", str(folder / "a root"))
    (folder / "a root").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SWEEP_EPOCHS", "2")  # a variable, which another shell may not have
    return (
        *("small.toml", "--data", "small.npz", "--seed", "7", "--backend", "reference"),
        *("--tracking-uri", "sqlite:///my runs.db"),
    )


def typed(command: str, folder: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """What a shell in another folder makes of a command, without any variables of ours."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("SWEEP_", "MLFLOW_TRACKING"))}
    done = subprocess.run(["sh", "-c", command], cwd=folder, env=known, capture_output=True, text=True)
    assert done.returncode == status, f"{command}\n{done.stderr}"
    return done


def suggested(text: str) -> dict[str, str]:
    """The commands at the end of a stage, by what is before the colon."""
    found = (re.fullmatch(r"(\S[^:]*): +(.*)", line) for line in text.splitlines())
    return {match[1]: match[2] for match in found if match and " -m " in match[2]}


def quoted(text: str) -> str:
    """The command in backquotes."""
    (found,) = re.findall("`(.*?)`", text)
    return found


@pytest.mark.slow("runs twelve commands, each in a shell of its own")
def test_every_command_works_as_it_is_printed(
    anywhere: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert main(["report", *anywhere[:5], *anywhere[7:]]) == 2
    assert quoted(capsys.readouterr().err).endswith(
        f"-m sweep run {shlex.quote(str(Path.cwd() / 'small.toml'))} "
        f"--data {shlex.quote(str(Path.cwd() / 'small.npz'))} --seed 7 --epochs 2 "
        f"--tracking-uri {shlex.quote(f'sqlite:///{Path.cwd()}/my runs.db')}"
    )
    assert main(["run", *anywhere, "--stage", "dropout"]) == 2
    first = typed(quoted(capsys.readouterr().err), elsewhere)
    told = suggested(first.stderr)
    assert list(told) == ["test it", "see it", "see all", "read it", "browse", "go on"]
    winner = typed(told["test it"], elsewhere).stderr
    assert "recorded in run" in winner
    assert re.search(r"figures/grid-\S+/confusion.png", typed(told["see it"], elsewhere).stdout)
    assert "figures/grid-" in typed(told["see all"], elsewhere).stdout
    page = (elsewhere / typed(told["read it"], elsewhere).stdout.strip()).read_text()
    assert first.stdout.splitlines()[1].split("\t")[-1] in page
    second = typed(told["go on"], elsewhere)
    assert len(second.stdout.splitlines()) == 4  # three trials
    assert "go on" not in suggested(second.stderr)
    browse(told["browse"], elsewhere)
    (folder,) = (root() / "mlruns").iterdir()  # all of it was about one experiment
    damaged = next(folder.rglob("history.csv"))
    damaged.write_text("")
    doctor = ("doctor", *anywhere[:5], *anywhere[7:])
    assert main(list(doctor)) == 1
    fixed = typed(capsys.readouterr().out.rpartition("next: ")[2], elsewhere).stdout
    typed(fixed.rpartition("next: ")[2], elsewhere)
    assert main(list(doctor)) == 0
    (folder / "sweep.json").write_text("{}")
    assert main(["report", *anywhere[:5], *anywhere[7:]]) == 2
    assert "--fix" in typed(quoted(capsys.readouterr().err), elsewhere, status=1).stdout


def browse(command: str, folder: Path) -> None:
    """The command that shows the runs names their views; it does not wait for the page."""
    with subprocess.Popen(
        ["sh", "-c", f"exec env {command} --port {free_port()}"], cwd=folder, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr
        lines = [server.stderr.readline() for _ in range(5)]
        server.terminate()
    assert "small-small-" in lines[0]
    assert [line.partition(":")[0].strip() for line in lines[1:]] == ["stages", "grid", "dropout", "all runs"]


@pytest.mark.parametrize("where", ["with it", "without it"])
def test_python_is_called_python_where_a_shell_finds_this_one(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Path(sys.executable).parent
    others = [place for place in os.environ["PATH"].split(os.pathsep) if Path(place) != own]
    monkeypatch.setenv("PATH", os.pathsep.join([str(own), *others] if where == "with it" else others))
    monkeypatch.delenv("SWEEP_ROOT", raising=False)
    word = commands.command("sweep", "ui").partition(" ")[0]
    assert word == ("python" if where == "with it" else sys.executable)
    code = f"{word} -c 'import sys; print(sys.prefix)'"
    assert subprocess.run(["sh", "-c", code], capture_output=True, text=True).stdout.strip() == sys.prefix


def test_another_python_of_the_same_folder_is_not_taken_for_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    this, other = tmp_path / "python3", tmp_path / "python"
    for path in (this, other):
        path.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(this))
    assert f"{this} -m sweep ui" in commands.command("sweep", "ui")
    other.unlink()
    other.symlink_to(this)
    assert str(this) not in commands.command("sweep", "ui")


def given(**options: str) -> argparse.Namespace:
    return argparse.Namespace(command="run", experiment="small", **options)


@pytest.mark.parametrize("store", ["postgresql://me:hunter2@db/runs", "http://me:hunter2@host:5000"])
def test_a_password_is_left_out_and_that_is_said(store: str) -> None:
    told = hints.of(given(tracking_uri=store))
    for text in (told.ui(), told.run(), told.evaluate("12"), told.page, told.quoted(told.report())):
        assert "hunter2" not in text
        assert "--tracking-uri" not in text
    assert "MLFLOW_TRACKING_URI" in told.without_store
    assert "MLFLOW_TRACKING_URI" in told.quoted(told.report())
    assert hints.of(given(tracking_uri="http://host:5000")).without_store == ""


def test_runs_on_a_server_are_seen_there() -> None:
    assert hints.of(given(tracking_uri="http://host:5000")).page == "http://host:5000"
    assert commands.browse("http://host:5000") == "http://host:5000"
    assert "--tracking-uri http://host:5000" in hints.of(given(tracking_uri="http://host:5000")).figures("12")


def test_a_command_has_what_it_needs_and_no_more(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", "photos")
    told = hints.of(given(data="cifar10", seed="3", threads="1", figures="none"))
    known = f"--data cifar10 --seed 3 --data-dir {project}/photos"
    assert told.run("grid").endswith(
        f" sweep run small --stage grid --data cifar10 --seed 3 --figures none --threads 1 --data-dir {project}/photos"
    )
    assert told.report().endswith(f" sweep report small {known}")
    assert told.doctor("--fix").endswith(
        f" sweep doctor small --fix --data cifar10 --seed 3 --figures none --data-dir {project}/photos"
    )
    assert told.evaluate("12").endswith(" -m core.evaluate --run-id 12")
    assert commands.command("sweep", "ui", store=f"sqlite:///{project}/mlflow.db").endswith(" sweep ui")


def test_what_is_said_wraps_at_words_and_a_command_never() -> None:
    said, command = [("why", " ".join(["lr mattered most"] * 10))], f"python -m sweep run {'x' * 90}"
    lines = labelled_lines(said, [("go on", command)], width=80).splitlines()
    assert lines[-1] == f"go on:   {command}"
    assert lines[0].startswith("why:     lr mattered")
    assert all(line.startswith("         ") and 40 < len(line) <= 80 for line in lines[1:-2])
    assert " ".join(line[9:] for line in lines[:-1]) == said[0][1]
    assert labelled_lines(said, [], width=None) == f"why:     {said[0][1]}"


@pytest.mark.parametrize(
    ("lr", "kept"), [("0.1", ["see it", "see all", "read it", "browse"]), ("1e30", ["read it", "browse"])]
)
def test_what_cannot_be_done_is_not_suggested(
    lr: str, kept: list[str], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without test images there is no test, and without a winner nothing of one, nor a stage that builds on it."""
    with np.load(project / "small.npz") as arrays:
        np.savez(project / "untested.npz", x=arrays["x"], y=arrays["y"])
    path = project / "experiments/small.toml"
    text = path.read_text().replace("[0.01, 0.1]", f"[{lr}]").replace("epochs = 3", "epochs = 3\nclip = 0")
    path.write_text(text.partition("[stages.dropout]")[0])
    main(["run", "small", "--data", "untested.npz", "--backend", "reference"])
    assert list(suggested(capsys.readouterr().err)) == kept
