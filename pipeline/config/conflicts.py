"""Settings that cannot work together, each with its keys and its fix: found before any work is done."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from models.names import (
    CALIBRATOR_NAMES,
    IMAGE_NETWORK_NAMES,
    LOSS_NAMES,
    LOSS_OPTIONS,
    NETWORK_NAMES,
    NETWORK_OPTIONS,
    TRUTHS,
    nearest,
)
from pipeline.config.data_settings import PRESET_CLASSES
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.config.study import Study

Purpose = Literal["train", "compare", "retrain", "demo", "year"]
"""What a study is used for."""
_PUBLISHED_SPLIT = ("medmnist", "cifar10", "cifar100", "tiny_imagenet")
_IMAGES = ("cifar10", "cifar100", "tiny_imagenet", "image_folder")

_CRON_HIGHEST = (59, 23, 31, 12, 7)
"""Of minute, hour, day, month and weekday."""
_CRON_WORDS = {
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    "sun", "mon", "tue", "wed", "thu", "fri", "sat", "l",
}  # fmt: skip


def conflicts(study: Study) -> list[str]:
    """Return what is wrong with a study whatever it is used for, a sentence with keys and fix each."""
    checks = (
        _names,
        _options,
        _cohort,
        _scans_and_images,
        _training,
        _cross_fitting,
        _comparison,
        _phantom,
        _places,
        _schedules,
    )
    return [problem for check in checks for problem in check(study)]


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


def _names(study: Study) -> Iterator[str]:
    networks = IMAGE_NETWORK_NAMES if study.network.spatial_dims == 2 else NETWORK_NAMES
    yield from _unknown("network.name", [study.network.name], networks)
    yield from _unknown("training.loss.name", [study.training.loss.name], LOSS_NAMES)
    yield from _unknown("compare.losses", [loss.name for loss in study.compare.losses], LOSS_NAMES)
    yield from _unknown("compare.calibrators", study.compare.calibrators, CALIBRATOR_NAMES)
    yield from _unknown("calibration.candidates", study.calibration.candidates, CALIBRATOR_NAMES)
    yield from _unknown("calibration.method", [study.calibration.method], ("auto", *CALIBRATOR_NAMES))


def _options(study: Study) -> Iterator[str]:
    network, loss = study.network, study.training.loss
    yield from _wrong_options("network.options", network.options, NETWORK_OPTIONS.get(network.name))
    yield from _wrong_options("training.loss.options", loss.options, LOSS_OPTIONS.get(loss.name))
    for number, loss in enumerate(study.compare.losses):
        yield from _wrong_options(
            f"compare.losses.{number}.options", loss.options, LOSS_OPTIONS.get(loss.name)
        )


def _wrong_options(key: str, given: Mapping[str, Any], known: frozenset[str] | None) -> Iterator[str]:
    if known is None:
        return  # the name is unknown, which is reported
    yield from _unknown(key, given, tuple(sorted(known)))
    for name in sorted(given.keys() & known - TRUTHS):
        if isinstance(given[name], bool):
            yield f"{key}.{name}: expected a number or word, found {str(given[name]).lower()}; correct it."


def _unknown(key: str, given: Iterable[str], known: tuple[str, ...]) -> Iterator[str]:
    for name in given:
        if name not in known:
            near = nearest(name, known)
            every = "" if near.startswith("Known") else f" Known: {', '.join(sorted(known))}."
            yield f"{key}: there is no {name!r}. {near}{every}"


def _cohort(study: Study) -> Iterator[str]:
    classes = study.cohort.classes
    if len(classes) == 1:
        yield f"cohort.classes: only {classes[0]} is named; name two classes or more."
    if repeated := _repeated(classes):
        yield f"cohort.classes: {', '.join(repeated)} appears twice; name each class once."
    if study.cohort.image_size is not None and study.cohort.kind != "image_folder":
        yield (
            f"cohort.image_size: pictures of kind {study.cohort.kind} have a size of their own; remove it, "
            "or set cohort.kind to image_folder."
        )


def _scans_and_images(study: Study) -> Iterator[str]:
    kind, dims = study.cohort.kind, study.network.spatial_dims
    needed = 3 if kind == "bids" else 2 if kind in _IMAGES else dims  # medmnist has both
    if dims != needed:
        yield f"network.spatial_dims: {dims} does not fit cohort.kind {kind}; set it to {needed}."
    if needed == 3 and (study.augmentation.flip or study.augmentation.crop_pixels):
        yield (
            "augmentation.flip, augmentation.crop_pixels: only images may be flipped or cropped, in a scan "
            "left and right are evidence; remove both."
        )
    if study.imaging.window_start_min >= study.imaging.window_end_min:
        yield (
            f"imaging.window_start_min: {study.imaging.window_start_min:g} is not before "
            f"imaging.window_end_min, {study.imaging.window_end_min:g}; exchange them."
        )


def _training(study: Study) -> Iterator[str]:
    batch, micro = study.training.batch_size, study.training.micro_batch
    if micro is not None and micro > batch:
        yield (
            f"training.micro_batch: {micro} is more than training.batch_size, {batch}; set it to {batch} or "
            "less, or remove it."
        )
    for key, names in (
        ("calibration.candidates", study.calibration.candidates),
        ("compare.calibrators", study.compare.calibrators),
    ):
        if repeated := _repeated(names):
            yield f"{key}: {', '.join(repeated)} appears twice; name each once."
    if not study.calibration.candidates:
        yield "calibration.candidates: the list is empty; name identity for no calibration."


def _cross_fitting(study: Study) -> Iterator[str]:
    if study.calibration.scheme == "cross_fit" and study.ensemble > 1:
        yield (
            f"calibration.scheme, ensemble: cross-fitting averages a network for each fold, so ensemble: "
            f"{study.ensemble} does not apply. Remove it, or set calibration.repeats."
        )


def _comparison(study: Study) -> Iterator[str]:
    asked = study.compare
    titles = [loss.title for loss in asked.losses]
    if asked.baseline not in titles:
        yield (
            f"compare.baseline: {asked.baseline!r} is not among compare.losses ({', '.join(titles)}); set it "
            "to the name or label of one of them."
        )
    if repeated := _repeated(titles):
        yield f"compare.losses: {', '.join(repeated)} appears twice; give each its own label."
    if bad := [title for title in titles if "/" in title or title.startswith(".")]:
        yield (
            f"compare.losses: {', '.join(bad)} cannot name a folder; choose labels without a slash or a "
            "leading full stop."
        )
    if repeated := _repeated(asked.seeds):
        yield f"compare.seeds: {', '.join(repeated)} appears twice; name each seed once."
    if not asked.seeds:
        yield "compare.seeds: the list is empty; name one seed at least, as [0]."
    if asked.folds > 1 and study.cohort.kind in _PUBLISHED_SPLIT:
        yield (
            f"compare.folds: {asked.folds} folds cannot replace the published split of cohort.kind "
            f"{study.cohort.kind}, results would not be comparable; set it to 1."
        )


def _phantom(study: Study) -> Iterator[str]:
    classes = PRESET_CLASSES[study.phantom.preset]
    for number, batch in enumerate(study.phantom.batches):
        shares = batch.prevalence
        if shares and (len(shares) != len(classes) or abs(sum(shares) - 1) > 0.01 or min(shares) < 0):
            yield (
                f"phantom.batches.{number}.prevalence: {list(shares)} are no shares of the classes "
                f"{', '.join(classes)}; write one share for each, which add up to 1."
            )


def _places(study: Study) -> Iterator[str]:
    if study.dask.address is not None and study.dask.jobqueue is not None:
        yield "dask.address, dask.jobqueue: a cluster has one of the two; remove the other."
    source, dataset = study.ingest.source, study.cohort.path
    if source is not None and study.cohort.kind == "bids":
        a, b = source.resolve(), dataset.resolve()
        if a.is_relative_to(b) or b.is_relative_to(a):
            yield (
                f"ingest.source, cohort.path: the folders {source} and {dataset} overlap, an ingest would "
                "read what it has written; choose two beside each other."
            )
    port = study.serve.prefect_port
    if port and port == study.serve.mlflow_port:
        yield f"serve.prefect_port, serve.mlflow_port: both are {port}; choose two."


def _schedules(study: Study) -> Iterator[str]:
    for key in ("ingest", "shift", "retrain", "reports"):
        line = getattr(study.serve, key)
        if line is not None and not _like_cron(line):
            yield (
                f"serve.{key}: {line!r} is not a cron line; write minute hour day month weekday in UTC, as "
                'in "0 2 * * *" for every night at two, or null for no schedule.'
            )


def _like_cron(line: str) -> bool:
    """Return whether a text has the form of a cron line; Prefect knows the finer rules."""
    if line.startswith("@"):
        return line[1:] in ("yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly")
    fields = line.lower().split()
    return len(fields) == len(_CRON_HIGHEST) and all(
        re.fullmatch(r"[\w*?,/#-]+", field)
        and set(re.findall("[a-z]+", field)) <= _CRON_WORDS
        and all(int(number) <= highest for number in re.findall(r"(?<![/#\d])\d+", field))
        for field, highest in zip(fields, _CRON_HIGHEST, strict=True)
    )


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
    if study.calibration.scheme == "cross_fit":
        yield (
            "calibration.scheme: a comparison trains one network for each loss, seed and fold and calibrates "
            "on a part that all losses share. Set it to split or auto."
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


def _repeated(values: Iterable[object]) -> list[str]:
    return [str(value) for value, count in Counter(values).items() if count > 1]
