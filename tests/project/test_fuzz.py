"""The parsers of foreign bytes: whatever they are given, a result or one clear line, soon and with little memory.

FUZZ_EXAMPLES=100000 python -m pytest tests/project/test_fuzz.py    (make test-fuzz; without it a sample)
"""

from __future__ import annotations

import io
import os
import resource
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.data import registry as datasets
from core.data.formats import cifar10, cifar10_pickle
from core.errors import InputError
from core.export import model_npz
from sweep.experiment import file as experiments
from sweep.search import grouping, plan
from tests.conftest import EXPERIMENT, small_images

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
MEMORY = 512 * 2**10  # KiB
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=10_000,  # milliseconds
    suppress_health_check=list(HealthCheck),
    database=None,
)
NUMBERS = (0, 1, 2, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)


@pytest.fixture(autouse=True)
def little_memory() -> Any:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is written again and again: in memory where the system has a folder for that."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        return tmp_path_factory.mktemp("fuzz") / "file"
    return memory / f"fuzz-{os.getpid()}"


@pytest.fixture(scope="module", autouse=True)
def cleared(file: Path) -> Any:
    yield
    file.unlink(missing_ok=True)


def one_line(parse: Callable[[], object]) -> None:
    """It may succeed, or say in a line what is wrong; nothing else."""
    said = "nothing"
    try:
        parse()
    except InputError as error:
        said = str(error)
    assert len(said.splitlines()) == 1


PLACES = st.floats(0, 1, exclude_max=True)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), PLACES, st.integers(0, 7)),
        st.tuples(st.just("set"), PLACES, st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("insert"), PLACES, st.binary(min_size=1, max_size=16)),
        st.tuples(st.just("number"), PLACES, st.sampled_from(NUMBERS)),
        st.tuples(st.just("cut"), PLACES, PLACES),
        st.tuples(st.just("repeat"), PLACES, PLACES),
        st.tuples(st.just("end"), PLACES, st.none()),
    ),
    max_size=6,
)


def changed(content: bytes, changes: list[tuple[str, float, Any]]) -> bytes:
    """The content with these changes made one after another."""
    found = bytearray(content)
    for kind, place, value in changes:
        start = int(place * len(found))
        if not found:
            break
        match kind:
            case "flip":
                found[start] ^= 1 << value
            case "set":
                found[start : start + len(value)] = value
            case "insert":
                found[start:start] = value
            case "number":
                width = 1 if value < 2**8 else 2 if value < 2**16 else 4 if value < 2**32 else 8
                found[start : start + width] = value.to_bytes(width, "little")
            case "cut":
                del found[start : start + int(value * 64)]
            case "repeat":
                found[start:start] = found[start : start + int(value * 64)] * 3
            case "end":
                del found[start:]
    return bytes(found)


# --- CIFAR-10's pickles ---


BATCH = (  # as Python 2 wrote it: two images
    b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03(K\x01K\x02eU\x04dataq\x04cnumpy.core.multiarray\n_reconstruct\nq\x05"
    b"cnumpy\nndarray\nq\x06K\x00\x85q\x07U\x01bq\x08\x87Rq\t(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nq\nU\x02u1q\x0bK\x00K\x01"
    b"\x87Rq\x0c(K\x03U\x01|q\rNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x00\x18\x00\x00"
    + bytes(6144)
    + b"tbu."
)
PIECES = (
    *(
        b"(",
        b")",
        b"]",
        b"}",
        b"0",
        b"1",
        b"2",
        b"N",
        b"a",
        b"b",
        b"e",
        b"s",
        b"t",
        b"u",
        b"R",
        b"\x85",
        b"\x86",
        b"\x87",
    ),
    *(b"K\x05", b"M\xff\xff", b"J\xff\xff\xff\x7f", b"\x8a\x08" + b"\xff" * 8, b"G" + bytes(8), b"U\x03abc"),
    *(
        b"T\xff\xff\xff\x7f",
        b"X\x02\x00\x00\x00\xff\xfe",
        b"q\x00",
        b"h\x00",
        b"j\xff\xff\xff\x7f",
        b"r\xff\xff\xff\x7f",
    ),
    *(b"cos\nsystem\n", b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"cnumpy.core.multiarray\n_reconstruct\n"),
    *(
        b"\x93",
        b"\x95" + b"\xff" * 8,
        b"\x96" + b"\xff" * 8,
        b"B\xff\xff\xff\x7f",
        b"i",
        b"o",
        b"\x81",
        b"\x92",
        b"P0\n",
        b"Q",
    ),
)
PROGRAMS = st.lists(st.sampled_from(PIECES), max_size=40).map(lambda pieces: b"\x80\x02" + b"".join(pieces) + b".")


def test_the_batch_that_is_changed_is_a_right_one(file: Path) -> None:
    file.write_bytes(BATCH)
    x, y = cifar10._read_batch(file)
    assert (x.shape, y.tolist()) == ((2, 3, 32, 32), [1, 2])


@fuzz
@given(content=st.one_of(CHANGES.map(lambda changes: changed(BATCH[:200] + BATCH[-40:], changes)), PROGRAMS))
def test_pickles(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    one_line(lambda: cifar10._read_batch(file))
    one_line(lambda: cifar10_pickle.load(file, 158))


# --- .npz ---


def _npz(**arrays: np.ndarray) -> bytes:
    held = io.BytesIO()
    np.savez_compressed(held, **arrays)
    return held.getvalue()


IMAGES, LABELS = small_images(6, 0)
DATASET = _npz(x=IMAGES, y=LABELS, classes=np.array(["a", "b", "c"]))
KINDS = (
    "|u1",
    "<f4",
    ">f8",
    "<i8",
    "<u8",
    "|O",
    "|b1",
    "<U3",
    "|S2",
    "|V0",
    "<U0",
    "<M8[s]",
    "<c16",
    "nonsense",
    "('<f4',(3,))",
)
SHAPES = st.lists(st.one_of(st.integers(-3, 7), st.sampled_from([2**31, 2**62, 2**64, -(2**63)])), max_size=5).map(
    lambda sizes: f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"
)
HEADERS = st.builds(
    lambda kind, order, shape: f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}}}",
    st.sampled_from(KINDS),
    st.sampled_from(["True", "False", "None", "[]", "__import__('os')"]),
    SHAPES,
)
NAMES = ("x", "y", "x_test", "y_test", "classes", "w1", "b1", "gamma1", "wl", "bl", "../x", "x.npy", "pool", "")
MEMBERS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.one_of(HEADERS, st.text(max_size=40)),
        st.integers(0, 200),
        st.sampled_from([1, 2, 3, 9]),
        st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]),
    ),
    max_size=5,
)


