"""The digits that scikit-learn brings."""

from __future__ import annotations

import numpy as np

from core.data.dataset import Dataset, make_dataset
from core.data.pixels import PixelRange


def load() -> Dataset:
    """1,797 images of 8x8 pixels from 0 to 16; every fifth is for the test, as there is no official test set."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = digits.images[:, None].astype(np.uint8), digits.target.astype(np.int64)
    test = np.arange(len(x)) % 5 == 0
    classes = tuple(str(name) for name in digits.target_names)
    return make_dataset(
        "digits", "scikit-learn", (x[~test], y[~test], x[test], y[test], classes), PixelRange(1 / 16, white=16.0)
    )
