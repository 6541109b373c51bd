"""What MLflow stores, as values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetInfo:
    """What a run was trained on."""

    name: str
    source: str
    sha256: str


@dataclass(frozen=True)
class RunInfo:
    """A run as plain data.

    logged  when it got each of its metrics last: milliseconds since 1970
    """

    run_id: str
    name: str
    status: str
    experiment: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    logged: dict[str, int]
    artifact_uri: str
    experiment_id: str


@dataclass(frozen=True)
class ExperimentInfo:
    """An experiment as plain data.

    location  where it keeps the artifacts of its runs: an address
    """

    experiment_id: str
    name: str
    tags: dict[str, str]
    location: str
    deleted: bool


Steps = Iterable[tuple[int, float, Mapping[str, float]]]  # step, time (seconds since 1970), and values by name
