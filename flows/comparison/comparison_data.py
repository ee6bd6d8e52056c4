"""What every cell of a comparison learns from: the cohort, its volumes and one split for each fold."""

from __future__ import annotations

from dataclasses import dataclass

from flows.learning.cohorts import load_cohort, made_rarer, split_of
from pipeline.config import ReadLabelSettings, Study
from pipeline.errors import ConfigError
from pipeline.files import fingerprint
from pipeline.learning.cross_fitting import scheme_of
from pipeline.learning.folds import split_folds
from pipeline.learning.loading import LabelledVolumes
from pipeline.scan import Cohort, Split

FOLDS = 5


@dataclass(frozen=True, eq=False)
class ComparisonData:
    """What all cells learn from: the cohort, its volumes, and one split for each fold."""

    cohort: Cohort
    volumes: LabelledVolumes
    splits: tuple[Split, ...]

    @property
    def cross_fitted(self) -> bool:
        """Whether the scans that the other folds held out calibrate, instead of a part of their own."""
        return not self.splits[0].calibration


def load_material(study: Study, data: str | None = None) -> ComparisonData:
    """Load the cohort of a study and split it into its folds; cells of this process use it from then on.

    Parameters
    ----------
    data : str, optional
        Digest of the volumes: if those in memory have it, they are returned.

    Raises
    ------
    ConfigError
        If there are several folds and the cohort has a published split.
    CohortError
        If the cohort cannot be learned from.
    """
    known = _loaded.get(_data_key(study))
    if known is not None and data is not None and known.volumes.digest() == data:
        return known
    # One network a cell: what one fold learns from is decided below.
    part = study.calibration.model_copy(update={"scheme": "split"})
    # Every scan is in some test fold: labels from reads have no place in a comparison.
    on_a_part = study.model_copy(update={"calibration": part, "labels": ReadLabelSettings()})
    cohort, volumes, official = load_cohort(on_a_part)
    folds = study.compare.folds or (FOLDS if official is None else 1)
    if folds == 1:
        splits: tuple[Split, ...] = (official or split_of(on_a_part, cohort),)
    elif official is not None:
        raise ConfigError(
            f"compare.folds is {folds}, but a cohort of kind {study.cohort.kind} has a published split",
            where="compare.folds",
            hint="set compare.folds=1",
        )
    else:
        crossed = scheme_of(study, len(cohort)) == "cross_fit"
        least = study.cohort.min_subjects_per_class
        whole = split_folds(
            cohort, study.split, folds, seed=study.seed, min_subjects=least, calibration=not crossed
        )
        splits = tuple(made_rarer(study, split, cohort) for split in whole)
    material = ComparisonData(cohort, volumes, splits)
    _loaded.clear()
    _loaded[_data_key(study)] = material
    return material


_loaded: dict[str, ComparisonData] = {}
"""At most one cohort for a process, however many cells it trains."""


def _data_key(study: Study) -> str:
    sections = {"seed", "cohort", "split", "imbalance", "preprocessing", "ensemble"}
    scheme = study.calibration.scheme
    return fingerprint(study.model_dump(mode="json", include=sections), study.compare.folds, scheme)
