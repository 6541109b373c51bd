"""python -m sweep verify: train a trial again, alone, and compare."""

from __future__ import annotations

import argparse

from core.arguments import FLAGS, OF_RUN, add_flags

TYPE_CHECKING = False  # see core.arguments
if TYPE_CHECKING:
    from sweep.doctor.verify import Verification

_AS_TRAINED = "default: the one it was trained with"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare its flags."""
    parser.add_argument("run", metavar="RUN", help=FLAGS["run-id"]["help"])
    add_flags(parser, "backend", "precision", help=_AS_TRAINED)
    add_flags(parser, "data", help=OF_RUN)
    add_flags(parser, "data-dir", "threads", "tracking-uri")


def execute(options: argparse.Namespace) -> int:
    """Train a trial again, alone; 1 if it is not what its run has recorded."""
    from core.backends import registry as backends
    from core.machine import threads
    from core.tracking.datasets import data_of
    from core.tracking.tracker import Tracker
    from sweep.doctor.verify import settings_of, verify

    threads.use(options.threads)
    tracker = Tracker(options.tracking_uri)
    run = tracker.lookup.find(options.run)
    settings_of(tracker, run)  # what cannot be trained again is told before data is read
    then = {name: run.tags[name] for name in ("backend", "precision", "code")}
    backend = backends.load(options.backend or then["backend"], options.precision or then["precision"])
    found = verify(tracker, run, backend, data_of(run, options.data, options.data_dir))
    print(f"{run.name}: trained again alone, with backend {backend.name}")
    _print_comparison(found)
    if found.equal:
        return 0
    print(f"not equal: it was trained with backend {then['backend']}, code {then['code'][:12]}")
    return 1


def _print_comparison(found: Verification) -> None:
    print("epoch  recorded     again")
    for epoch, (recorded, again) in enumerate(found.accuracies, start=1):
        print(f"{epoch:5}  {recorded:8.6f}  {again:8.6f}  {'' if recorded == again else 'differs'}".rstrip())
    if found.equal:
        print(f"equal, bit for bit: every metric of {found.epochs[1]} epochs, and {found.arrays} arrays of the model")
    for name, difference in found.differences.items():
        print(f"{name} differs, by up to {difference:.3g}")
