"""A flipped bit or a cut in any file: refused, told, or without any effect; never a number that is not right."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

from tests.faults import checks, project
from tests.faults.checks import Undisturbed

KINDS = (
    *("*/training/*.group", "*/training/*.before", "*/optuna.journal", "*/sweep.json"),
    *("*/*/artifacts/model.npz", "*/*/artifacts/history.csv", "*/*/artifacts/config.json"),
    *("*/*/artifacts/SHA256SUMS", "*/*/artifacts/summary.csv", "../mlflow.db"),
)


def fault(folder: Path, undisturbed: Undisturbed, rng: random.Random) -> tuple[int, int]:
    """Stop a sweep somewhere, damage one of its files, and let it go on; the doctor mends what it refuses."""
    kind = rng.choice(KINDS)
    command = project.Command(folder, project.RUN)
    deadline = time.monotonic() + rng.uniform(0.3, 1.2) * undisturbed.seconds
    while not command.ended() and (time.monotonic() < deadline or not list((folder / "mlruns").glob(kind))):
        time.sleep(0.001)
    command.kill(signal.SIGKILL)
    command.wait()
    found = (_files(folder, one) for one in (kind, *rng.sample(KINDS, len(KINDS))))
    path = rng.choice(next(files for files in found if files))
    content = bytearray(path.read_bytes())
    if rng.random() < 0.3:
        del content[rng.randrange(len(content)) :]
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    trained = checks.epochs(command)

    after = project.run(folder, *project.RUN)
    checks.quiet(after)
    trained += checks.epochs(after)
    if after.status == 0:
        checks.require(checks.stages(after) == undisturbed.stages, f"{path} changed the results:", after.output)
    looked = project.run(folder, "doctor", "some")
    checks.quiet(looked)
    if looked.status:
        mended = project.run(folder, "doctor", "some", "--fix")
        checks.quiet(mended)
        checks.require(mended.status == 0, "not mended:", looked.output, looked.errors, mended.output, mended.errors)
    return 1, trained + checks.finished(folder, undisturbed) - undisturbed.epochs


def _files(folder: Path, kind: str) -> list[Path]:
    """Those of this kind that are not empty; it may have ended before there was one."""
    return sorted(path for path in (folder / "mlruns").glob(kind) if path.stat().st_size)
