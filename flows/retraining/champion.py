"""The classifier in use, and what it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flows.learning.cohorts import cache_of
from models.classifier import CalibratedClassifier
from models.networks import run
from pipeline import tracking
from pipeline.config import Study
from pipeline.errors import InputError, LeakageError
from pipeline.learning.loading import prepare_scans
from pipeline.learning.predictions import Predictions
from pipeline.scan import Cohort, Scan, Split

SPLIT_FILE = "split.json"


@dataclass(frozen=True, eq=False)
class Champion:
    """The registered classifier in use.

    Parameters
    ----------
    version : int
        Of the registered model.
    classifier : CalibratedClassifier
    split : Split
        Of the scans it was made from and judged on.
    cache : Path
        Folder of the study's prepared volumes.
    """

    version: int
    classifier: CalibratedClassifier
    split: Split
    cache: Path

    @classmethod
    def of(cls, study: Study, store: tracking.Store) -> Champion | None:
        """Return the champion of a store; None where there is none yet.

        Raises
        ------
        InputError
            If its classes are not those of the study.
        """
        version = tracking.champion_version(store)
        if version is None:
            return None
        name = f"models:/{store.model_name}/{version}"
        classifier = tracking.load_classifier(store, name)
        if classifier.class_names != study.cohort.classes:
            raise InputError(
                f"The champion must tell the classes of the study apart, {', '.join(study.cohort.classes)}, "
                f"got {', '.join(classifier.class_names)}",
                where=name,
                hint="give the study another tracking.model_name",
            )
        _, run_id = tracking.origin(store, name)
        split = Split.from_dict(tracking.read_artifact(store, run_id, SPLIT_FILE))
        return cls(version, classifier, split, cache_of(study))

    @property
    def scan_ids(self) -> frozenset[str]:
        """Scans that had a part in making or judging it."""
        split = self.split
        return frozenset((*split.train, *split.validation, *split.calibration, *split.test))

    def predictions(self, cohort: Cohort) -> Predictions:
        """Run it over scans of a cohort; a scan without a diagnosis gets the label -1."""
        volumes = prepare_scans(cohort, self.classifier.preprocessing, self.cache)
        logits, features = run(self.classifier.network, volumes)
        return Predictions(
            cohort.scan_ids, cohort.subjects, logits, _labels(cohort.scans, cohort.class_names), features,
            cohort.class_names,
        )  # fmt: skip

    def check_never_saw(self, split: Split) -> None:
        """Refuse to be judged on test subjects it was made from.

        Raises
        ------
        LeakageError
            Naming the subjects.
        """
        judges = {split.subject_of[i] for i in split.test}
        for part in ("train", "validation", "calibration"):
            seen = {self.split.subject_of[i] for i in self.split.part(part)}
            if shared := sorted(judges & seen):
                own = f"{part} of the champion, version {self.version},"
                raise LeakageError(shared, own, "the new test part")


def _labels(scans: Sequence[Scan], class_names: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    index = {name: k for k, name in enumerate(class_names)}
    return np.array([-1 if s.diagnosis is None else index[s.diagnosis] for s in scans], dtype=np.int64)
