"""The files of a trained study."""

from __future__ import annotations

from pathlib import Path

from pipeline.files import read_json
from pipeline.learning.predictions import Predictions
from pipeline.scan import Split

PREDICTED = ("calibration", "test")


class StudyFiles:
    """The files that a study writes below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.study = folder / "study.yaml"  # resolved
        self.split = folder / "split.json"  # scan ids of each part
        self.training = folder / "training"  # checkpoints and history
        self.network = folder / "network"  # the trained networks, uncalibrated, each in a folder of its own
        self.outliers = folder / "outliers.npz"  # the outlier detector of cross-fitted networks
        self.selection = folder / "selection.json"  # the chosen calibrator, and the scores of all candidates
        self.bundle = folder / "classifier"  # the saved `CalibratedClassifier`
        self.results = folder / "results.json"  # metrics with intervals

    def predictions(self, part: str) -> Path:
        """Logits of one part; after cross-fitting ``calibration`` holds all development scans."""
        return self.folder / f"predictions_{part}.npz"

    def record(self, step: str) -> Path:
        """Return the file that records that a step is done."""
        return self.folder / ".records" / f"{step}.json"

    def read_split(self) -> Split:
        """Read the split that the classifier was made with."""
        return Split.from_dict(read_json(self.split))

    def read_predictions(self) -> tuple[Predictions, Predictions]:
        """Read the predictions of the calibration and of the test scans."""
        calibration, test = (Predictions.load(self.predictions(part)) for part in PREDICTED)
        return calibration, test
