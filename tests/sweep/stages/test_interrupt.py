"""Signals: at once while training, at the end of a record otherwise."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from sweep.stages.interrupt import Interrupted, Signals


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_takes_effect_at_once(number: int, status: int) -> None:
    with pytest.raises(Interrupted) as caught, Signals().active():
        signal.raise_signal(number)
    assert caught.value.exit_status == status


def test_a_held_section_is_finished_first() -> None:
    done = []
    signals = Signals()

    def work() -> None:
        with signals.held():
            signal.raise_signal(signal.SIGTERM)
            with signals.held():
                done.append("inner")
            done.append("outer")
        done.append("never")

    with pytest.raises(Interrupted), signals.active():
        work()
    assert done == ["inner", "outer"]


def test_an_error_in_a_held_section_is_not_replaced_by_the_signal() -> None:
    signals = Signals()

    def fail() -> None:
        signal.raise_signal(signal.SIGINT)
        raise KeyError

    with pytest.raises(KeyError), signals.active(), signals.held():
        fail()


def test_the_former_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Signals().active():
        assert signal.getsignal(signal.SIGINT) not in before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_that_a_library_swallowed_is_raised_again() -> None:
    signals, heard = Signals(), []

    def work() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException:  # as a library does
            heard.append(signals.stopping)
        with signals.held():
            heard.append("a record")
        heard.append("never")

    with pytest.raises(Interrupted), signals.active():
        work()
    assert heard == [True, "a record"]


def test_a_signal_in_a_destructor_is_not_reported_and_raised_again(capfd: pytest.CaptureFixture[str]) -> None:
    class Collected:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    signals, hook = Signals(), sys.unraisablehook

    def work() -> None:
        Collected()  # gone at once; Python cannot raise from there
        with signals.held():
            pass

    with pytest.raises(Interrupted), signals.active():
        work()
    assert capfd.readouterr().err == ""
    assert sys.unraisablehook is hook


@pytest.mark.parametrize(("times", "expected"), [(1, ["ended"]), (2, [])])
def test_a_patient_section_ends_first_and_a_second_signal_does_not_wait(times: int, expected: list[str]) -> None:
    signals, told, heard, done = Signals(), [], Event(), []

    def tell(name: str) -> None:
        told.append(name)
        heard.set()

    def work() -> None:
        with signals.patient(tell):
            for number in range(times):
                assert signals.stopping == bool(number)
                signal.raise_signal(signal.SIGTERM)
                assert heard.wait(10)
            done.append("ended")
        done.append("never")

    with pytest.raises(Interrupted) as caught, signals.active():
        work()
    assert caught.value.exit_status == 143
    assert (told, done) == (["SIGTERM"], expected)
    assert not signals.stopping


def test_a_signal_in_the_middle_of_a_print_is_told_after_it() -> None:
    """A stream cannot be written to while it writes: the handler that does ends in a RuntimeError."""
    written, signals = [], Signals()

    class Screen(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, text: Any) -> int:
            written.append(bytes(text).decode())
            if "epoch" in written[-1]:
                signal.raise_signal(signal.SIGINT)
            return len(text)

    stream = io.TextIOWrapper(io.BufferedWriter(Screen()), line_buffering=True)
    with pytest.raises(Interrupted), signals.active(), signals.patient(partial(print, file=stream)):
        print("epoch 2", file=stream)
    assert "".join(written) == "epoch 2\nSIGINT\n"


def test_a_ctrl_c_after_the_end_changes_nothing(project: Path) -> None:
    late = "atexit.register(os.kill, os.getpid(), signal.SIGINT)"
    run = "sys.argv = ['sweep', 'doctor', 'small']; runpy.run_module('sweep', run_name='__main__')"
    command = [sys.executable, "-c", f"import atexit, os, runpy, signal, sys; {late}; {run}"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[1:] == []
