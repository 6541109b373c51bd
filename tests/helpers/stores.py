"""MLflow, made quick for many stores in one process or in its forks."""

from __future__ import annotations

from functools import cache
from importlib import import_module


def get_ready() -> None:
    """Find out once what schema a database must have and which packages there are.

    MLflow would read all its migrations for each database, and in each process list what is installed.
    """
    import_module("core.tracking")  # which sets what MLflow reads when it is imported
    database = import_module("mlflow.store.db.utils")
    database._get_latest_schema_revision = cache(database._get_latest_schema_revision)
    database._get_latest_schema_revision()
    import_module("mlflow.utils.requirements_utils").warn_dependency_requirement_mismatches(["mlflow"])
