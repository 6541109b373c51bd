"""The views of a sweep on MLflow's page: what they show, by which order, and how a link reaches them."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from core.config.settings import Settings
from core.tracking.entities import RunInfo
from core.tracking.tracker import Tracker
from sweep.__main__ import main
from sweep.commands import mlflow_page
from sweep.records import views
from tests.conftest import Stages

KEPT = "mlflow.sharedViewState."


def experiment() -> tuple[str, dict[str, str]]:
    """The id of the only one, and its tags."""
    (found,) = (found for found in Tracker().lookup.experiments() if found.name != "Default")
    return found.experiment_id, found.tags


def state(value: str) -> dict[str, Any]:
    """What a view holds, as the page reads it."""
    packed = json.loads(value)["state"].removeprefix("deflate;")
    found: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return found


def seen(view: dict[str, Any]) -> list[RunInfo]:
    """The runs that MLflow finds for a view, in its order."""
    order = f"{view['orderByKey']} {'ASC' if view['orderByAsc'] else 'DESC'}"
    tracker, (found, _) = Tracker(), experiment()
    pages = tracker.store.client.search_runs([found], view["searchFilter"], order_by=[order])
    return [tracker.lookup.plain(run) for run in pages]


def test_a_view_has_a_stages_trials_in_our_order(swept: Stages) -> None:
    _, tags = experiment()
    assert list(views.titles(tags).values()) == ["stages", "grid: trials, best first", "dropout: trials, best first"]
    for name, stage in swept.items():
        view = state(tags[KEPT + views.key(name, stage["run_id"])])
        ranked = [row["run_id"] for row in stage["trials"]]
        assert [run.run_id for run in seen(view)] == ranked
        searched = {"grid": {"lr", "filters"}, "dropout": {"dropout"}}[name]
        assert {f"params.`{key}`" for key in searched} | {"metrics.`best_val_accuracy`"} < {*view["selectedColumns"]}
        assert {*view["selectedColumns"]} < {*view["columnOrder"]}
    assert [run.tags["stage"] for run in seen(state(tags[KEPT + "stages"]))] == ["grid", "dropout"]


def test_ranks_follow_what_is_trained_later_and_a_trial_that_was_broken_off_is_not_shown(
    project: Path, swept: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project / "experiments/small.toml"
    path.write_text(path.read_text().replace("lr = [0.01, 0.1]", "lr = [0.01, 0.1, 0.05]"))
    tracker, (found, _) = Tracker(), experiment()
    other = tracker.lookup.find(swept["grid"]["trials"][1]["run_id"])
    same = {name: other.tags[name] for name in ("kind", "stage", "owner", "key", "mlflow.parentRunId")}
    lost = tracker.start(found, "broken off", tags=same)
    tracker.log_metrics(lost, {"rank": 2.0})
    tracker.finish(lost, "KILLED")
    assert main(["run", "small", "--stage", "grid", "--json", "--quiet"]) == 0
    (grid,) = json.loads(capsys.readouterr().out)["stages"]
    assert len(grid["trials"]) == 6
    assert tracker.lookup.find(lost).tags["ranked"] == "false"
    _, tags = experiment()
    runs = seen(state(tags[KEPT + views.key("grid", grid["run_id"])]))
    assert [(run.run_id, run.metrics["rank"]) for run in runs] == [
        (row["run_id"], float(row["rank"])) for row in grid["trials"]
    ]


def test_a_stages_counts_are_no_metrics_of_which_the_page_makes_charts(swept: Stages) -> None:
    run = Tracker().lookup.find(swept["grid"]["run_id"])
    assert (run.tags["trials_finished"], run.tags["trials_failed"]) == ("4", "0")
    assert not [name for name in run.metrics if name.startswith("trials")]


def test_what_an_earlier_version_left_gets_its_views_from_the_same_command(swept: Stages) -> None:
    found, before = experiment()
    for name in before:
        if name.startswith(KEPT):
            Tracker().store.client.delete_experiment_tag(found, name)
    assert main(["run", "small", "--quiet"]) == 0
    _, after = experiment()
    assert views.titles(after) == views.titles(before)


def test_the_widest_view_fits_into_a_tag() -> None:
    (value,) = views.of_trials("s" * 1000, "0" * 32, [field.name for field in fields(Settings)]).values()
    assert len(value) <= 5000


def test_a_link_names_its_view_as_an_address_may() -> None:
    assert views.link("http://host:1/", "3", "été/1-0123") == (
        "http://host:1/#/experiments/3/runs?workflowType=machine_learning&viewStateShareKey=%C3%A9t%C3%A9%2F1-0123"
    )
    assert views.link("http://host", "3", "grid", charts=True).endswith("=grid&compareRunsMode=CHART")


def test_a_tag_of_another_form_is_no_view() -> None:
    assert views.titles({KEPT + "one": "not JSON", KEPT + "two": "[1]", "three": "{}", KEPT + "four": "{}"}) == {}


def test_names_that_others_gave_do_not_steer_the_terminal(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = Tracker()
    experiment_id = tracker.experiment("red\x1b[31m")
    tracker.tag_experiment(experiment_id, {KEPT + "k": json.dumps({"name": "gone\x1b[2J", "createdAt": 1})})
    mlflow_page._print_links("http://host", tracker, "")
    told = capsys.readouterr().err
    assert "red\\x1b[31m" in told
    assert "gone\\x1b[2J" in told
    assert "\x1b" not in told
