"""The official CIFAR-10 files: read right, hostile and damaged ones refused, the download checked."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import os
import pickle
import struct
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.cifar10 import main
from core.data.formats import cifar10
from core.errors import InputError

NAMES = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 and its NumPy wrote: byte strings and numpy.core.multiarray."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value: bytes) -> None:
        self.write(b"T" + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes

    def save_array(self, value: np.ndarray) -> None:
        self.write(b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01")
        self.save(value.shape)
        self.write(
            b"cnumpy\ndtype\n(U\x02" + value.dtype.str[1:].encode() + b"K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        )
        self.write(b"J\xff\xff\xff\xffK\x00tb\x89")
        self.save_bytes(value.tobytes())
        self.write(b"tb")

    dispatch[np.ndarray] = save_array


def dump(content: Any) -> bytes:
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue()


def batch(first: int, rows: int = 4) -> dict[bytes, Any]:
    data = ((first + np.arange(rows * 3072)) % 251).astype(np.uint8).reshape(rows, 3072)
    return {b"data": data, b"labels": [(first + k) % 10 for k in range(rows)], b"batch_label": b"some"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole small data set in the official layout."""
    place = tmp_path / cifar10.FOLDER
    place.mkdir()
    for number, name in enumerate((*cifar10.TRAINING, cifar10.TEST)):
        (place / name).write_bytes(dump(batch(number)))
    (place / cifar10.NAMES).write_bytes(dump({b"label_names": NAMES}))
    return place


def test_reads_the_official_layout(folder: Path) -> None:
    x, y, x_test, y_test, classes = cifar10.read(folder)
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((20, 3, 32, 32), np.uint8, (20,), np.int64)
    assert x_test.shape == (4, 3, 32, 32)
    np.testing.assert_array_equal(x[4:8].reshape(4, -1), batch(1)[b"data"])
    np.testing.assert_array_equal(x_test.reshape(4, -1), batch(5)[b"data"])
    assert y.tolist() == [(n + k) % 10 for n in range(5) for k in range(4)]
    assert y_test.tolist() == [5, 6, 7, 8]
    assert classes[:2] == ("airplane", "automobile")


def test_an_array_may_be_stored_by_columns(folder: Path) -> None:
    by_columns = batch(1)[b"data"].reshape(3072, 4)  # the bytes as they lie in the file
    (folder / "data_batch_2").write_bytes(dump(batch(1)).replace(b"K\x00tb\x89", b"K\x00tb\x88"))
    np.testing.assert_array_equal(cifar10.read(folder)[0][4:8].reshape(4, -1), by_columns.T)


