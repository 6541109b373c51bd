"""A trained network as MLflow serves it: this file is stored with the model, and run where that is loaded.

Beside it lie the weights (.npz, read without pickle), what they were trained on (.json), and the sources of core.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from core.backends import registry as backends
from core.data.images import Images
from core.export import model_npz
from core.network.inspection import probabilities
from core.network.parameters import architecture_of


class Classifier(PythonModel):
    """Tells the probability of each class, for images like those it was trained on."""

    def load_context(self, context: Any) -> None:
        """Read the files: called once by MLflow."""
        about = json.loads(Path(context.artifacts["about"]).read_text(encoding="utf-8"))
        self._classes, self._scale, self._offset = about["classes"], about["scale"], about["offset"]
        arrays = model_npz.load_model(Path(context.artifacts["model"]))
        self._architecture = architecture_of(arrays, tuple(about["input_shape"]))
        self._model = {name: values[None] for name, values in arrays.items()}

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """
        model_input  (N, C, H, W) pixels as the data set has them, before scaling: of CIFAR-10 from 0 to 255

        Returns a row for each image, a column for each class.
        """
        pixels = (np.asarray(model_input, np.float64) - self._offset).astype(np.float32)
        images = Images(pixels, np.zeros(len(pixels), int), self._scale)
        values = probabilities(backends.load("reference"), self._architecture, self._model, images)
        return pd.DataFrame(values, columns=self._classes)


set_model(Classifier())
