"""The networks of a cross-fitting: several at once where there are cores or GPUs, each trained once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.learning.study_files import StudyFiles
from flows.running.console import say
from flows.running.epochs import following, note_epoch
from flows.running.jobs import Runner, share_resources
from flows.running.runners import finished
from flows.running.steps import run_once
from pipeline import tracking
from pipeline.config import Study
from pipeline.files import fingerprint, read_json
from pipeline.learning.cross_fitting import HELD_OUT, LEARNED, CrossFit, FoldNetwork, assign_folds, train_fold
from pipeline.learning.devices import choose_device, ranks, torch_threads
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

    def note(epoch: int, _epochs: int, metrics: Mapping[str, float]) -> None:
        note_epoch(order.folder, epoch, metrics)

    def work() -> Iterable[Path]:
        with torch_threads(order.threads):
            train_fold(order.volumes, order.network, order.study, order.folder, note)
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
    assigned = assign_folds(scans.split, label_of, study.calibration, validation, study.seed)
    folds = 1 + max(network.fold for network in assigned)
    repeats = f", {study.calibration.repeats} times" if study.calibration.repeats > 1 else ""
    say(
        f"Training {len(assigned)} networks {study.network.name} with {study.training.loss.title}: the "
        f"{len(scans.split.train)} development scans are divided into {folds} folds{repeats}, and each "
        "network leaves one out."
    )
    shared = ranks().number  # processes that share every step: then the networks are trained one by one
    workers = 1 if shared > 1 else min(len(assigned), study.calibration.workers or _at_once(study))
    threads = max(1, _cores() // (workers * shared))
    orders = [
        FoldOrder(study.for_worker(), scans.volumes, network, member_folder(files.training, number), threads)
        for number, network in enumerate(assigned)
    ]
    runner = Runner("processes" if workers > 1 else "local", workers, retries=1)
    _train_all(orders, runner, study.training.epochs)
    found = CrossFit.gather(assigned, scans.part("train"), files.training, study.decision.ood_quantile)
    test = predict(found.trained.network, scans.part("test"), device=study.training.device)
    return [
        found.trained.save(files.network) / MEMBERS,
        found.held_out.save(files.predictions("calibration")),
        test.save(files.predictions("test")),
        found.save_outliers(files.outliers),
    ]


def _train_all(orders: Sequence[FoldOrder], runner: Runner, epochs: int) -> None:
    """Train every network; each is a task in Prefect and a nested run in MLflow, which gets each epoch."""
    from flows.running.job_runs import JobRuns  # a worker imports this file without Prefect
    from flows.running.task_runs import shared_progress

    number = len(orders)
    names = [f"fold {n} of {number}" for n in range(1, number + 1)]
    shown = JobRuns([f"train {name}" for name in names], number)
    with shared_progress("train") as tick:
        passed = [0] * number

        def epoch_done(index: int, epoch: int, metrics: Mapping[str, float]) -> None:
            passed[index] = epoch
            tick(sum(passed), number * epochs, "epochs")
            tracking.log_part_epoch(names[index], _params(orders[index]), epoch, metrics)

        with following([order.folder for order in orders], epoch_done) as follower:

            def started(index: int) -> None:
                shown.started(index)
                follower.started(index)

            for outcome in finished(train_one, orders, runner, started):
                follower.ended(outcome.index)
                shown.ended(outcome.index, error=outcome.error)
                if outcome.error is not None:
                    raise outcome.error
                passed[outcome.index] = epochs  # it may have stopped early
                tick(sum(passed), number * epochs, "epochs")
                order = orders[outcome.index]
                history = read_json(order.folder / "training.json")["history"]
                tracking.log_part(names[outcome.index], history, _params(order))


def _params(order: FoldOrder) -> dict[str, object]:
    network = order.network
    return {"repeat": network.repeat, "fold": network.fold, "scans": len(network.split.train)}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _at_once(study: Study) -> int:
    """Return how many networks to train at once: one for each GPU, or else one for each core."""
    if choose_device(study.training.device).type == "cpu":
        return _cores()
    return len({resources.gpu for resources in share_resources(_cores())})
