"""One group of trials, from images to accuracies: nine settings of a small network that train as one array problem.

    .venv/bin/python examples/one_group.py

Every array has the trials as its first axis T, so each step below trains all nine. Nothing is searched or recorded
here: `python -m sweep` is this loop with a search before it and MLflow behind it.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from core.backends import registry as backends
from core.config.architecture import Architecture
from core.config.hyperparameters import Hyperparameters
from core.config.settings import Settings
from core.data import registry as datasets
from core.data.images import Images
from core.network.parameters import initial_model
from core.training.batches import shuffled_batches, steps_in_epoch
from core.training.loop import evaluate
from core.training.optimisers import initial_state
from core.training.schedules import learning_rates

EPOCHS, BATCH_SIZE, DATA_SEED = 4, 64, 0
TRIALS = [
    Settings(lr=lr, dropout=dropout, momentum=0.9, epochs=EPOCHS, batch_size=BATCH_SIZE)
    for lr, dropout in itertools.product([0.005, 0.02, 0.05], [0.0, 0.25, 0.5])
]


def train(trials: Sequence[Settings], backend: str = "reference") -> np.ndarray:
    """Train these trials together; the validation accuracy of each, (T,)."""
    ops = backends.load(backend)  # the network's operations, here in NumPy; "cpu" has them as compiled kernels
    data = datasets.load("digits")
    split = data.split(DATA_SEED)
    images = Images.on_device(ops, split.x_train, split.y_train, data.scale)
    validation = Images.on_device(ops, split.x_validation, split.y_validation, data.scale)

    # What trials of a group share is the network's shape. What they differ in is an array (T,).
    architecture = Architecture(input_shape=(1, 8, 8), filters=(8, 16), classes=len(data.classes))
    hyperparameters = Hyperparameters.of(trials)
    model = initial_model(architecture, trials)  # w1 (T, 8, 1, 3, 3), b1 (T, 8), ...
    state = initial_state("sgd", model, hyperparameters)  # of the optimiser
    step = ops.make_step(ops, architecture, hyperparameters, data_seed=DATA_SEED)

    steps = steps_in_epoch(len(images), BATCH_SIZE)
    for epoch in range(EPOCHS):
        rates = learning_rates(trials, epoch, steps)  # (steps, T)
        for number, batch in enumerate(shuffled_batches(len(images), BATCH_SIZE, DATA_SEED, epoch)):
            step(model, state, images, batch, rates[number], epoch * steps + number)  # forward, backward, update: all T
    _, accuracy = evaluate(ops, architecture, model, validation)
    return accuracy


if __name__ == "__main__":
    print("   lr  dropout  accuracy")
    for trial, accuracy in zip(TRIALS, train(TRIALS), strict=True):
        print(f"{trial.lr:5}  {trial.dropout:7}  {accuracy:.4f}")