class Touch:
    """Unpickled without restriction, this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_hostile_pickle_is_refused_and_nothing_in_it_runs(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "ran"
    pickle.loads(pickle.dumps(Touch(target)))
    assert target.exists()  # so it would run
    target.rmdir()
    for protocol in range(6):
        (folder / "data_batch_3").write_bytes(pickle.dumps({b"data": Touch(target)}, protocol))
        with pytest.raises(InputError, match=r"data_batch_3 is refused.*no CIFAR-10 file needs"):
            cifar10.read(folder)
    for code in (b"cbuiltins\neval\n(U\x011tR.", b"cnumpy\nload\n(tR.", b"cnumpy.core.multiarray\nfrombuffer\n(tR."):
        (folder / "data_batch_3").write_bytes(code)
        with pytest.raises(InputError, match="no CIFAR-10 file needs"):
            cifar10.read(folder)
    assert not target.exists()


HOSTILE = {
    "memory claimed by a bytearray": (b"\x80\x05\x96" + struct.pack("<Q", 2**40), "instruction"),
    "a key whose hash overflows the stack": (b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.", "keys"),
    "a new object": (b"\x80\x02cnumpy\ndtype\n)\x81.", "instruction"),
    "an array without a type": (b"\x80\x02cnumpy\nndarray\n)R(K\x01K\x01NNU\x01atb.", "plain bytes"),
    "a persistent object": (b"U\x01aQ.", "instruction"),
    "a long name with an escape": (b"\x80\x02cnumpy\n\x1b[31m" + b"a" * 1000 + b"\n.", "it asks for 'numpy"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_other_hostile_files_get_one_short_line(folder: Path, case: str) -> None:
    content, expected = HOSTILE[case]
    (folder / "data_batch_3").write_bytes(content)
    with pytest.raises(InputError, match="data_batch_3 is refused") as caught:
        cifar10.read(folder)
    reason = str(caught.value).split("is refused", 1)[1]
    assert expected in reason
    assert reason.isprintable()
    assert len(reason) < 200


def test_a_file_too_large_is_not_read(folder: Path) -> None:
    with open(folder / "test_batch", "wb") as file:
        file.truncate(2**40)  # takes no space
    with pytest.raises(InputError, match="test_batch has 1099511627776 bytes"):
        cifar10.read(folder)


def with_changes(**changes: Any) -> bytes:
    return dump(batch(1) | {key.encode(): value for key, value in changes.items()})


BAD = {
    "empty": (b"", "it is cut off: it has 0 bytes"),
    "truncated": (dump(batch(1))[:-2000], "it is cut off: it has 10491 bytes, the official one has 31035320$"),
    "cut within a number": (dump(batch(1))[:3], "it is cut off: it has 3 bytes, the official one has 31035320$"),
    "cut within a name": (dump(batch(1))[:60], "it is cut off: it has 60 bytes, the official one has 31035320$"),
    "no table": (dump([1, 2]), "holds no table"),
    "label too large": (with_changes(labels=[0, 1, 10, 2]), "label 10 is not"),
    "label negative": (with_changes(labels=[0, 1, -1, 2]), "label -1 is not"),
    "label no number": (with_changes(labels=[0, 1, b"x", 2]), "is not a whole number"),
    "label true": (with_changes(labels=[0, 1, True, 2]), "label True"),
    "labels missing": (with_changes(labels=None), "as many labels"),
    "labels too few": (with_changes(labels=[0, 1, 2]), "as many labels as its 4 images"),
    "data missing": (with_changes(data=None), "rows of 3072 bytes"),
    "data of another width": (with_changes(data=np.zeros((4, 3071), np.uint8)), "rows of 3072 bytes"),
    "data without rows": (with_changes(data=np.zeros((0, 3072), np.uint8), labels=[]), "data_batch_2"),
    "data flat": (with_changes(data=np.zeros(4 * 3072, np.uint8)), "rows of 3072 bytes"),
    "data with signs": (with_changes(data=np.zeros((4, 3072), np.int8)), "something else than u1"),
    "data of floats": (with_changes(data=np.zeros((4, 3072))), "refused"),
    "huge array": (dump(batch(1)).replace(dump((4, 3072))[2:8], dump((2**31 - 1, 3072))[2:11]), "refused"),
}


@pytest.mark.parametrize("case", BAD)
def test_damaged_files_get_one_clear_line(folder: Path, case: str) -> None:
    content, expected = BAD[case]
    (folder / "data_batch_2").write_bytes(content)
    with pytest.raises(InputError, match=expected) as caught:
        cifar10.read(folder)
    assert "data_batch_2" in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 700),
)
def test_whatever_the_bytes_only_clear_errors(folder: Path, changes: list[tuple[int, int]], cut: int) -> None:
    whole = dump({b"labels": [1], b"data": np.zeros((1, 3072), np.uint8), b"label_names": NAMES})
    head = bytearray(whole[:400] + whole[-300:])
    for place, value in changes:
        head[place % len(head)] = value
    (folder / cifar10.NAMES).write_bytes(bytes(head[: len(head) - cut]))
    with contextlib.suppress(InputError):
        cifar10.read(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "data_batch_4").unlink()
    with pytest.raises(InputError, match="lacks data_batch_4"):
        cifar10.read(folder)


def test_where_it_is_looked_for(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.setenv("SWEEP_ROOT", str(tmp_path / "project"))
    assert cifar10.locate() is None
    assert cifar10.locate(folder) == folder
    assert cifar10.locate(folder.parent) == folder
    with pytest.raises(InputError, match="--data-dir is"):
        cifar10.locate(tmp_path / "elsewhere")
    monkeypatch.setenv("CIFAR10_DIR", str(folder.parent))
    assert cifar10.locate() == folder
    monkeypatch.setenv("CIFAR10_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match=r"\$CIFAR10_DIR is"):
        cifar10.locate()
    monkeypatch.delenv("CIFAR10_DIR")
    (tmp_path / "project").mkdir()
    folder.parent.joinpath("project/data").mkdir()
    folder.rename(tmp_path / "project/data" / cifar10.FOLDER)
    assert cifar10.locate() == (tmp_path / "project/data" / cifar10.FOLDER).resolve()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A real web server on this machine, and the folder it serves."""
    place = tmp_path / "served"
    place.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(place))) as web:
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}", place
        web.shutdown()
        thread.join()


