"""The names of all tags and metrics of runs, experiments and registered models. They are stored: none changes."""

from __future__ import annotations

PARENT = "mlflow.parentRunId"  # below which run MLflow's page shows this one
TOKEN = "token"  # tells a run from any other before its id is known
OWNER = "owner"  # of the project folder that a run is from