def archive(members: list[tuple[str, str, int, int, int]]) -> bytes:
    """A zip file that is whole, of .npy members with these headers and so many zeros."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as target:
        for name, header, size, version, method in {member[0]: member for member in members}.values():
            text = header.encode("utf-8", "replace")
            length = struct.pack("<H" if version == 1 else "<I", len(text))
            content = b"\x93NUMPY" + bytes([version, 0]) + length + text + bytes(size)
            target.writestr(f"{name}.npy", content, method)
    return held.getvalue()


@fuzz
@given(content=st.one_of(CHANGES.map(lambda changes: changed(DATASET, changes)), MEMBERS.map(archive)))
def test_npz(file: Path, content: bytes) -> None:
    path = file.with_suffix(".npz")
    path.write_bytes(content)
    try:
        one_line(lambda: datasets.load(str(path)))
        one_line(lambda: model_npz.load_model(path))
    finally:
        path.unlink()


# --- experiment files ---

VALUES = (
    *(
        "0",
        "-1",
        "1",
        "0.5",
        "1e308",
        "-1e308",
        "1e-320",
        "nan",
        "inf",
        "-inf",
        "true",
        '""',
        '"a"',
        "[]",
        "[[]]",
        "{}",
    ),
    *("9223372036854775807", "-9223372036854775808", "1" + "0" * 400, '"1x1"', '"' + "1x" * 40 + '1"', '"99999999999"'),
    *(
        '"../../x"',
        '"\\u0000"',
        '"{0.__class__}"',
        '"%s%n"',
        "1979-05-27",
        "07:32:00",
        "[1, 'a']",
        "{ low = 0, high = 1 }",
    ),
    *("{ low = 1e-9, high = 1e9, log = true }", "{ low = 1, high = 1000000000, step = 1 }", "{ choices = [1] }"),
    *(
        f"[{', '.join(map(str, range(1, 400)))}]",
        "[" * 60 + "]" * 60,
        '"grid"',
        '"random"',
        '"qmc"',
        '"tpe"',
        '"cmaes"',
    ),
)
KEYS = (
    *(
        "seed",
        "data",
        "settings",
        "stages",
        "sampler",
        "space",
        "trials",
        "seeds",
        "budget",
        "pruner",
        "points",
        "after",
    ),
    *(
        "lr",
        "reg",
        "filters",
        "dropout",
        "epochs",
        "batch_size",
        "optimiser",
        "schedule",
        "pool",
        "residual",
        "when",
        "x",
    ),
)
EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("value"), PLACES, st.sampled_from(VALUES)),
        st.tuples(st.just("key"), PLACES, st.sampled_from(KEYS)),
        st.tuples(st.just("add"), PLACES, st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES))),
        st.tuples(st.just("remove"), PLACES, st.none()),
        st.tuples(st.just("swap"), PLACES, PLACES),
        st.tuples(st.just("text"), PLACES, st.text(max_size=5)),
    ),
    max_size=5,
)


def edited(text: str, edits: list[tuple[str, float, Any]]) -> str:
    """The file with these edits made one after another, line by line."""
    lines = text.splitlines()
    for kind, place, value in edits:
        number = int(place * len(lines))
        key, equals, _ = lines[number].partition(" = ")
        match kind:
            case "value" if equals:
                lines[number] = f"{key} = {value}"
            case "key" if equals:
                lines[number] = lines[number].replace(key, value, 1)
            case "add":
                lines.insert(number, " = ".join(value))
            case "remove" if len(lines) > 1:
                del lines[number]
            case "swap":
                other = int(value * len(lines))
                lines[number], lines[other] = lines[other], lines[number]
            case "text":
                middle = len(lines[number]) // 2
                lines[number] = lines[number][:middle] + value + lines[number][middle:]
    return "\n".join(lines)


FOUND = datasets.load("digits")


def planned(path: Path) -> None:
    """Read, and made into a plan, as far as that is possible before anything was trained."""
    found = experiments.load(str(path))
    for stage in found.stages.values():
        if stage.after is None and max(stage.trials, 1) * stage.seeds < 2000:
            grouping.groups(plan.cells(found, stage, {}, FOUND, plan.settings(found, stage)[:200]))


@fuzz
@given(edits=EDITS, raw=st.one_of(st.none(), CHANGES))
def test_experiment_files(file: Path, edits: list[tuple[str, float, Any]], raw: Any) -> None:
    path = file.with_suffix(".toml")
    text = edited(EXPERIMENT, edits).encode("utf-8", "surrogatepass")
    path.write_bytes(changed(text, raw) if raw else text)
    try:
        one_line(lambda: planned(path))
    finally:
        path.unlink()