def archive(folder: Path, path: Path, extra: str | None = None, compresslevel: int = 9) -> str:
    """Pack the folder as the official archive is packed; returns its SHA-256."""
    with tarfile.open(path, "w:gz", compresslevel=compresslevel) as tar:
        tar.add(folder, arcname=cifar10.FOLDER)
        if extra:
            tar.addfile(tarfile.TarInfo(extra))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_download_checks_and_unpacks(folder: Path, server: tuple[str, Path], tmp_path: Path, capfd) -> None:
    url, served = server
    sha256 = archive(folder, served / "cifar.tar.gz", extra="../../escaped")
    place = tmp_path / "data"
    command = ["--dir", str(place), "--url", f"{url}/cifar.tar.gz", "--sha256", sha256]
    assert main(command) == 0
    assert sorted(p.name for p in (place / cifar10.FOLDER).iterdir()) == sorted(p.name for p in folder.iterdir())
    cifar10.read(place / cifar10.FOLDER)
    assert not list(tmp_path.parent.rglob("escaped"))
    assert "%" in capfd.readouterr().err  # a progress bar was shown
    assert [p for p in place.iterdir() if p.suffix != ".lock"] == [place / cifar10.FOLDER]
    (served / "cifar.tar.gz").unlink()
    assert main(command) == 0  # it is there already
    (place / cifar10.FOLDER / "data_batch_5").unlink()
    assert main(command) == 2
    error = capfd.readouterr().err
    assert "lacks data_batch_5" in error
    assert f"remove {place / cifar10.FOLDER}" in error


def test_a_failed_download_leaves_nothing(folder: Path, server: tuple[str, Path], tmp_path: Path, capsys) -> None:
    url, served = server
    sha256 = archive(folder, served / "cifar.tar.gz")
    (folder / "test_batch").unlink()
    lacking = archive(folder, served / "lacking.tar.gz")
    torn = (served / "cifar.tar.gz").read_bytes()[:-400]
    (served / "torn.tar.gz").write_bytes(torn)
    (folder / "data_batch_1").write_bytes(bytes(200_000))
    archive(folder, served / "garbled.tar.gz", compresslevel=0)
    garbled = bytearray((served / "garbled.tar.gz").read_bytes())
    block = garbled.index(b"\0", 10) + 1  # behind the file's name; a block says how long it is
    garbled[block + 5 + int.from_bytes(garbled[block + 1 : block + 3], "little")] = 0xFF  # no such kind of block
    (served / "garbled.tar.gz").write_bytes(garbled)
    place = tmp_path / "data"
    for address, digest, reason in (
        (f"{url}/none.tar.gz", sha256, "404"),
        (f"{url}/cifar.tar.gz", "0" * 64, "does not match the known hash"),
        (f"{url}/torn.tar.gz", sha256, "does not match the known hash"),
        (f"{url}/torn.tar.gz", hashlib.sha256(torn).hexdigest(), "end-of-stream"),
        (f"{url}/garbled.tar.gz", hashlib.sha256(garbled).hexdigest(), "Error -3 while decompressing"),
        (f"{url}/lacking.tar.gz", lacking, "the archive lacks cifar-10-batches-py/test_batch"),
        ("http://127.0.0.1:9/x", sha256, "Connection refused"),
        (f"{url.replace('http', 'https')}/cifar.tar.gz", sha256, "SSL"),
        ("nonsense", sha256, "Invalid URL"),
    ):
        assert main(["--dir", str(place), "--url", address, "--sha256", digest]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith(f"error: CIFAR-10 could not be downloaded from {address}: ")
        assert reason in error
        assert "Max retries" not in error
        assert [p for p in place.iterdir() if p.suffix != ".lock"] == []


def test_what_a_killed_download_left_is_cleared(folder: Path, server: tuple[str, Path], tmp_path: Path) -> None:
    url, served = server
    sha256 = archive(folder, served / "cifar.tar.gz")
    place = tmp_path / "data"
    left = place / f".{cifar10.FOLDER}.part" / cifar10.FOLDER / "data_batch_1"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    cifar10.download(place, f"{url}/cifar.tar.gz", sha256)
    assert not left.exists()
    cifar10.read(place / cifar10.FOLDER)


def test_two_downloads_at_once_do_not_meet(folder: Path, server: tuple[str, Path], tmp_path: Path) -> None:
    url, served = server
    sha256 = archive(folder, served / "cifar.tar.gz")
    (tmp_path / "data").mkdir()
    with (
        FileLock(tmp_path / "data" / f".{cifar10.FOLDER}.lock"),
        pytest.raises(InputError, match="by another process"),
    ):
        cifar10.download(tmp_path / "data", f"{url}/cifar.tar.gz", sha256)
    assert cifar10.download(tmp_path / "data", f"{url}/cifar.tar.gz", sha256).is_dir()
