"""A PostgreSQL server of the tests' own, where PostgreSQL is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.servers import free_port

_INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # where Debian has them, beside the PATH
_PATH = os.pathsep.join([*map(str, reversed(_INSTALLED)), os.environ.get("PATH", "")])


@contextmanager
def server() -> Iterator[str]:
    """The address of a new server on this machine's own address, for the block. Skips where there is none to start."""
    pytest.importorskip("psycopg")
    programs = [shutil.which(name, path=_PATH) for name in ("initdb", "pg_ctl")]
    if None in programs:
        pytest.skip("PostgreSQL is not here")
    initdb, control = map(str, programs)
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="postgres-"))  # not below one of root's own
    user: dict[str, Any] = {}
    if os.getuid() == 0:  # as whom it refuses to run
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    data, options = f"{folder}/data", f"-F -p {port} -h 127.0.0.1 -k {folder}"

    def run(*command: str) -> None:
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, **user)

    try:
        run(initdb, "-D", data, "-U", "tests", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        run(control, "-D", data, "-l", f"{folder}/log", "-o", options, "-w", "-t", "60", "start")
        try:
            yield f"postgresql://tests@127.0.0.1:{port}/postgres"
        finally:
            run(control, "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)
