"""python -m core.figures: the pictures of a run, of a model's file, or of initialisations."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from core.arguments import add_flags, exit_status, threads_given
from core.backends import registry as backends
from core.config.settings import check_setting
from core.data import dataset
from core.data import registry as datasets
from core.data.images import Images
from core.errors import InputError, reason
from core.export import model_npz
from core.figures import model, runs
from core.figures.activations import init_study
from core.figures.style import SUFFIXES, Picture, content, rendered
from core.machine import threads
from core.network import init_study as numbers
from core.project import expand
from core.tracking import tags
from core.tracking.datasets import data_of
from core.training.batches import shuffled_batches

LARGEST = 10_000  # depth, width and number of images
FORMATS = ("png", "svg")


class _Parser(argparse.ArgumentParser):
    """One whose complaints are one line, as those of all that comes after it."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; `{self.prog} --help` tells more")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    shared = _Parser(add_help=False)
    add_flags(shared, "data", "data-dir")
    add_flags(shared, "threads", default=threads_given())

    top = _Parser(
        prog="python -m core.figures",
        parents=[shared],
        description="Draw a trained model, a stage of a search, or (init-study) how initialisations differ.",
        epilog="exit status: 0 done, 1 failed, 2 wrong use or input, 130 interrupted",
    )
    what = top.add_mutually_exclusive_group()
    add_flags(what, "run-id", help="a run in MLflow, a trial's or a stage's, or the first digits")
    add_flags(what, "model")
    top.add_argument(
        "--image",
        default="0",
        metavar="N",
        help="whose maps are drawn: the number of a validation (of --model: test) "
        "image, from 0, or a picture's file (default: 0)",
    )
    add_flags(top, "out", help="where to write (default: a folder of its own in figures/)")
    top.add_argument("--format", choices=[*FORMATS, "both"], default="both", help="default: %(default)s")
    add_flags(top, "tracking-uri")

    commands = top.add_subparsers(dest="command", metavar="init-study", parser_class=_Parser)
    study = commands.add_parser(
        "init-study", parents=[shared], help="spread of activations, layer by layer, under each initialisation"
    )
    _add_study(study)
    return top


def _add_study(study: argparse.ArgumentParser) -> None:
    """The flags of init-study alone."""
    study.add_argument("--depth", type=int, default=8, help="convolutions (default: %(default)s)")
    study.add_argument("--width", type=int, default=32, help="filters of each (default: 32)")
    study.add_argument("--images", type=int, default=128, help="pushed through, if there are so many (default: 128)")
    study.add_argument("--seed", type=int, default=0, help="of the weights and the choice of images (default: 0)")
    study.add_argument(
        "--out", default="figures/init-study.png", metavar="FILE", help="a .png or .svg (default: %(default)s)"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""

    def command() -> int:
        options = parser().parse_args(arguments)
        threads.use(options.threads)
        if options.command:
            return _init_study(options)
        if options.run_id:
            return _draw_run(options)
        if options.model:
            return _draw_file(options)
        raise InputError("nothing to draw: give --run-id ID, --model FILE.npz, or init-study")

    return exit_status(command)


def _draw_run(options: argparse.Namespace) -> int:
    from core.tracking.tracker import Tracker

    tracker = Tracker(options.tracking_uri)
    run = tracker.lookup.find(options.run_id)
    if run.tags.get(tags.KIND) == tags.STAGE:
        found = runs.of_stage(tracker, run)
    else:
        trained_on = data_of(run, options.data, options.data_dir)
        found = runs.of_trial(tracker, run, backends.load(), trained_on, options.image)
    return _write_all(found, options, f"{run.name.partition(' ')[0]}-{run.run_id[:8]}")


def _draw_file(options: argparse.Namespace) -> int:
    arrays = model_npz.load_model(options.model)
    found = datasets.load(options.data, options.data_dir)
    print(f"{datasets.describe(found)}; {dataset.scaling_note(options.model, found)}", file=sys.stderr)
    if found.x_test is None or found.y_test is None:
        x, y, kind = found.x, found.y, "image"
    else:
        x, y, kind = found.x_test, found.y_test, "test image"
    backend = backends.load()
    seen = Images.on_device(backend, x, y, found.scale)
    shown = model.select_image(options.image, seen, kind, backend, found.pixels)
    drawn = model.pictures(backend, arrays, seen, found.classes, shown, found.pixels, of=f"{kind}s of {found.name}")
    return _write_all(drawn, options, options.model.stem)


def _write_all(found: Mapping[str, Picture], options: argparse.Namespace, name: str) -> int:
    """Write the pictures; 1 if some of them cannot be drawn."""
    folder = expand(options.out or f"figures/{name}")
    kinds, written = FORMATS if options.format == "both" else (options.format,), 0
    for file, drawn in rendered(found, *kinds):
        _write(drawn, folder / file)
        print(folder / file)
        written += 1
    sys.stdout.flush()  # a reader that has left is noticed here, not when Python ends
    return 0 if written == len(found) * len(kinds) else 1


def _init_study(options: argparse.Namespace) -> int:
    for name in ("depth", "width", "images"):
        if not 1 <= (value := getattr(options, name)) <= LARGEST:
            raise InputError(f"--{name} is {value}: it must be a whole number from 1 to {LARGEST}")
    check_setting("seed", options.seed)
    path = expand(options.out)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"--out is {path}: it must end in {' or '.join(SUFFIXES)}")
    found = datasets.load(options.data, options.data_dir)
    print(datasets.describe(found), file=sys.stderr)
    backend = backends.load()
    images = Images.on_device(backend, found.x, found.y, found.scale)
    x, _ = images.batch(next(shuffled_batches(len(images), options.images, options.seed, 0)))
    study = numbers.init_study(backend, x, depth=options.depth, width=options.width, seed=options.seed)
    title = f"Activations by layer: {options.width} filters of 3x3 pixels, then ReLU; no batch normalisation"
    figure = init_study(study, f"{title}\n{x.shape[1]} images of {found.name}")
    _write(content(figure, path.suffix.lower().lstrip(".")), path)
    print(path)
    print("layer", *(f"{scheme:>9}" for scheme in study.schemes))
    for layer, spread in enumerate(study.std.T, start=1):
        print(f"{layer:5}", *(f"{value:9.3g}" for value in spread))
    sys.stdout.flush()
    return 0


def _write(drawn: bytes, path: Path) -> None:
    """Save, in a folder made if it is missing. Raises InputError if that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {reason(error)}") from None


if __name__ == "__main__":
    sys.exit(main())
