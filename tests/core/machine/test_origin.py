"""What a run says of who trained it, and where."""

from __future__ import annotations

import getpass
import os
import pwd
import socket
import sys
from pathlib import Path

import pytest

from core.machine import origin

LOGIN = ("LOGNAME", "USER", "LNAME", "USERNAME", "MLFLOW_TRACKING_USERNAME")


def test_it_names_user_host_and_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin, "code_version", lambda: "ab" * 20)
    assert origin.origin() == {
        "mlflow.user": getpass.getuser(),
        "mlflow.source.name": sys.argv[0],
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": "ab" * 20,
        "host": socket.gethostname(),
        "project": str(project),
    }


@pytest.mark.parametrize("version", ["ab" * 20 + "-dirty", "unknown"])
def test_a_commit_is_told_where_the_code_is_that(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin, "code_version", lambda: version)
    assert "mlflow.source.git.commit" not in origin.origin()


def test_the_user_is_who_logs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LOGIN:
        monkeypatch.delenv(name, raising=False)
    assert origin.user() == pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.setenv("LOGNAME", "student")
    assert origin.user() == "student"
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "at the server")
    assert origin.user() == "at the server"


def test_a_container_may_have_no_name_for_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LOGIN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_999)  # of whom the system knows nothing
    assert origin.user() == "unknown"
