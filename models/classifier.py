"""The calibrated classifier: from an SUVR volume to probabilities, with how far they can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.arrays import Floats
from models.bundle import BundleFormatError, read_bundle, write_bundle
from models.calibrators import Calibrator
from models.card import Card
from models.conformal import ConformalSets
from models.ensemble import build_members, describe_members, member_logits, members_in, uncertainty_of
from models.interval import calibrated_members, calibrator_draws, plausible_range
from models.networks import Network, run
from models.outliers import OutlierDetector
from models.prediction import Prediction, decided
from models.preprocessing import Preprocessing
from models.prevalence import adjust_draws, adjust_prevalence
from models.saliency import saliency, to_picture
from models.shares import read_shares
from models.typical_scans import TypicalScan, arrays_of, typical_scans_in

__all__ = ["BundleFormatError", "CalibratedClassifier", "Prediction", "Preprocessing"]

Suvr = NDArray[np.floating[Any]]
_LIMITS = ("largest_set", "range_factor", "ood_quantile")
"""Bundles of older versions lack these: they refer every set of several classes."""


@dataclass(frozen=True, eq=False)
class CalibratedClassifier:
    """A network with its preprocessing, calibration and limits: stored and loaded as one.

    Parameters
    ----------
    preprocessing : Preprocessing
        From an SUVR volume to the network's input, as in training.
    network : Network
        May be a `models.ensemble.Ensemble` of several.
    network_name, network_options
        Arguments of `build_network` for it, or for each of its members.
    calibrator : Calibrator
        Fitted on the calibration scans.
    refits : tuple of Calibrator
        The same calibrator fitted on bootstrap draws of the calibration subjects; none where its own draws
        give the range of a probability.
    class_names : tuple of str, length K
    prevalence : tuple of float, length K
        Class shares of training, which the probabilities assume.
    operating_point : float
        Least confidence that is reported.
    card : Card
        Facts of training and test, for reports.
    largest_set : int
        Most classes a prediction set may have for the scan to be reported.
    range_factor : float or None
        See `models.interval.plausible_range`; None for classifiers of older versions.
    ood_quantile : float or None
        Share of held-out scans within each limit of `outliers`; None where it is not known.
    typical_scans : tuple of TypicalScan
        For reports; none in bundles of older versions.

    Raises
    ------
    ValueError
        If classes, prevalence and conformal sets do not agree in number.
    """

    preprocessing: Preprocessing
    network: Network
    network_name: str
    network_options: Mapping[str, Any]
    calibrator: Calibrator
    refits: tuple[Calibrator, ...]
    conformal: ConformalSets
    outliers: OutlierDetector
    class_names: tuple[str, ...]
    prevalence: tuple[float, ...]
    operating_point: float
    card: Card = field(default_factory=Card)
    largest_set: int = 1
    range_factor: float | None = None
    ood_quantile: float | None = None
    typical_scans: tuple[TypicalScan, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.class_names) == len(self.prevalence) == len(self.conformal.thresholds):
            raise ValueError(
                "The parts of a classifier have different numbers of classes: "
                f"{len(self.class_names)} names, {len(self.prevalence)} prevalences and "
                f"{len(self.conformal.thresholds)} thresholds"
            )
        self.network.eval()

    @property
    def network_title(self) -> str:
        """The network's name in texts, with the number of members where several are averaged."""
        members = members_in(self.network)
        return self.network_name if members == 1 else f"{members} x {self.network_name}"

    def to(self, device: str | torch.device) -> CalibratedClassifier:
        """Move the network to a device and return the classifier."""
        self.network.to(device)
        return self

    def logits(self, suvr: Suvr) -> tuple[Floats, NDArray[np.float32]]:
        """Return logits (N, K) and features (N, F) of SUVR volumes (N, X, Y, Z) on the template grid."""
        return run(self.network, np.stack([self.preprocessing(volume) for volume in suvr]))

    def predict(
        self,
        suvr: Suvr,
        *,
        quality_reasons: Sequence[str] = (),
        prevalence: Mapping[str, float] | Sequence[float] | None = None,
    ) -> Prediction:
        """Classify one scan.

        Parameters
        ----------
        suvr : ndarray, shape (X, Y, Z)
            On the template grid.
        quality_reasons : sequence of str
            Warnings of quality control; each is a reason to refer.
        prevalence : mapping of class name to share, or sequence of K shares, optional
            Of the clinic the scan comes from, see `models.shares.read_shares`. Range, set, confidence and
            decision are then those at the clinic.

        Raises
        ------
        ValueError
            If the volume is not on the grid or not finite, or the prevalence does not fit the classes.

        Notes
        -----
        At any prevalence at most ``1 - operating_point`` of calibrated answers at or above the operating
        point are wrong on average; that at most `max_risk` are was measured at the prevalence of training.
        """
        return self.predict_batch([suvr], quality_reasons=[quality_reasons], prevalence=prevalence)[0]

    def predict_batch(
        self,
        suvr: Sequence[Suvr] | Suvr,
        *,
        quality_reasons: Sequence[Sequence[str]] | None = None,
        prevalence: Mapping[str, float] | Sequence[float] | None = None,
    ) -> list[Prediction]:
        """Classify several scans, or none; parameters as in `predict`, one entry a scan."""
        if not len(suvr):
            return []
        found = self.logits(np.asarray(suvr))
        return self.decide(*found, quality_reasons=quality_reasons, prevalence=prevalence)

    def decide(
        self,
        logits: Floats,
        features: NDArray[np.float32],
        *,
        quality_reasons: Sequence[Sequence[str]] | None = None,
        prevalence: Mapping[str, float] | Sequence[float] | None = None,
    ) -> list[Prediction]:
        """Classify scans from their `logits` and features; other parameters as in `predict_batch`."""
        shares = None if prevalence is None else read_shares(prevalence, self.class_names)
        stated = None if shares is None else np.array(list(shares.values()))
        members = member_logits(self.network, logits, features)
        probabilities = self.calibrator.transform(logits)
        shown, inside = probabilities, self.conformal.sets(probabilities)
        if stated is not None:
            shown = adjust_prevalence(probabilities, self.prevalence, stated)
            inside = self.conformal.sets(probabilities, shown) & (stated > 0)
        lower, upper = map(_rows, self._range(shown, members, stated))
        spread = uncertainty_of(calibrated_members(self.calibrator, members))
        alone = members_in(self.network) == 1
        found = {
            "probabilities": _rows(probabilities),
            "lower": lower,
            "upper": upper,
            "prediction_set": [tuple(np.array(self.class_names)[row].tolist()) for row in inside],
            "mahalanobis": self.outliers.mahalanobis(features).tolist(),
            "energy": self.outliers.energy(logits).tolist(),
            "logits": _rows(logits),
            "confidence": shown.max(axis=1).tolist(),
            "clinic_probabilities": [None] * len(shown) if stated is None else _rows(shown),
            "entropy": [None] * len(shown) if alone else spread.entropy.tolist(),
            "mutual_information": [None] * len(shown) if alone else spread.mutual_information.tolist(),
        }
        rows = zip(*found.values(), strict=True)
        scans = [self._alike(stated) | dict(zip(found, row, strict=True)) for row in rows]
        quality = quality_reasons if quality_reasons is not None else [()] * len(scans)
        return [decided(Prediction(**scan), reasons) for scan, reasons in zip(scans, quality, strict=True)]

    def saliency(self, suvr: Suvr, class_name: str | None = None) -> NDArray[np.float32]:
        """Show which parts of the scan the probability of a class depends on.

        Parameters
        ----------
        suvr : ndarray, shape (X, Y, Z)
            On the template grid.
        class_name : str, optional
            The most probable class where not given.

        Returns
        -------
        ndarray of float32, shape (X, Y, Z)
            On the template grid, between 0 and 1; see `models.saliency.saliency`.
        """
        chosen = None if class_name is None else self.class_names.index(class_name)
        return to_picture(saliency(self.network, self.preprocessing(suvr), chosen), self.preprocessing)

    def save(self, folder: Path) -> Path:
        """Write ``network.safetensors``, ``arrays.safetensors`` and ``classifier.json``, whole or not at all.

        Raises
        ------
        ValueError
            If the card or an option is not JSON-able, or the folder holds other files.
        """
        description = {
            "preprocessing": self.preprocessing.to_dict(),
            "network": describe_members(self.network, self.network_name, self.network_options),
            "calibrator": self.calibrator.to_dict(),
            "refits": [c.to_dict() for c in self.refits],
            "conformal": self.conformal.to_dict(),
            "class_names": list(self.class_names),
            "prevalence": [float(p) for p in self.prevalence],
            "operating_point": float(self.operating_point),
            "card": self.card.to_dict(),
        } | {name: getattr(self, name) for name in _LIMITS}
        arrays = self.outliers.to_arrays() | arrays_of(self.typical_scans)
        return write_bundle(folder, description, self.network.state_dict(), arrays)

    @classmethod
    def load(cls, folder: Path) -> CalibratedClassifier:
        """Read what `save` wrote; runs no code from it and needs no training configuration.

        Raises
        ------
        BundleFormatError
            If a file is missing or altered, or the format is newer than this program; the file is named. If
            the weights are not those of the network that is described.
        """
        stored, weights, arrays = read_bundle(Path(folder))
        preprocessing = Preprocessing.from_dict(stored["preprocessing"])
        name, options = stored["network"]["name"], stored["network"]["options"]
        network = build_members(stored["network"], len(stored["class_names"]), preprocessing.in_shape)
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise BundleFormatError(
                f"The weights in {folder} are not those of {members_in(network)} x {name}: "
                "store the classifier again"
            ) from error
        return cls(
            preprocessing,
            network,
            name,
            options,
            Calibrator.from_dict(stored["calibrator"]),
            tuple(Calibrator.from_dict(c) for c in stored["refits"]),
            ConformalSets.from_dict(stored["conformal"]),
            OutlierDetector.from_arrays(arrays),
            tuple(stored["class_names"]),
            tuple(stored["prevalence"]),
            stored["operating_point"],
            Card.from_dict(stored.get("card", {})),
            **{limit: stored[limit] for limit in _LIMITS if limit in stored},
            typical_scans=typical_scans_in(arrays),
        )

    def _range(self, shown: Floats, members: Floats, stated: Floats | None) -> tuple[Floats, Floats]:
        drawn = calibrator_draws(self.refits or (self.calibrator,), members)
        if stated is not None:
            drawn = adjust_draws(drawn, self.prevalence, stated)
        return plausible_range(shown, drawn, self.range_factor)

    def _alike(self, stated: Floats | None) -> dict[str, Any]:
        """Return the fields of a prediction that are the same for every scan."""
        return {name: getattr(self, name) for name in _LIMITS} | {
            "class_names": self.class_names,
            "operating_point": self.operating_point,
            "prevalence": self.prevalence,
            "coverage": self.conformal.coverage,
            "mahalanobis_limit": self.outliers.mahalanobis_limit,
            "energy_limit": self.outliers.energy_limit,
            "clinic_prevalence": None if stated is None else tuple(stated.tolist()),
            "decision": "report",
            "reasons": (),
            "networks": members_in(self.network),
        }


def _rows(values: Floats) -> list[tuple[float, ...]]:
    return [tuple(row) for row in values.tolist()]
