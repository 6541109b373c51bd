"""Every flag of every command: its name, what its value is called, its default and its help stay as users know them."""

from __future__ import annotations

import argparse

import pytest

from core.evaluate import __main__ as evaluate
from core.figures import __main__ as figures
from sweep.commands import parser as sweep

FLAGS = """
run | experiment |  | None | a name in experiments/, or a path ending in .toml
run | --stage |  | None | only this stage (default: all, in order)
run | --points | NAME | [] | add the points NAME
run | --data |  | None | cifar10, digits, a file.npz, or auto (CIFAR-10 if found, else digits)
run | --data-dir | DIR | None | where cifar-10-batches-py is (else $CIFAR10_DIR, data/)
run | --seed |  | None | of data split, order, draws and trials
run | --epochs |  | None | at most so many epochs a trial, in every stage
run | --backend |  | None | auto, reference, cpu or gpu
run | --precision |  | None | float32 or, on a GPU, tf32: faster, and rounded to 10 bits
run | --threads | N | None | to compute on (default: every core there is)
run | --processes | N | None | groups that train at the same time (default: one for each GPU, else 1)
run | --json |  | False | the result as JSON on standard output
run | --tracking-uri | URI | None | MLflow server or database (default: mlflow.db here)
run | --figures | all|none | None | pictures of trials, stages and winners (default: all)
run | --register | NAME|none | None | the model that winners are versions of (default: EXPERIMENT-DATA)
run | --new-data |  | False | begin anew, although the data has changed since the experiment was begun
run | --new-experiment |  | False | begin anew, where the experiment was deleted in MLflow
run | --quiet |  | False | no progress, no notes
plan | experiment |  | None | a name in experiments/, or a path ending in .toml
plan | --stage |  | None | only this stage (default: all, in order)
plan | --points | NAME | [] | add the points NAME
plan | --data |  | None | cifar10, digits, a file.npz, or auto (CIFAR-10 if found, else digits)
plan | --data-dir | DIR | None | where cifar-10-batches-py is (else $CIFAR10_DIR, data/)
plan | --seed |  | None | of data split, order, draws and trials
plan | --epochs |  | None | at most so many epochs a trial, in every stage
plan | --backend |  | None | auto, reference, cpu or gpu
plan | --precision |  | None | float32 or, on a GPU, tf32: faster, and rounded to 10 bits
plan | --threads | N | None | to compute on (default: every core there is)
plan | --processes | N | None | groups that train at the same time (default: one for each GPU, else 1)
plan | --json |  | False | the result as JSON on standard output
report | experiment |  | None | a name in experiments/, or a path ending in .toml
report | --data |  | None | cifar10, digits, a file.npz, or auto (CIFAR-10 if found, else digits)
report | --data-dir | DIR | None | where cifar-10-batches-py is (else $CIFAR10_DIR, data/)
report | --seed |  | None | of data split, order, draws and trials
report | --epochs |  | None | at most so many epochs a trial, in every stage
report | --tracking-uri | URI | None | MLflow server or database (default: mlflow.db here)
report | --out | DIR | reports | where to write (default: %(default)s)
report | --open |  | False | open the page in the browser
doctor | experiment |  | None | a name in experiments/, or a path ending in .toml
doctor | --data |  | None | cifar10, digits, a file.npz, or auto (CIFAR-10 if found, else digits)
doctor | --data-dir | DIR | None | where cifar-10-batches-py is (else $CIFAR10_DIR, data/)
doctor | --seed |  | None | of data split, order, draws and trials
doctor | --epochs |  | None | at most so many epochs a trial, in every stage
doctor | --fix |  | False | mend what is found
doctor | --tracking-uri | URI | None | MLflow server or database (default: mlflow.db here)
doctor | --figures | all|none | None | pictures of trials, stages and winners (default: all)
doctor | --register | NAME|none | None | the model that winners are versions of (default: EXPERIMENT-DATA)
verify | run | RUN | None | a trial's run in MLflow, or the beginning of its id
verify | --backend |  | None | default: the one it was trained with
verify | --precision |  | None | default: the one it was trained with
verify | --data |  | None | cifar10, digits or a file.npz (default: what the run was trained on)
verify | --data-dir | DIR | None | where cifar-10-batches-py is (else $CIFAR10_DIR, data/)
verify | --threads | N | None | to compute on (default: every core there is)
verify | --tracking-uri | URI | None | MLflow server or database (default: mlflow.db here)
compare | runs | RUN | None | runs in MLflow, or the first digits; of a stage its winner
compare | --out | DIR | reports | where to write (default: %(default)s)
compare | --open |  | False | open the page in the browser
compare | --tracking-uri | URI | None | MLflow server or database (default: mlflow.db here)
ui | --port |  | 5000 |
ui | --tracking-uri | URI | None | MLflow server or database (default: mlflow.db here)
evaluate | --run-id | ID | None | a trial's run in MLflow, or the beginning of its id
evaluate | --model | FILE.npz | None | a model's file, also one of the published code
evaluate | --data |  | None | cifar10, digits or a file.npz (default: what the run was trained on)
evaluate | --data-dir | DIR | None | where cifar-10-batches-py is (else $CIFAR10_DIR, data/)
evaluate | --backend |  | auto | auto, reference, cpu or gpu
evaluate | --threads | N | None | to compute on (default: every core there is)
evaluate | --tracking-uri | URI | None | MLflow server or database (default: mlflow.db here)
evaluate | --json |  | False | the result as JSON on standard output
evaluate | --quiet |  | False | no notes
figures | --data |  | None | cifar10, digits, a file.npz, or auto (CIFAR-10 if found, else digits)
figures | --data-dir | DIR | None | where cifar-10-batches-py is (else $CIFAR10_DIR, data/)
figures | --threads | N | None | to compute on (default: every core there is)
figures | --run-id | ID | None | a run in MLflow, a trial's or a stage's, or the first digits
figures | --model | FILE.npz | None | a model's file, also one of the published code
figures | --image | N | 0 | whose maps are drawn: the number of a validation (of --model: test) \
image, from 0, or a picture's file (default: 0)
figures | --out | DIR | None | where to write (default: a folder of its own in figures/)
figures | --format |  | both | default: %(default)s
figures | --tracking-uri | URI | None | MLflow server or database (default: mlflow.db here)
init-study | --data |  | None | cifar10, digits, a file.npz, or auto (CIFAR-10 if found, else digits)
init-study | --data-dir | DIR | None | where cifar-10-batches-py is (else $CIFAR10_DIR, data/)
init-study | --threads | N | None | to compute on (default: every core there is)
init-study | --depth |  | 8 | convolutions (default: %(default)s)
init-study | --width |  | 32 | filters of each (default: 32)
init-study | --images |  | 128 | pushed through, if there are so many (default: 128)
init-study | --seed |  | 0 | of the weights and the choice of images (default: 0)
init-study | --out | FILE | figures/init-study.png | a .png or .svg (default: %(default)s)
"""


def flags(parser: argparse.ArgumentParser, command: str) -> list[str]:
    """A line for each argument, in the order of the help."""
    lines: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                lines += flags(inner, name)
        elif action.dest != "help":
            names = action.option_strings or [action.dest]
            told = [command, *names, str(action.metavar or ""), str(action.default), action.help or ""]
            lines.append(" | ".join(told).rstrip())
    return lines


def test_flags_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SWEEP_THREADS", raising=False)
    found = [
        *flags(sweep.parser(), "sweep"),
        *flags(evaluate.parser(), "evaluate"),
        *flags(figures.parser(), "figures"),
    ]
    assert found == FLAGS.strip().split("\n")
