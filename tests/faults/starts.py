"""Four starts at once: one trains, the others say who does; reading is always possible."""

from __future__ import annotations

import random
from pathlib import Path

from tests.faults import checks, project
from tests.faults.checks import Undisturbed


def fault(folder: Path, undisturbed: Undisturbed, rng: random.Random) -> tuple[int, int]:
    """Start four sweeps, and readers beside them."""
    sweeps = [project.Command(folder, project.RUN) for _ in range(4)]
    readers = [project.Command(folder, arguments) for arguments in (["plan", "some", "--json"], ["doctor", "some"])]
    trained = 0
    for command in sweeps:
        status = command.wait()
        checks.quiet(command)
        checks.require(status in (0, 2), "exit status", status, command.errors)
        if status == 2:
            checks.require(" is held by " in command.errors, "refused without a reason:", command.errors)
        trained += checks.epochs(command)
    for command in readers:
        command.wait()
        checks.quiet(command)
    checks.require(any(command.status == 0 for command in sweeps), "none of four trained")
    return 1, trained + checks.finished(folder, undisturbed) - undisturbed.epochs
