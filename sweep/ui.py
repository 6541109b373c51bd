"""MLflow's web page on this project's runs."""

from __future__ import annotations

import os
import socket
import sys

from core import moved
from core.errors import InputError
from core.project import root

_START = "#/experiments?workflowType=machine_learning"  # it would begin with what is about language models


def serve(port: int) -> int:
    """Become `mlflow ui` on this machine's own address. Does not return unless it cannot start.

    Raises InputError if the port is taken, or there is no run to show.
    """
    if not 1 <= port <= 65535:
        raise InputError(f"port is {port}: it must be from 1 to 65535")
    database = root() / "mlflow.db"
    if not database.exists():
        raise InputError(f"there is no {database} yet: `make sweep-grid` makes the first runs")
    moved.follow(f"sqlite:///{database}", root())
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise InputError(
                f"port {port} is taken, perhaps by another MLflow page: open http://127.0.0.1:{port}, "
                f"or choose another with --port {port + 1} (make ui PORT={port + 1})"
            ) from None
    hosts = f"localhost:{port},127.0.0.1:{port}"
    os.environ |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # starts in half the time
        "MLFLOW_SERVER_ALLOWED_HOSTS": hosts,  # the default pattern 10.* would also let 10.evil.com in
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PYTHONWARNINGS": "ignore",  # they are about MLflow's own dependencies
    }
    print(f"runs: http://127.0.0.1:{port}/{_START}   (Ctrl-C ends it)", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{database}"]
    command += ["--uvicorn-opts", "--lifespan off --log-level warning"]  # else Ctrl-C ends in a traceback
    os.chdir(root())
    os.execv(sys.executable, command)
