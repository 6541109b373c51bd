"""MLflow's own web page, started for this project's runs."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from core import shell_commands
from core.errors import InputError, printable
from core.project import root
from core.tracking import relocate
from core.tracking.store import tracking_uri
from core.tracking.tracker import Tracker
from sweep.experiment import file as experiments
from sweep.records import views

_EVERY = "#/experiments?workflowType=machine_learning"  # it would begin with what is about language models
_MOST = 5  # experiments whose views are listed


def serve(port: int, uri: str | None = None) -> int:
    """Become `mlflow ui` on this machine's own address, after telling links to the views of the runs. Does not return
    unless it cannot start, or uri is a server's, which has a page.

    Raises InputError if the port is taken, or there is no run to show.
    """
    if not 1 <= port <= 65535:
        raise InputError(f"port is {port}: it must be from 1 to 65535")
    if page := shell_commands.server(uri):
        _print_links(page, Tracker(uri), "")
        return 0
    address = shell_commands.absolute(tracking_uri(uri))
    _require_runs(address, uri)
    _require_free(port, uri)
    os.environ |= _environment(address, port)
    _print_links(f"http://127.0.0.1:{port}", Tracker(uri), "   (Ctrl-C ends it)")
    command = [sys.executable, "-m", "mlflow", "ui", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--uvicorn-opts", "--lifespan off --log-level warning"]  # else Ctrl-C ends in a traceback
    os.chdir(root())
    return os.execv(sys.executable, command)


def _require_runs(address: str, uri: str | None) -> None:
    """Raise InputError if the store is a file that is not there; if it is, its paths are those of today."""
    if address.startswith("sqlite:///"):
        database = Path(address.removeprefix("sqlite:///"))
        if not database.exists():
            raise InputError(f"there is no {database} yet: {_first_runs(uri)}")
        relocate.follow(address, root())


def _first_runs(uri: str | None) -> str:
    """How there come to be runs."""
    known = experiments.names()
    if not known:
        return f"nor is there an experiment in {root() / 'experiments'} that would make it"
    name = "report" if "report" in known else known[0]
    return f"{shell_commands.quoted(shell_commands.command('sweep', 'run', name, store=uri), uri)} makes the first runs"


def _require_free(port: int, uri: str | None) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            again = shell_commands.command("sweep", "ui", options={"port": port + 1}, store=uri)
            raise InputError(
                f"port {port} is taken, perhaps by another MLflow page: open http://127.0.0.1:{port}, "
                f"or choose another: {shell_commands.quoted(again, uri)}"
            ) from None


def _environment(address: str, port: int) -> dict[str, str]:
    """What MLflow is told by variables."""
    return {
        "MLFLOW_BACKEND_STORE_URI": address,  # a variable, since lists of processes show arguments
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # starts in half the time
        # The default pattern 10.* would also let 10.evil.com in.
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"localhost:{port},127.0.0.1:{port}",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PYTHONWARNINGS": "ignore",  # they are about MLflow's own dependencies
    }


def _print_links(page: str, tracker: Tracker, end: str) -> None:
    """To stderr: links to the views of the experiments last changed, and to all."""
    every = [(found, views.titles(found.tags)) for found in tracker.lookup.experiments()]
    for found, titles in [pair for pair in every if pair[1]][:_MOST]:
        print(printable(found.name), file=sys.stderr)
        for key, title in titles.items():
            print(f"  {printable(title)}: {views.link(page, found.experiment_id, key)}", file=sys.stderr)
    print(f"all runs: {page}/{_EVERY}{end}", file=sys.stderr, flush=True)
