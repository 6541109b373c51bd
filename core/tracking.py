"""Runs in MLflow: the only importer of mlflow."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.errors import InputError
from core.project import root


@dataclass(frozen=True)
class DatasetInfo:
    name: str
    source: str
    sha256: str


@dataclass(frozen=True)
class RunInfo:
    run_id: str
    name: str
    status: str
    experiment: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    artifact_uri: str


class Tracker:
    def __init__(self, uri: str | None = None) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import logging
        logging.getLogger("alembic").setLevel(logging.ERROR)
        import mlflow
        self.mlflow = mlflow
        self.client = mlflow.MlflowClient(uri or f"sqlite:///{root() / 'mlflow.db'}")

    def experiment(self, name, description="", tags={}):
        e = self.client.get_experiment_by_name(name)
        if e: return e.experiment_id
        return self.client.create_experiment(name, artifact_location=(root() / "mlruns" / name).as_uri(), tags=dict(tags))

    def start(self, experiment_id, name, *, parent=None, params={}, tags={}, dataset=None):
        from mlflow.entities import Param, Dataset, DatasetInput, InputTag
        tags = dict(tags) | ({"mlflow.parentRunId": parent} if parent else {})
        run = self.client.create_run(experiment_id, run_name=name, tags=tags)
        self.client.log_batch(run.info.run_id, params=[Param(k, str(v)) for k, v in params.items()])
        return run.info.run_id

    def reopen(self, run_id):
        self.client.update_run(run_id, status="RUNNING")

    def log_epoch(self, run_id, epoch, metrics):
        from mlflow.entities import Metric
        now = int(time.time() * 1000)
        self.client.log_batch(run_id, metrics=[Metric(k, v, now, epoch) for k, v in metrics.items()])

    def log_metrics(self, run_id, metrics):
        self.log_epoch(run_id, 0, metrics)

    def set_tags(self, run_id, tags):
        for k, v in tags.items():
            self.client.set_tag(run_id, k, v)

    def log_files(self, run_id, folder):
        self.client.log_artifacts(run_id, str(folder))

    def log_text(self, run_id, text, name):
        self.client.log_text(run_id, text, name)

    def finish(self, run_id, status):
        self.client.set_terminated(run_id, status)

    def runs(self, experiment_id, **tags):
        f = " and ".join(f"tags.`{k}` = '{v}'" for k, v in tags.items())
        return [RunInfo(r.info.run_id, r.info.run_name, r.info.status, "", r.data.tags, r.data.params, r.data.metrics, r.info.artifact_uri)
                for r in self.client.search_runs([experiment_id], f, max_results=1000)]
