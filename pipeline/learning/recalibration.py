"""The networks of a classifier as if they had just been trained: what a new calibration starts from."""

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
    """Return a classifier's networks with their logits moved to other class shares.

    Parameters
    ----------
    classifier : CalibratedClassifier
        Its networks are copied.
    class_counts : sequence of int, length K
        Scans of each class where the probabilities are to be calibrated; none may be zero.
    made_of : str
        What stands in the record in place of data and settings.

    Raises
    ------
    InputError
        If a class has no scan.
    """
    counts = np.asarray(class_counts)
    if (counts < 1).any():
        missing = ", ".join(n for n, c in zip(classifier.class_names, counts, strict=True) if c < 1)
        raise InputError(f"Every class must have scans to calibrate with, {missing} has none")
    offset = torch.from_numpy(np.log(counts / counts.sum()) - np.log(classifier.prevalence))
    unscaled = PriorCorrection(torch.ones(len(counts), dtype=torch.float64), offset)
    members = []
    for network in _members(classifier.network):
        network.rescale_logits(unscaled.scale, unscaled.offset)
        members.append(
            TrainedNetwork(
                network.eval(), classifier.network_name, dict(classifier.network_options),
                classifier.preprocessing, classifier.class_names, tuple(counts.tolist()),
                "kept", unscaled, 0, (), made_of,
            )
        )  # fmt: skip
    return TrainedEnsemble(tuple(members))


def _members(network: Network) -> list[Network]:
    own = copy.deepcopy(network)
    if not isinstance(own, Ensemble):
        return [own]
    return [Network(body, head) for body, head in zip(own.body, own.head, strict=True)]
