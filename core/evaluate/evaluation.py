"""How a model does on the test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from core.data.dataset import Dataset
    from core.evaluate.metrics import LargestClass
    from core.ops import Ops


@dataclass(frozen=True)
class Evaluation:
    """How a model does on the test images.

    metrics    test_loss (mean cross entropy), test_accuracy, test_largest_class (the share of the images that are of
               the largest class), and macro means of precision, recall and F1 over the classes that occur or are
               predicted
    classes    for each class its number of images, and its precision, recall and F1: None where it is not counted
    confusion  (L, L) images by true class (row) and predicted class (column)
    largest    the largest class
    warnings   sentences on what the accuracy does not tell
    """

    metrics: dict[str, float]
    classes: list[dict[str, Any]]
    confusion: np.ndarray
    largest: LargestClass
    warnings: list[str]


def evaluate_model(ops: Ops, model: dict[str, np.ndarray], data: Dataset) -> Evaluation:
    """Run the model (arrays without trial axis) on the data's test images. Raises InputError if there are none."""
    import numpy as np

    from core.data.images import Images
    from core.network.model import predict
    from core.network.parameters import architecture_of

    if data.x_test is None or data.y_test is None:
        raise InputError(f"{data.source} has no test images: without x_test and y_test there is nothing to test on")
    _, c, height, width = data.x_test.shape
    architecture = architecture_of(model, (c, height, width), data.classes)
    images = Images.on_device(ops, data.x_test, data.y_test, data.scale)
    on_device = {name: ops.xp.asarray(values[None]) for name, values in model.items()}
    loss, predicted = 0.0, []
    with np.errstate(all="ignore"):  # an overflow is told by the loss
        for logits, labels in predict(ops, architecture, on_device, images):
            loss += float(ops.softmax_cross_entropy(logits, labels)[0].sum(dtype=np.float64))
            predicted.append(ops.to_host(logits[0].argmax(axis=1)))
    if not np.isfinite(loss):
        raise InputError(f"the model's loss on the test images is {loss}: its weights are too large for these images")
    return _evaluation(data.y_test, np.concatenate(predicted), data.classes, loss)


def _evaluation(truth: np.ndarray, guess: np.ndarray, classes: Sequence[str], loss: float) -> Evaluation:
    """Of classes (N,) and predicted classes (N,). loss: the images' sum."""
    from sklearn.metrics import confusion_matrix

    from core.evaluate import metrics

    accuracy, largest = float((guess == truth).mean()), metrics.LargestClass.of(truth, classes, "test")
    figures = {"test_loss": loss / len(guess), "test_accuracy": accuracy, "test_largest_class": largest.share}
    figures |= {f"test_{name}_macro": mean for name, mean in metrics.macro(truth, guess).items()}
    warning = largest.warning(accuracy)
    warnings = [warning] if warning else []
    warnings += metrics.missing_class_warnings("test", truth, classes, "no figure here tells how well it is recognised")
    counts = confusion_matrix(truth, guess, labels=range(len(classes)))
    return Evaluation(figures, metrics.by_class(truth, guess, classes), counts, largest, warnings)
