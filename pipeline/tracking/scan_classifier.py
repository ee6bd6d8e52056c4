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
        from pipeline.tracking.served import ServedLedger

        bundle = Path(context.artifacts["bundle"])
        self.classifier = CalibratedClassifier.load(bundle)
        self.ledger = ServedLedger.of(bundle.parents[1])

    # No hint for what comes back: MLflow warns of every hint that holds more than one type.
    def predict(self, model_input: list[str]):  # type: ignore[no-untyped-def]
        """Return one mapping per path; a refused scan has ``decision: refused`` and the reason.

        Where ``MLFLOW_TRACKING_URI`` names the store of this version, each answer is recorded in it.
        """
        from pipeline.one_scan import answer_with_measures

        answers = []
        for path in map(Path, model_input):
            answer, measured = answer_with_measures(self.classifier, path)
            answers.append(answer)
            if self.ledger is not None and path.exists():
                self.ledger.record(path, answer, measured)
        return answers


mlflow.models.set_model(ScanClassifier())
