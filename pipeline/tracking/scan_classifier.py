"""The model MLflow loads from code: paths of scans in, calibrated probabilities out.

This file travels inside the logged model beside the packages `pipeline` and `models`; it holds no pickle.
One version a process: a process that has imported another version of those packages keeps running them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow


class ScanClassifier(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Answers for each path: a DICOM folder, a NIfTI file, or a SUVR volume in template space."""

    def load_context(self, context: Any) -> None:
        """Read the bundle."""
        from models.classifier import CalibratedClassifier

        self.classifier = CalibratedClassifier.load(Path(context.artifacts["bundle"]))

    # No hint for what comes back: MLflow warns of every hint that holds more than one type.
    def predict(self, model_input: list[str]):  # type: ignore[no-untyped-def]
        """Return one mapping per path; a refused scan has ``decision: refused`` and the reason."""
        from pipeline.one_scan import answer

        return [answer(self.classifier, Path(path)) for path in model_input]


mlflow.models.set_model(ScanClassifier())
