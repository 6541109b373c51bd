"""Files, names and servers of somebody else: nothing of theirs runs, steers a terminal or names a path."""

from __future__ import annotations

import ast
import http.client
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from core.data import registry as datasets
from core.errors import InputError
from core.tracking.tracker import Tracker
from sweep.__main__ import main
from tests.conftest import EXPERIMENT, small_images
from tests.helpers.servers import free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [path for folder in ("core", "sweep") for path in sorted((ROOT / folder).rglob("*.py"))]
RUNNING = {"eval", "exec", "compile", "os.system", "os.popen", "pickle.load", "pickle.loads", "marshal.loads"}
KNOWN = {"sweep/executors/channel.py": {"pickle.loads"}}  # of what it has itself dumped just before


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_source_runs_what_it_reads(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in RUNNING - KNOWN.get(path.relative_to(ROOT).as_posix(), set())
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert given.get("shell", "False") == "False"
            assert given.get("allow_pickle", "False") == "False"
            if name.endswith("np.load"):
                assert "allow_pickle" in given


class Tags(HTMLParser):
    """How often a page opens each element, and the attributes that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append(tag)
        self.attributes |= {name for name, _ in attrs}


def test_a_page_shows_hostile_names_and_runs_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\"><script>alert(1)<x onerror='alert(2)' {{ 7 * 7 }} `&"
    images, labels = small_images(60, 0)
    np.savez(project / f"{hostile}.npz", x=images, y=labels, classes=np.array(["</script><x>", "&lt;", "{% x %}"]))
    text = EXPERIMENT.partition("[stages.dropout]")[0].replace('data = "small.npz"', "").replace("0.1]", "1e30]")
    path = project / "experiments" / "small.toml"
    path.write_text(f"# </script><script>alert(3)</script> {hostile}\n{text}")
    options = ["--data", str(project / f"{hostile}.npz")]
    assert main(["run", "small", "--quiet", *options]) == 3
    assert main(["report", "small", *options]) == 0
    page = Path(capsys.readouterr().out.splitlines()[-1]).read_text()
    tags = Tags(page)
    assert tags.opened.count("script") == 1
    assert "x" not in tags.opened
    assert not [name for name in tags.attributes if name.startswith("on")]
    assert "alert(1)" in page
    assert "{{ 7 * 7 }}" in page


@pytest.mark.parametrize("name", ["a`b", "a\nb", "a'b", "a<b>"])
def test_an_experiments_name_is_a_name(project: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (project / "experiments/small.toml").rename(project / "experiments" / f"{name}.toml")
    assert main(["run", name]) == 2
    assert "an experiment's name may hold" in capsys.readouterr().err
    assert not (project / "mlruns").exists()


def test_control_characters_do_not_reach_the_terminal(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project / "experiments/small.toml"
    path.write_text('"\\u001b[2J\\u0007" = 1\n' + EXPERIMENT)
    assert main(["plan", "small"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: \\x1b[2J\\x07 is not a key")
    assert error.strip().isprintable()


def test_what_a_store_tells_does_not_steer_the_terminal_either(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "small", "--stage", "grid", "--quiet"]) == 0
    with closing(sqlite3.connect(project / "mlflow.db")) as database, database:
        database.execute("UPDATE runs SET name = '\x1b[2J' || name, status = 'RUNNING' WHERE name LIKE 'grid-0%'")
        database.execute("UPDATE tags SET value = 'numpy \x1b[31m' WHERE key = 'packages' AND rowid % 2")
    first, second = (run.run_id for run in Tracker().lookup.runs("1", kind="trial", stage="grid")[:2])
    capsys.readouterr()
    for arguments in (["doctor", "small"], ["compare", first, second]):
        main(arguments)
        captured = capsys.readouterr()
        assert "\x1b" not in captured.out + captured.err
        assert "\\x1b[" in captured.out + captured.err


def test_classes_that_cannot_be_printed_are_refused(tmp_path: Path) -> None:
    images, labels = small_images(10, 0)
    np.savez(tmp_path / "own.npz", x=images, y=labels, classes=np.array(["a", "\x1b[31m", "c"]))
    with pytest.raises(InputError, match=r"the class '\\x1b\[31m' has characters that cannot be printed"):
        datasets.load(str(tmp_path / "own.npz"))


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/x", "a" * 31 + "\n"])
def test_a_run_whose_id_is_a_path_is_refused(project: Path, name: str) -> None:
    tracker = Tracker()
    experiment = tracker.experiment("some")
    tracker.start(experiment, "run")
    with closing(sqlite3.connect(project / "mlflow.db")) as database, database:
        database.execute("PRAGMA foreign_keys = off")
        for table in ("runs", "tags", "params"):
            database.execute(f"UPDATE {table} SET run_uuid = ?", (name,))
    with pytest.raises(InputError, match="it must be 32 hexadecimal digits"):
        Tracker().lookup.runs(experiment)


def _status(port: int, host: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with closing(connection):
        connection.request("GET", "/api/3.0/mlflow/experiments/search?max_results=1", headers={"Host": host})
        return connection.getresponse().status


@pytest.mark.slow("starts MLflow's page")
def test_the_page_answers_this_machine_alone_and_ends_quietly(project: Path) -> None:
    port = free_port()
    log = project / "ui.log"
    with log.open("w") as out:
        command = [sys.executable, "-m", "sweep", "ui", "--port", str(port)]
        page = subprocess.Popen(command, env=os.environ, stdout=out, stderr=out, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}", page, log)
        for host in (f"localhost:{port}", f"127.0.0.1:{port}"):
            assert _status(port, host) != 403
        for host in (
            "10.evil.com",
            "evil.com",
            f"localhost.evil.com:{port}",
            f"127.0.0.1.evil.com:{port}",
            "192.168.1.2",
        ):
            assert _status(port, host) == 403
        listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        places = {words[1] for words in listening if words[3] == "0A" and words[1].endswith(f":{port:04X}")}
        assert places == {f"0100007F:{port:04X}"}
    finally:
        os.killpg(page.pid, signal.SIGINT)  # as a terminal does
        page.wait(timeout=30)
    assert "Traceback" not in log.read_text()
    assert "Warning" not in log.read_text()
