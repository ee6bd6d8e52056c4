"""The networks of a classifier as the start of a new calibration."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch

from models.classifier import CalibratedClassifier
from models.ensemble import Ensemble
from models.networks import Network
from pipeline.errors import InputError
from pipeline.learning.ensemble_training import TrainedEnsemble
from pipeline.learning.prior_correction import PriorCorrection
from pipeline.learning.trained import TrainedNetwork


def recalibrate(
    classifier: CalibratedClassifier, class_counts: Sequence[int], made_of: str
) -> TrainedEnsemble:
    """Return a classifier's networks with their logits corrected to other class shares.

    They are then calibrated on scans that none of them learned from: those of the calibration part, or, where
    they were cross-fitted, scans of new subjects only. Cross-fitted networks answer as one from here on; the
    folds they came from have no further part, and prediction sets and the outlier detector come from the
    calibration scans.

    Parameters
    ----------
    classifier : CalibratedClassifier
        Its networks are copied.
    class_counts : sequence of int, length K
        Scans of each class in the cohort to calibrate to; none may be zero.
    made_of : str
        Goes into the record in place of the fingerprint of data and settings.

    Raises
    ------
    InputError
        If a class has no scan.
    """
    counts = np.asarray(class_counts)
    if (counts < 1).any():
        missing = ", ".join(n for n, c in zip(classifier.class_names, counts, strict=True) if c < 1)
        raise InputError(
            f"There are no scans of {missing} to calibrate with", hint="Add scans of every class"
        )
    offset = torch.from_numpy(np.log(counts / counts.sum()) - np.log(classifier.prevalence))
    correction = PriorCorrection(torch.ones(len(counts), dtype=torch.float64), offset)
    members = []
    for network in _members(classifier.network):
        network.rescale_logits(correction.scale, correction.offset)
        members.append(
            TrainedNetwork(
                network.eval(), classifier.network_name, dict(classifier.network_options),
                classifier.preprocessing, classifier.class_names, tuple(counts.tolist()),
                "unchanged", correction, 0, (), made_of,
            )
        )  # fmt: skip
    average = classifier.network.average if isinstance(classifier.network, Ensemble) else "probabilities"
    return TrainedEnsemble(tuple(members), average)


def _members(network: Network) -> list[Network]:
    own = copy.deepcopy(network)
    if not isinstance(own, Ensemble):
        return [own]
    return [Network(body, head) for body, head in zip(own.body, own.head, strict=True)]
