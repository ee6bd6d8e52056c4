"""The classifier in use, and the scans it was made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flows.learning.cohorts import cache_of
from models.classifier import CalibratedClassifier
from pipeline import tracking
from pipeline.config import Study
from pipeline.errors import CohortError, InputError, LeakageError
from pipeline.learning.inference import predict_cohort
from pipeline.learning.predictions import Predictions
from pipeline.scan import PARTS, Cohort, Split

SPLIT_FILE = "split.json"


@dataclass(frozen=True, eq=False)
class Champion:
    """The registered classifier in use.

    Parameters
    ----------
    version : int
        Of the registered model.
    split : Split
        Of the scans it was trained, calibrated and tested on.
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
        return cls.load(study, store, version)

    @classmethod
    def load(cls, study: Study, store: tracking.Store, version: int) -> Champion:
        """Return any registered version, to be scored beside the champion.

        Raises
        ------
        InputError
            If its classes are not those of the study.
        """
        name = f"models:/{store.model_name}/{version}"
        classifier = tracking.load_classifier(store, name)
        if classifier.class_names != study.cohort.classes:
            raise InputError(
                f"Version {version} has the classes {', '.join(classifier.class_names)}, but the study has "
                f"{', '.join(study.cohort.classes)}",
                where=name,
                hint="give the study another tracking.model_name",
            )
        _, run_id = tracking.origin(store, name)
        split = Split.from_dict(tracking.read_artifact(store, run_id, SPLIT_FILE))
        return cls(version, classifier, split, cache_of(study))

    @property
    def scan_ids(self) -> frozenset[str]:
        """Scans it was trained, calibrated or tested on."""
        return frozenset(i for part in PARTS for i in self.split.part(part))

    def predictions(self, cohort: Cohort) -> Predictions:
        """Run it over scans of a cohort; a scan without a diagnosis has the label -1."""
        return predict_cohort(self.classifier, cohort, self.cache)

    def check_cohort(self, cohort: Cohort) -> None:
        """Refuse a cohort with fewer scans than the champion was made from and tested on, or none of them.

        Raises
        ------
        CohortError
            Naming some of the scans that are missing.
        """
        if cohort.scan_ids and self.scan_ids.isdisjoint(cohort.scan_ids):
            raise self._other_pseudonyms()
        if len(cohort) >= len(self.scan_ids):
            return
        missing = sorted(self.scan_ids - set(cohort.scan_ids))
        shown = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise CohortError(
            f"The cohort has {len(cohort)} labelled scans, but the champion was made from "
            f"{len(self.scan_ids)}. Missing: {shown}",
            where="retrain",
            hint="ingest their source again, or run `taucal retrain` with --accept-smaller",
        )

    def _other_pseudonyms(self) -> CohortError:
        # After a restore without the key everybody has another pseudonym, and the test part would hold
        # people from whom the champion has learned.
        return CohortError(
            f"None of the {len(self.scan_ids)} scans that the champion was made from and tested on is in the "
            f"dataset, as {min(self.scan_ids)}: its pseudonyms were made with another key, or it is of other "
            "people",
            where="retrain",
            hint="restore DATASET.key and its map from a backup, then make the dataset again by "
            "`taucal ingest`; for other people, run `taucal retrain` with --accept-smaller",
        )

    def check_never_saw(self, split: Split) -> None:
        """Refuse a test part that shares subjects with what the champion was made from.

        Raises
        ------
        LeakageError
            Naming the subjects.
        """
        tested = {split.subject_of[i] for i in split.test}
        for part in ("train", "validation", "calibration"):
            seen = {self.split.subject_of[i] for i in self.split.part(part)}
            if shared := sorted(tested & seen):
                own = f"the {part} part of the champion, version {self.version},"
                raise LeakageError(shared, own, "the new test part")
