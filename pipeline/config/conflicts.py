"""Settings that cannot work together, each with its keys and its fix: found before any work is done."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

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
from pipeline.diagnoses import DIAGNOSIS, spelling

if TYPE_CHECKING:
    from pipeline.config.study import Study

PUBLISHED_SPLIT = ("medmnist", "cifar10", "cifar100", "tiny_imagenet")
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
        _curve,
        _phantom,
        _places,
        _schedules,
    )
    return [problem for check in checks for problem in check(study)]


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
    yield from _class_words(study)
    if study.cohort.image_size is not None and study.cohort.kind != "image_folder":
        yield (
            f"cohort.image_size: pictures of kind {study.cohort.kind} have a size of their own; remove it, "
            "or set cohort.kind to image_folder."
        )


def _class_words(study: Study) -> Iterator[str]:
    cohort = study.cohort
    if cohort.kind != "bids" and (cohort.merge or cohort.labels or cohort.target != DIAGNOSIS):
        yield (
            "cohort.merge, cohort.labels, cohort.target: they are for scans, found cohort.kind "
            f"{cohort.kind}; remove them."
        )
    if repeated := cohort.words.repeated():
        yield f"cohort.merge: {', '.join(repeated)} is in two classes; leave it in one."
    if unlisted := [name for name in cohort.merge if name not in cohort.classes]:
        yield (
            f"cohort.merge: {', '.join(unlisted)} is not in cohort.classes ({', '.join(cohort.classes)}); "
            "add it there, or remove cohort.classes."
        )
    taken = {spelling(word): name for name, words in cohort.merge.items() for word in words}
    for name in cohort.classes:
        into = taken.get(spelling(name), name)
        if into != name:
            yield f"cohort.classes: {name} is merged into {into}; leave {name} out of cohort.classes."


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
    if repeated := _repeated(asked.batch_sizes):
        yield f"compare.batch_sizes: {', '.join(repeated)} appears twice; name each size once."
    if (asked.folds or 1) > 1 and study.cohort.kind in PUBLISHED_SPLIT:
        yield (
            f"compare.folds: {asked.folds} folds cannot replace the published split of cohort.kind "
            f"{study.cohort.kind}, results would not be comparable; set it to 1, or remove it."
        )


def _curve(study: Study) -> Iterator[str]:
    shares = study.curve.shares
    if list(shares) != sorted(set(shares)) or shares[-1] != 1:
        yield (
            f"curve.shares: {', '.join(f'{share:g}' for share in shares)} do not ascend to 1; write them "
            "from the smallest to 1, as [0.25, 0.5, 1]."
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
    if study.labels.from_reads and study.cohort.kind != "bids":
        yield (
            f"labels.from_reads: a cohort of kind {study.cohort.kind} has no scans that are read; remove the "
            "section labels."
        )
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
    ports = [(key, getattr(study.serve, key)) for key in ("prefect_port", "mlflow_port", "reads_port")]
    for (first, port), (second, other) in itertools.combinations(ports, 2):
        if port and port == other:
            yield f"serve.{first}, serve.{second}: both are {port}; choose two."


def _schedules(study: Study) -> Iterator[str]:
    for key in ("ingest", "shift", "retrain", "reports", "week"):
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


def _repeated(values: Iterable[object]) -> list[str]:
    return [str(value) for value, count in Counter(values).items() if count > 1]
