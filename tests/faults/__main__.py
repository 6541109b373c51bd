"""python -m tests.faults: harm sweeps in every way, count what survives, and keep what does not."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.faults import calls, checks, flips, full, kills, project, starts
from tests.faults.checks import Undisturbed

EVERY = 0
COUNTS = {"kills": 90, "flips": 500, "full": 50, "disk": 20, "calls": EVERY, "starts": 50}  # of kills, one to four each
SHORT = {"kills": 3, "flips": 6, "full": 3, "disk": 1, "calls": 20, "starts": 1}
KINDS = ("grid", "apart", "pruned", "digits")
UNPRUNED = ("apart", "short", "grid", "short", "digits")  # what is trained again alone may be pruned at another epoch


@dataclass(frozen=True)
class Case:
    """One fault: its part, number, and the kind of project that it harms."""

    part: str
    number: int
    kind: str
    nth: int = 0

    def __str__(self) -> str:
        return f"{self.part} {self.number}"


def main() -> int:
    """Run the parts asked for; the last line is the tally."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--part", choices=COUNTS, action="append", help="default: all")
    parser.add_argument("--short", action="store_true", help="a sample, in under two minutes")
    parser.add_argument("--count", type=int, help="faults of each part; calls: of a longer sweep, spread evenly")
    parser.add_argument("--only", type=int, metavar="N", help="the fault of this number alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    library = os.environ.get(calls.LIBRARY)
    folder = Path(library).parent if library else Path(tempfile.mkdtemp(prefix="faults-"))
    compiled = calls.load_library(folder)
    started = time.monotonic()
    project.load()
    project.make_store(folder / "templates")
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("fork")) as pool:
        kinds = dict.fromkeys((*KINDS, "short"))
        undisturbed = dict(zip(kinds, pool.map(partial(_undisturbed, folder), kinds), strict=True))
        cases, skipped = _cases(options, folder, compiled)
        results = []
        for result in pool.map(partial(_try, folder, undisturbed, options.seed), cases):
            results.append(result)
            if len(results) % 50 == 0:
                print(f"{len(results)} of {len(cases)} done, {_tally(results)}", file=sys.stderr)
    broken = any(broken for _, _, broken in results)
    shutil.rmtree(folder / "templates" if broken else folder)
    print(f"in {time.monotonic() - started:.0f} s{', ' if skipped else ''}{', '.join(skipped)}")
    print(f"faults {_tally(results)}")
    return 1 if broken else 0


def _tally(results: list[tuple[int, int, bool]]) -> str:
    tried, lost = sum(tried for tried, _, _ in results), sum(epochs for _, epochs, _ in results)
    return f"tried {tried}, survived {sum(tried for tried, _, broken in results if not broken)}, epochs lost {lost}"


def _undisturbed(folder: Path, kind: str) -> Undisturbed:
    template = folder / "templates" / kind
    project.make(template, kind)
    copy = project.copy(template, folder / f"undisturbed-{kind}")
    started = time.monotonic()
    command = project.run(copy, *project.RUN)
    seconds = time.monotonic() - started
    checks.require(command.status == 0, command.errors)
    found = Undisturbed(checks.stages(command), checks.weights(copy), checks.epochs(command), seconds)
    checks.records(copy, found)
    shutil.rmtree(copy)
    return found


def _cases(options: argparse.Namespace, folder: Path, compiled: bool) -> tuple[list[Case], list[str]]:
    cases, skipped = [], []
    for part in options.part or COUNTS:
        count = options.count or (SHORT if options.short else COUNTS)[part]
        if part == "disk" and not full.can_mount():
            skipped.append(f"{count} faults of a small disk skipped: this user may not mount one")
        elif part == "calls" and not compiled:
            skipped.append(f"{count or 'all'} faults of calls skipped: there is no C compiler")
        elif part == "calls":
            kind = "short" if options.short or count == EVERY else "grid"
            total = calls.count(project.copy(folder / "templates" / kind, folder / "counted"))
            shutil.rmtree(folder / "counted")
            count = count or total
            chosen = sorted({1 + n * total // count for n in range(count)})
            cases += [Case(part, number, kind, nth) for number, nth in enumerate(chosen)]
        else:
            kinds = UNPRUNED if part == "flips" else KINDS
            cases += [Case(part, number, kinds[number % len(kinds)]) for number in range(count)]
    return [case for case in cases if options.only in (None, case.number)], skipped


def _try(folder: Path, undisturbed: dict[str, Undisturbed], seed: int, case: Case) -> tuple[int, int, bool]:
    """How many faults were tried, how many epochs they cost, and whether something is broken now."""
    rng = random.Random(f"{seed} {case}")
    place = project.copy(folder / "templates" / case.kind, folder / str(case).replace(" ", "-"))
    parts: dict[str, Callable[..., tuple[int, int]]] = {
        "kills": kills.fault,
        "flips": flips.fault,
        "full": full.fault,
        "disk": full.small_disk,
        "calls": partial(calls.fault, nth=case.nth),
        "starts": starts.fault,
    }
    try:
        tried, lost = parts[case.part](place, undisturbed[case.kind], rng)
    except Exception as error:
        reason = str(error) if isinstance(error, checks.BrokenError) else traceback.format_exc()
        again = f"python -m tests.faults --seed {seed} --part {case.part} --only {case.number}"
        print(f"BROKEN {case} ({case.kind}; {again}; {place}): {reason}", flush=True)
        return 1, 0, True
    shutil.rmtree(place)
    return tried, max(lost, 0), False  # one that broke off in its record was not said to be trained


if __name__ == "__main__":
    sys.exit(main())
