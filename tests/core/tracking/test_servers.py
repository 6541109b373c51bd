"""Servers as others run them: behind a password, a path and a certificate, or with less than MLflow 3 has."""

from __future__ import annotations

import base64
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.errors import InputError
from core.tracking.errors import RefusedError
from core.tracking.tracker import Tracker
from sweep.__main__ import main
from tests.core.export.test_mlflow_model import check_champion, environment, running, sweep
from tests.helpers.proxies import Answer, Proxy, make_certificate
from tests.helpers.servers import free_port

pytestmark = pytest.mark.slow("starts MLflow's server")

CREDENTIALS = "Basic " + base64.b64encode(b"me:secret").decode()
VARIABLES = ("USERNAME", "PASSWORD", "TOKEN", "SERVER_CERT_PATH", "INSECURE_TLS")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[str]:
    """An MLflow server that the tests share; each has an experiment of its own."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_store, folder / "server.db")
    store = ("--backend-store-uri", f"sqlite:///{folder / 'server.db'}", "--workers", "1")
    port = free_port()
    with running(folder, port, "health", "server", *store, "--artifacts-destination", f"{folder / 'kept'}") as address:
        yield address


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)


def guarded(path: str, authorization: str) -> Answer | None:
    return None if authorization in (CREDENTIALS, "Bearer ticket") else (401, b"who are you?\nand why?")


def line(address: str) -> str:
    """With what one line it is refused, in seconds."""
    start = time.monotonic()
    with pytest.raises(InputError) as caught:
        Tracker(address)
    assert time.monotonic() - start < 5
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_server_behind_a_certificate_a_password_and_a_path(
    server: str, project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(project / "certificate.pem")
    proxy = Proxy(server, guarded, "/some/path", certificate)
    with proxy.serving() as address:
        assert address in line(address)
        assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in line(address)
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
        said = line(address)
        assert "401" in said
        assert "who are you?; credentials are wanted: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, " in said
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "another")
        assert "other credentials are wanted" in line(address)
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "ticket")
        Tracker(address)
        monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
        found = sweep(capsys, "--stage", "grid", "--tracking-uri", address)["grid"]
        assert found["trained"] == 4
        assert main(["doctor", "small", "--tracking-uri", address]) == 0
    assert not [path for path in proxy.asked if not path.startswith("/some/path/api/")]  # nor ever for /health


def test_credentials_in_the_address_are_used_and_not_shown(server: str, project: Path) -> None:
    with Proxy(server, guarded).serving() as address:
        Tracker(address.replace("://", "://me:secret@"))
        said = line(address.replace("://", "://me:se%2Fcr%40et@"))
        assert address in said
        assert not re.search("se%2Fcr|se/cr|me:", said)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (403, b"not for you", "error code 403 != 200: not for you"),
        (404, b"", "error code 404 != 200"),
        (501, b"<html>\n<title>no</title>", "error code 501 != 200"),
        (502, b"", "error code 502 != 200"),
        (503, b"", "error code 503 != 200"),
        (200, b"<html>please\nlog in</html>", "was not in a valid JSON format"),
        (400, b'{"error": {"code": "UserError", "message": "no"}}', "UserError"),
    ],
)
def test_an_answer_that_is_not_mlflows_is_one_line(server: str, project: Path, status, body, reason, capfd) -> None:
    with Proxy(server, lambda path, authorization: (status, body)).serving() as address:
        said = line(address)
    assert address in said
    assert said.endswith(reason) or reason in said
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("status", [401, 403, 404, 405, 501])
def test_a_lasting_answer_is_not_asked_for_again(server: str, project: Path, status: int) -> None:
    proxy = Proxy(server, lambda path, authorization: (status, b"") if "/log-batch" in path else None)
    with proxy.serving() as address:
        tracker = Tracker(address, patience=60)
        run_id = tracker.start(tracker.experiment("lasting"), "run")
        with pytest.raises(RefusedError, match=f"^run {run_id} cannot be used: .*error code {status} "):
            tracker.log_metrics(run_id, {"loss": 1.0})
    assert sum("/log-batch" in path for path in proxy.asked) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_passing_answer_is_waited_for(
    server: str, project: Path, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # by MLflow's client itself
    answers = iter([(status, b""), (status, b"")])
    proxy = Proxy(server, lambda path, authorization: next(answers, None) if "/log-batch" in path else None)
    with proxy.serving() as address:
        tracker = Tracker(address, patience=60)
        run_id = tracker.start(tracker.experiment("passing"), "run", params={"lr": 0.1})
        assert tracker.lookup.find(run_id).params == {"lr": "0.1"}
    assert sum("/log-batch" in path for path in proxy.asked) == 3
    assert f"too many {status} error responses: trying again for 60 s" in capsys.readouterr().err


def without(*places: str) -> Callable[[str, str], Answer | None]:
    """What a server answers that lacks the interfaces with these words in their paths."""
    return lambda path, authorization: (404, b"") if any(place in path for place in places) else None


def test_a_server_without_logged_models_keeps_a_version_with_its_run(
    server: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "experiments/small.toml").rename(project / "experiments/older.toml")
    with Proxy(server, without("/logged-models")).serving() as address:
        found = run(capsys, "older", "--tracking-uri", address)
        assert found["stages"][0]["trained"] == 4
        tracker = Tracker(address)
        (version,) = tracker.model(found["experiment"]).versions()
        winner = found["stages"][0]["winner"]["run_id"]
        assert version.run_id == winner
        stages = {"name": found["experiment"], "grid": found["stages"][0]}
        check_champion(project, stages, environment(project) | {"MLFLOW_TRACKING_URI": address}, tracker)
        assert main(["doctor", "older", "--tracking-uri", address]) == 0


@pytest.mark.parametrize("lacking", [("/registered-models", "/model-versions"), ("/model-versions/create",)])
def test_a_server_without_a_registry_loses_nothing_else(
    server: str, project: Path, capsys: pytest.CaptureFixture[str], lacking: tuple[str, ...]
) -> None:
    name = f"lacking-{len(lacking)}"
    (project / "experiments/small.toml").rename(project / f"experiments/{name}.toml")
    proxy = Proxy(server, without(*lacking))
    with proxy.serving() as address:
        result = run(capsys, name, "--tracking-uri", address)
        (stage,) = result["stages"]
        assert Tracker(address).lookup.find(stage["run_id"]).status == "FINISHED"
        assert result["said"].count("the winner of grid is not registered") == 1
        assert "trying again" not in result["said"]
        assert run(capsys, name, "--tracking-uri", address)["stages"][0]["trained"] == 0
        missed = "/registered-models" not in lacking  # there is a model, of which the winner is no version
        assert main(["doctor", name, "--tracking-uri", address]) == int(missed)
        assert ("the winner of grid, is no version of model" in capsys.readouterr().out) == missed
        assert main(["doctor", name, "--tracking-uri", address, "--register", "none"]) == 0
        capsys.readouterr()
    assert sum(any(place in path for place in lacking) for path in proxy.asked) <= 3


def test_a_server_without_tags_of_experiments_loses_nothing_else(
    server: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "experiments/small.toml").rename(project / "experiments/untagged.toml")
    with Proxy(server, without("/set-experiment-tag")).serving() as address:
        result = run(capsys, "untagged", "--tracking-uri", address, "--register", "none")
        assert Tracker(address).lookup.find(result["stages"][0]["run_id"]).status == "FINISHED"
    assert result["said"].count("MLflow's page has no views of grid") == 1


def test_a_server_that_lets_nobody_set_the_champion_keeps_the_version(
    server: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "experiments/small.toml").rename(project / "experiments/uncrowned.toml")
    with Proxy(server, without("/registered-models/alias")).serving() as address:
        result = run(capsys, "uncrowned", "--tracking-uri", address)
        (version,) = Tracker(address).model(result["experiment"]).versions()
    assert version.run_id == result["stages"][0]["winner"]["run_id"]
    assert result["said"].count(f"no champion of model {result['experiment']} is set") == 1
    assert "is not registered" not in result["said"]


def run(capsys: pytest.CaptureFixture[str], name: str, *options: str) -> dict[str, Any]:
    """What a sweep of the grid tells, and what it said beside."""
    assert main(["run", name, "--stage", "grid", "--json", "--quiet", *options]) == 0
    out, err = capsys.readouterr()
    return json.loads(out) | {"said": err}
