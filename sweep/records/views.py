"""Views of an experiment's runs on MLflow's page: each is kept in a tag of the experiment, and a link opens it.

Without one the list of runs shows neither accuracies nor settings. The form is that of MLflow 3.17's page.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from core.tracking import tags

_CURVES = ("val_accuracy", "val_loss", "train_accuracy", "train_loss")
_WIDE = {
    "attributes.`Run Name`": 230,
    f"metrics.`{tags.RANK}`": 60,
    f"metrics.`{tags.BEST_VAL_ACCURACY}`": 150,
}
_RESULTS = (tags.RANK, tags.BEST_VAL_ACCURACY, tags.BEST_VAL_LOSS, tags.BEST_EPOCH)
_OF_STAGES = (tags.WINNER_NAME, tags.SAMPLER, f"{tags.ENDED}finished", f"{tags.ENDED}failed")
STAGES = "stages"  # the key of the view of all stages


def key(stage: str, run_id: str) -> str:
    """What the view of the trials below a stage's run is called in links. Stores may be shared: it is the run's own."""
    return f"{stage[:100]}-{run_id[:8]}"


def of_trials(stage: str, run_id: str, searched: Sequence[str]) -> dict[str, str]:
    """The tag for the trials below a stage's run, best first: what was searched and what came out; charts of curves."""
    metrics = [f"metrics.`{name}`" for name in _RESULTS]
    params = [f"params.`{name}`" for name in searched]
    return _tag(
        key(stage, run_id),
        f"{stage}: trials, best first",
        {
            "searchFilter": f"tags.`{tags.PARENT}` = '{run_id}' and tags.{tags.RANKED} = 'true'",
            "orderByKey": f"metrics.`{tags.RANK}`",
            "orderByAsc": True,
            "selectedColumns": [*metrics, *params],
            "columnOrder": ["attributes.`Run Name`", *metrics[:2], *params, *metrics[2:]],
            "columnWidths": _WIDE,
            "compareRunCharts": [_line(metric) for metric in _CURVES],
            "compareRunSections": [  # isReordered: charts of other metrics come after these
                {"uuid": "curves", "name": "Model metrics", "display": True, "isReordered": True}
            ],
        },
    )


def of_stages() -> dict[str, str]:
    """The tag for the stages, with their winners."""
    shown = [f"tags.`{name}`" for name in _OF_STAGES]
    columns = [f"metrics.`{tags.BEST_VAL_ACCURACY}`", *shown]
    return _tag(
        STAGES,
        "stages",
        {
            "searchFilter": f"tags.{tags.KIND} = '{tags.STAGE}'",
            "orderByKey": "attributes.start_time",
            "orderByAsc": True,
            "selectedColumns": columns,
            "columnOrder": ["attributes.`Run Name`", *columns],
            "columnWidths": _WIDE | {"attributes.`Run Name`": 400, shown[0]: 250},
        },
    )


def _line(metric: str) -> dict[str, Any]:
    """A chart of a metric by epoch, a line for each run."""
    chart = {"type": "LINE", "uuid": metric, "metricSectionId": "curves", "metricKey": metric, "displayName": metric}
    axes = {"xAxisKey": "step", "xAxisScaleType": "linear", "scaleType": "linear", "yAxisKey": "metric", "range": {}}
    rest = {"lineSmoothness": 0, "yAxisExpressions": [], "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True}
    return chart | axes | rest | {"isGenerated": True, "deleted": False, "runsCountToCompare": 10}


def _tag(name: str, title: str, state: Mapping[str, Any]) -> dict[str, str]:
    packed = zlib.compress(json.dumps(state, separators=(",", ":")).encode(), 9)  # MLflow keeps 5,000 characters
    now = round(time.time() * 1000)
    view = {"name": title, "createdAt": now, "updatedAt": now, "state": f"deflate;{base64.b64encode(packed).decode()}"}
    return {f"{tags.VIEW}{name}": json.dumps(view)}


def titles(told: Mapping[str, str]) -> dict[str, str]:
    """The views that an experiment with these tags has, by key: what they are called on the page; that of the stages
    comes first, the others as they were made.
    """
    found: list[tuple[bool, float, str, str]] = []
    for name, value in told.items():
        if name.startswith(tags.VIEW):
            with suppress(ValueError, TypeError, KeyError):  # of the page's own, in a form that has no name
                view, called = json.loads(value), name.removeprefix(tags.VIEW)
                found.append((called != STAGES, float(view["createdAt"]), called, str(view["name"])))
    return {called: title for _, _, called, title in sorted(found)}


def link(page: str, experiment_id: str, view: str, charts: bool = False) -> str:
    """The address of a view, of the page at this address.

    It names no filter and no order itself: those beside the key of a view would keep the view from being read.
    """
    mode = "&compareRunsMode=CHART" if charts else ""
    place = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    return f"{page.rstrip('/')}/{place}&viewStateShareKey={quote(view, safe='')}{mode}"
