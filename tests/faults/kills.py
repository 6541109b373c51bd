"""Kills and signals at random moments, also while the next start puts in order what the last kill left."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

from tests.faults import checks, project
from tests.faults.checks import Undisturbed


def fault(folder: Path, undisturbed: Undisturbed, rng: random.Random) -> tuple[int, int]:
    """Kill a sweep one to four times, and let it end. Returns how many kills there were, and the epochs they cost."""
    trained, kills = 0, rng.randint(1, 4)
    pruned = "pruner" in (folder / "experiments/some.toml").read_text()  # by what other groups have reached by then
    for _ in range(kills):
        processes = ("--processes", "2") if rng.random() < 0.1 and not pruned else ()
        command = project.Command(folder, [*project.RUN, *processes])
        number = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        deadline = time.monotonic() + rng.uniform(0.0, undisturbed.seconds * (4 if processes else 1))
        while time.monotonic() < deadline and not command.ended():
            time.sleep(0.001)
        command.kill(number)
        if rng.random() < 0.3:  # a second one stops at once
            time.sleep(rng.uniform(0, 0.02))
            command.kill(number)
        status = command.wait()
        checks.quiet(command)
        checks.require(status in (0, -number, 128 + number), "exit status", status, command.errors)
        trained += checks.epochs(command)
    return kills, trained + checks.finished(folder, undisturbed) - undisturbed.epochs
