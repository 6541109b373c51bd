"""A password in an address is shown nowhere, however it is written, and whoever speaks of it."""

from __future__ import annotations

import pytest

from core.addresses import redacted, without_passwords
from core.arguments import exit_status
from core.errors import InputError
from core.tracking.tracker import Tracker
from sweep.stages.run import _ending

WRITTEN = [  # as a user may write it, and what is left of it
    ("http://me:hush@host:5000/x", "http://host:5000/x"),
    ("http://me:hu@sh@host:5000/x", "http://host:5000/x"),
    ("http://me:hu/sh@host", "http://host"),
    ("http://me:12/hush@host", "http://host"),
    ("http://me:hu%2Fsh%40@host", "http://host"),
    ("http://hush@host", "http://host"),
    ("http://me:hu?sh#@host", "http://host"),
    ("postgresql://me:hu/sh@host:5432/runs", "postgresql://host:5432/runs"),
    (
        "postgresql://host/runs?user=me&password=hush&sslmode=require",
        "postgresql://host/runs?user=me&password=***&sslmode=require",
    ),
    ("mssql+pyodbc:///?odbc_connect=PWD%3Dhush%3B", "mssql+pyodbc:///?odbc_connect=***"),
    ("https://host/x?access_token=hush", "https://host/x?access_token=***"),
    ("sqlite:////data/me@home/mlflow.db", "sqlite:////data/me@home/mlflow.db"),
    ("http://host:5000/#/experiments?order=1", "http://host:5000/#/experiments?order=1"),
]


@pytest.mark.parametrize(("written", "left"), WRITTEN)
def test_what_is_left_of_an_address(written: str, left: str) -> None:
    assert redacted(written) == left
    assert without_passwords(f"'{written}' is away, mail me@x") == f"'{left}' is away, mail me@x"


def test_blanks_are_part_of_an_address_that_is_one() -> None:
    assert redacted("http://me:hu sh@host/x") == "http://host/x"


@pytest.mark.parametrize(
    "uri",
    [
        *(
            f"http://me:{password}@127.0.0.1:9"
            for password in ("hu/sh", "12/hush", "hu?sh", "hu#sh", "hu sh", "hu%2Fsh")
        ),
        "http://me:hu@sh@127.0.0.1:9",
        "mysql+nodriver://me:hu@sh@127.0.0.1:9/x",
        "mysql+nodriver://me:hu/sh@127.0.0.1:9/x",
        "mysql+nodriver://127.0.0.1:9/x?password=hush",
        "sqlite://me:hush@127.0.0.1/x",
        "nonsense://me:hu/sh@127.0.0.1/x",
        "postgresql://me:abc@hu:sh/12@127.0.0.1/x",
    ],
)
def test_no_part_of_it_is_in_what_a_store_that_cannot_be_used_is_refused_with(project, capfd, uri: str) -> None:
    with pytest.raises(InputError) as caught:
        Tracker(uri)
    said = f"{caught.value}"
    assert "127.0.0.1" in said
    assert not [part for part in ("hu", "sh@", "/sh", "12/", "me:") if part in said], said
    assert exit_status(lambda: int(bool(Tracker(uri)))) == 2
    assert "hu" not in capfd.readouterr().err


def test_how_an_address_is_written_is_told_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(lambda: int(bool(Tracker("http://me:hu/sh@host")))) == 2
    assert "it must be http://HOST:PORT, with user and password as USER:PASSWORD@ before " in capsys.readouterr().err


def test_one_that_mlflows_variables_give_is_not_shown_either(monkeypatch: pytest.MonkeyPatch, project) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hush\nhush")  # of a file that was copied whole
    with pytest.raises(InputError) as caught:
        Tracker("http://127.0.0.1:9")
    assert "hush" not in str(caught.value)


def test_a_run_is_not_tagged_with_one() -> None:
    assert _ending(RuntimeError("http://me:hu/sh@host is away")) == ("FAILED", "RuntimeError: http://host is away")
