"""How the settings of a stage are chosen: the table of samplers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sampler:
    """What a stage needs to know of a sampler; sweep.search.samplers.MAKERS has how Optuna's is made.

    noun         what its settings are called
    adaptive     whether what it proposes depends on what came out
    ranges_only  whether it searches two or more unconditional ranges and nothing else
    """

    noun: str
    adaptive: bool = False
    ranges_only: bool = False


SAMPLERS: dict[str, Sampler] = {
    "grid": Sampler("combinations"),
    "random": Sampler("draws"),
    "qmc": Sampler("draws"),
    "tpe": Sampler("proposals", adaptive=True),
    "cmaes": Sampler("proposals", adaptive=True, ranges_only=True),
}
