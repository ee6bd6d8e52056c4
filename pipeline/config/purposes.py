"""Whether a study can be used for what is asked of it: training, a comparison, a year."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

from pipeline.config.conflicts import PUBLISHED_SPLIT, conflicts
from pipeline.config.data_settings import PRESET_CLASSES
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.config.study import Study

Purpose = Literal["train", "compare", "curve", "retrain", "demo", "year"]
"""What a study is used for."""


def check_purpose(study: Study, purpose: Purpose) -> None:
    """Refuse a study that cannot be used for what is asked.

    Raises
    ------
    ConfigError
        With every setting that is wrong or in the way, and its fix.
    """
    checks: dict[Purpose, tuple[Callable[[Study], Iterator[str]], ...]] = {
        "train": (_learns_from_scans,),
        "compare": (_leaves_a_part_out,),
        "curve": (_leaves_a_part_out,),
        "retrain": (_learns_from_scans, _keeps_all_scans),
        "demo": (_learns_from_scans, _learns_from_phantom),
        "year": (_learns_from_scans, _keeps_all_scans, _learns_from_phantom, _has_months),
    }
    # A study that was changed by code rather than read from a file has not been checked yet.
    found = conflicts(study) or [problem for check in checks[purpose] for problem in check(study)]
    if found:
        raise ConfigError(" ".join(found), where=study.name)
    if purpose in ("demo", "year"):
        study.phantom.check_visits()


def _learns_from_scans(study: Study) -> Iterator[str]:
    if study.cohort.kind != "bids":
        yield (
            f"cohort.kind: a classifier of scans learns from a cohort of kind bids, not {study.cohort.kind}. "
            "Use `taucal compare` for this cohort."
        )


def _keeps_all_scans(study: Study) -> Iterator[str]:
    if study.imbalance.ratio != 1:
        yield (
            f"imbalance.ratio: {study.imbalance.ratio:g} leaves scans out, which only `taucal compare` may "
            "do. Remove the imbalance section."
        )


def _leaves_a_part_out(study: Study) -> Iterator[str]:
    published = study.cohort.kind in PUBLISHED_SPLIT
    if study.calibration.scheme == "cross_fit" and (published or study.compare.folds == 1):
        yield (
            "calibration.scheme, compare.folds: one split has no other folds to calibrate on. "
            + ("Set calibration.scheme to split or auto." if published else "Set compare.folds to 2 or more.")
        )


def _learns_from_phantom(study: Study) -> Iterator[str]:
    preset, classes = study.phantom.preset, PRESET_CLASSES[study.phantom.preset]
    if preset == "five_class":
        yield (
            "phantom.preset: five_class has classes that ingest does not read from ADNI's tables. Set it to "
            "three_class or three_class_clinical; `taucal phantom --preset five_class` writes its scans."
        )
    elif study.cohort.classes != classes:
        yield (
            f"cohort.classes: {', '.join(study.cohort.classes)} are not the classes of phantom.preset "
            f"{preset}. Add --set 'cohort.classes=[{', '.join(classes)}]'."
        )
    if study.ingest.source is None:
        yield "ingest.source: no folder for the phantom is named. Set it to a folder to write to."


def _has_months(study: Study) -> Iterator[str]:
    if not study.phantom.batches:
        yield "phantom.batches: a year needs a batch for each month. Start from configs/year.yaml."
