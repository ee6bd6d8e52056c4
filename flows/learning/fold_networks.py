"""The networks of a cross-fitting: several at once where there are cores or GPUs, each trained once."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flows.learning.study_files import StudyFiles
from flows.running.console import progress, say
from flows.running.jobs import Runner, share_resources
from flows.running.runners import finished
from flows.running.steps import run_once
from pipeline import tracking
from pipeline.config import Study
from pipeline.files import fingerprint, read_json
from pipeline.learning.cross_fitting import HELD_OUT, LEARNED, CrossFit, FoldNetwork, deal_folds, train_fold
from pipeline.learning.devices import choose_device, torch_threads
from pipeline.learning.ensemble_training import MEMBERS, member_folder
from pipeline.learning.inference import predict
from pipeline.learning.loading import LabelledVolumes
from pipeline.learning.split_cohort import SplitCohort


@dataclass(frozen=True, eq=False)
class FoldOrder:
    """What a worker needs to train one network; `threads` are those of torch."""

    study: Study
    volumes: LabelledVolumes
    network: FoldNetwork
    folder: Path
    threads: int


def train_one(order: FoldOrder) -> None:
    """Train one network unless that is done already."""
    split = order.network.split
    settings = order.study.learning_settings()
    key = fingerprint(order.volumes.digest(), split.digest(), order.network.seed, settings)

    def work() -> Iterable[Path]:
        with torch_threads(order.threads):
            train_fold(order.volumes, order.network, order.study, order.folder)
        return [order.folder / name for name in (LEARNED, HELD_OUT)]

    run_once(order.folder / "done.json", key, work)


def fit_folds(study: Study, scans: SplitCohort, files: StudyFiles) -> Iterable[Path]:
    """Train a network for each fold, and predict each development scan by those that never saw its subject.

    Returns
    -------
    iterable of Path
        Networks, the predictions of the development and the test scans, and the outlier detector.
    """
    names = scans.volumes.class_names
    label_of = {i: names[k] for i, k in zip(scans.volumes.scan_ids, scans.volumes.labels, strict=True)}
    validation = study.split.validation / (1 - study.split.test)
    dealt = deal_folds(scans.split, label_of, study.calibration, validation, study.seed)
    folds = 1 + max(network.fold for network in dealt)
    repeats = f", {study.calibration.repeats} times" if study.calibration.repeats > 1 else ""
    say(
        f"Training {len(dealt)} networks {study.network.name} with {study.training.loss.title}: the "
        f"{len(scans.split.train)} development scans are dealt into {folds} folds{repeats}, and each network "
        "leaves one out."
    )
    workers = min(len(dealt), study.calibration.workers or _at_once(study))
    threads = max(1, _cores() // workers)
    orders = [
        FoldOrder(
            study.without_places(), scans.volumes, network, member_folder(files.training, number), threads
        )
        for number, network in enumerate(dealt)
    ]
    runner = Runner("processes" if workers > 1 else "local", workers, retries=1)
    from flows.running.task_runs import JobRuns  # a worker imports this file, and needs no Prefect

    shown = JobRuns([f"train fold {n} of {len(orders)}" for n in range(1, len(orders) + 1)], len(orders))
    with progress("train") as tick:
        for done, outcome in enumerate(finished(train_one, orders, runner, shown.started), start=1):
            shown.ended(outcome.index, error=outcome.error)
            if outcome.error is not None:
                raise outcome.error
            _log_fold(orders[outcome.index], f"fold {outcome.index + 1} of {len(orders)}")
            tick(done, len(orders), "networks")
    found = CrossFit.gather(dealt, scans.part("train"), files.training, study.decision.ood_quantile)
    test = predict(found.trained.network, scans.part("test"), device=study.training.device)
    return [
        found.trained.save(files.network) / MEMBERS,
        found.held_out.save(files.predictions("calibration")),
        test.save(files.predictions("test")),
        found.save_outliers(files.outliers),
    ]


def _log_fold(order: FoldOrder, name: str) -> None:
    """Show a trained network as a nested run in MLflow."""
    history = read_json(order.folder / "training.json")["history"]
    scans = len(order.network.split.train)
    params = {"repeat": order.network.repeat, "fold": order.network.fold, "scans": scans}
    tracking.log_part(name, history, params)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _at_once(study: Study) -> int:
    """Return how many networks to train at once: one for each GPU, or else one for each core."""
    if choose_device(study.training.device).type == "cpu":
        return _cores()
    return len({resources.gpu for resources in share_resources(_cores())})
