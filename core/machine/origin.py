"""Who trains, where, and with what: what a run says of its origin, by MLflow's names where it has some."""

from __future__ import annotations

import getpass
import os
import re
import socket
import sys

from core.machine.environment import code_version
from core.project import root


def origin() -> dict[str, str]:
    """Tags of a run that begins here and now. MLflow's page shows its user and source.

    A commit is told where the code is just that: not where files were changed since.
    """
    commit = code_version()
    return {
        "mlflow.user": user(),
        "mlflow.source.name": sys.argv[0] or "<console>",
        "mlflow.source.type": "LOCAL",
        "host": socket.gethostname(),
        "project": str(root()),
    } | ({"mlflow.source.git.commit": commit} if re.fullmatch("[0-9a-f]{40}", commit) else {})


def user() -> str:
    """The name to log in to MLflow's server, if there is one, or to this machine: $LOGNAME, $USER, or the system's.

    "unknown", MLflow's word, in a container whose system has no name for the user.
    """
    try:
        return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"
