"""Cross-fitting: every scan outside the test part is predicted by networks that never saw its subject."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models.ensemble import pooled_logits
from models.outliers import HeldOut, OutlierDetector
from pipeline.config import CalibrationSettings, Study
from pipeline.files import written_whole
from pipeline.learning.ensemble_training import TrainedEnsemble, member_folder, member_seed
from pipeline.learning.inference import predict
from pipeline.learning.loading import LabelledVolumes
from pipeline.learning.predictions import Predictions
from pipeline.learning.prior_correction import PriorCorrection
from pipeline.learning.split import assign_parts, check_classes, subject_classes
from pipeline.learning.trained import Metrics, TrainedNetwork
from pipeline.learning.training import train
from pipeline.scan import Split

LARGEST_COHORT = 1000
"""Labelled scans from which a calibration part of its own is large enough."""
LEARNED, HELD_OUT = "learned.npz", "held_out.npz"


def scheme_of(study: Study, labelled_scans: int) -> str:
    """Return how a study calibrates: as it states, or by the number of labelled scans where that is ``auto``.

    A study that asks for an ensemble of networks on one split gets it.

    Examples
    --------
    >>> study = Study(name="x", output="out", cohort={"path": "bids"})
    >>> scheme_of(study, 200), scheme_of(study, 1000)
    ('cross_fit', 'split')
    """
    if study.calibration.scheme != "auto":
        return study.calibration.scheme
    return "cross_fit" if study.ensemble == 1 and labelled_scans < LARGEST_COHORT else "split"


@dataclass(frozen=True)
class FoldNetwork:
    """One network of a cross-fitting.

    Parameters
    ----------
    repeat, fold : int
        From 0.
    seed : int
        Of its training.
    split : Split
        ``train`` and ``validation`` make the network, ``calibration`` is the fold that it never sees; there
        is no test part.
    """

    repeat: int
    fold: int
    seed: int
    split: Split


def _development(folds: int) -> int:
    """Return the fewest development subjects of a class: held out, for validation and to learn from."""
    return 4 if folds == 2 else 3


def least_subjects(study: Study, scans: int) -> int:
    """Return the fewest subjects of a class that a study of so many scans learns from.

    Every part has one, and where it is cross-fitted, enough are left outside of the test part.
    """
    least = max(4, study.cohort.min_subjects_per_class)
    if scheme_of(study, scans) == "cross_fit":
        needed = _development(study.calibration.folds)
        while least - max(1, round(study.split.test * least)) < needed:
            least += 1
    return least


def assign_folds(
    split: Split, label_of: Mapping[str, str], settings: CalibrationSettings, validation: float, seed: int
) -> tuple[FoldNetwork, ...]:
    """Deal the development scans into folds, `repeats` times, by subject and class.

    Folds differ by at most one subject of a class. Subjects are ordered by a keyed hash of their name, so the
    folds depend on neither the order of the scans nor the platform.

    Parameters
    ----------
    split : Split
        Its ``train`` part holds all development scans.
    label_of : mapping of scan id to class name
    settings : CalibrationSettings
        Its folds and repeats; fewer folds where the development scans have fewer subjects.
    validation : float
        Share of the other folds' subjects that choose the epoch.
    seed : int
        Of the study.

    Raises
    ------
    CohortError
        If a class has fewer than three development subjects, four with two folds: one or two are held out,
        one validates, one is left to learn from.

    Examples
    --------
    >>> ids = [f"sub-{n:02d}_ses-M0" for n in range(20)]
    >>> whole = Split(tuple(ids), (), (), (), {i: i[:6] for i in ids})
    >>> labels = {i: "AD" if n % 2 else "CN" for n, i in enumerate(ids)}
    >>> assigned = assign_folds(whole, labels, CalibrationSettings(), 0.1, seed=0)
    >>> [len(network.split.calibration) for network in assigned]
    [4, 4, 4, 4, 4]
    """
    ids = split.train
    class_of = subject_classes([split.subject_of[i] for i in ids], [label_of[i] for i in ids], ids)
    folds = min(settings.folds, len(class_of))
    least = _development(folds)
    needs = (
        f" outside the test part. Cross-fitting needs at least {least} of each class: held out, for "
        "validation and to learn from"
    )
    # Of every class that has scans: one may have none but the odd scan of subjects of other classes.
    check_classes(class_of, sorted(set(label_of.values())), least, needs)
    assigned = []
    for repeat in range(settings.repeats):
        key = f"cross-fit:{seed}:{repeat}"
        # Counted on from class to class: else the first folds would get one more subject of each.
        in_order = sorted(class_of, key=lambda s: (class_of[s], _rank(key, s)))
        fold_of = {subject: place % folds for place, subject in enumerate(in_order)}
        for fold in range(folds):
            number = repeat * folds + fold
            others = {s: c for s, c in class_of.items() if fold_of[s] != fold}
            part_of = assign_parts(others, {"validation": validation}, seed=member_seed(seed, number))
            of_scan = {i: part_of.get(split.subject_of[i], "calibration") for i in ids}
            parts = {
                p: tuple(i for i in ids if of_scan[i] == p) for p in ("train", "validation", "calibration")
            }
            own = Split(**parts, test=(), subject_of={i: split.subject_of[i] for i in ids})
            assigned.append(FoldNetwork(repeat, fold, member_seed(seed, number), own))
    return tuple(assigned)


def combine(parts: Sequence[Predictions], order: Sequence[str]) -> Predictions:
    """Return one prediction of each scan: the mean of its centred logits over the networks that held it out.

    Parameters
    ----------
    parts : sequence of Predictions
        One for each network, of its own fold.
    order : sequence of str
        Scan ids of the result, each in as many parts as there are repeats.

    Returns
    -------
    Predictions
        Without features: those of different networks are not comparable.
    """
    rows: dict[str, list[tuple[Predictions, int]]] = {i: [] for i in order}
    for part in parts:
        for row, scan_id in enumerate(part.scan_ids):
            rows[scan_id].append((part, row))
    logits = np.stack(
        [pooled_logits(np.stack([p.logits[row] for p, row in rows[i]])[:, None])[0] for i in order]
    )
    first = [rows[i][0] for i in order]
    return Predictions(
        tuple(order),
        tuple(p.subjects[row] for p, row in first),
        logits,
        np.array([p.labels[row] for p, row in first], dtype=np.int64),
        np.zeros((len(order), 0), dtype=np.float32),
        parts[0].class_names,
    )


def study_of(study: Study, network: FoldNetwork) -> Study:
    """Return the study that trains one network of a cross-fitting."""
    return study.model_copy(update={"seed": network.seed})


def train_fold(
    volumes: LabelledVolumes,
    network: FoldNetwork,
    study: Study,
    folder: Path,
    progress: Callable[[int, int, Metrics], None] | None = None,
) -> None:
    """Train one network, resuming where it was stopped, and store its predictions beside it.

    Parameters
    ----------
    volumes : LabelledVolumes
        At least the development scans.
    folder : Path
        Gets what `pipeline.learning.training.train` writes, ``learned.npz`` of the scans it learned from and
        ``held_out.npz`` of those it never saw.
    progress : callable, optional
        As in `train`.
    """
    trained = train(volumes, network.split, study_of(study, network), folder, progress)
    for name, part in ((LEARNED, "train"), (HELD_OUT, "calibration")):
        of_part = volumes.subset(network.split.part(part))
        predict(trained, of_part, device=study.training.device).save(folder / name)


@dataclass(frozen=True, eq=False)
class CrossFit:
    """The networks of a cross-fitting as one, and what they predict for the scans they never saw.

    Parameters
    ----------
    held_out : Predictions
        Of all development scans, without features.
    outliers : OutlierDetector
        Of the average of all networks.
    """

    trained: TrainedEnsemble
    held_out: Predictions
    outliers: OutlierDetector

    @classmethod
    def gather(
        cls, assigned: Sequence[FoldNetwork], development: LabelledVolumes, folder: Path, quantile: float
    ) -> CrossFit:
        """Read what `train_fold` stored for each network, in ``member-0``, ``member-1`` ... of a folder.

        Parameters
        ----------
        quantile : float
            Share of the held-out scans within the limits of the outlier detector.
        """
        folders = [member_folder(folder, number) for number in range(len(assigned))]
        held_out = [Predictions.load(place / HELD_OUT) for place in folders]
        learned = [Predictions.load(place / LEARNED) for place in folders]
        combined = combine(held_out, development.scan_ids)
        features = [
            HeldOut(a.features, a.labels, b.features, b.scan_ids)
            for a, b in zip(learned, held_out, strict=True)
        ]
        members = tuple(TrainedNetwork.load(place) for place in folders)
        return cls(
            TrainedEnsemble(members, "logits", development.class_counts),
            combined,
            OutlierDetector.of_networks(features, combined.logits, combined.scan_ids, quantile),
        )

    def save_outliers(self, path: Path) -> Path:
        """Write the outlier detector whole or not at all."""
        with written_whole(path) as beside, beside.open("wb") as stream:
            np.savez(stream, **self.outliers.to_arrays())  # type: ignore[arg-type]
        return path

    @property
    def prior_correction(self) -> PriorCorrection:
        """The mean of the networks' corrections, which is that of the mean of their logits."""
        each = [member.prior_correction for member in self.trained.members]
        return PriorCorrection(
            torch.stack([correction.scale for correction in each]).mean(dim=0),
            torch.stack([correction.offset for correction in each]).mean(dim=0),
        )


def load_outliers(path: Path) -> OutlierDetector:
    """Read what `CrossFit.save_outliers` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return OutlierDetector.from_arrays(dict(arrays))


def _rank(key: str, subject: str) -> bytes:
    return hashlib.sha256(f"{key}:{subject}".encode()).digest()
