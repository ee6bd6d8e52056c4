"""Running a trained network over labelled volumes or images, and a classifier over scans of a cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np

from models.classifier import CalibratedClassifier
from models.networks import Network, run
from pipeline.learning.devices import arithmetic, choose_device
from pipeline.learning.loading import LabelledVolumes, prepare_scans
from pipeline.learning.predictions import Predictions
from pipeline.learning.trained import TrainedNetwork
from pipeline.scan import Cohort


def predict(
    network: Network | TrainedNetwork,
    volumes: LabelledVolumes,
    *,
    batch_size: int | None = None,
    device: str = "auto",
) -> Predictions:
    """Return logits and features of every scan, uncalibrated, computed in float32 on any device.

    Parameters
    ----------
    network : Network or TrainedNetwork
        It is on the CPU afterwards.
    batch_size : int, optional
        Scans in memory at once; 16 volumes or 512 images where not given.
    device : {"auto", "cpu", "cuda"}
    """
    network = network.network if isinstance(network, TrainedNetwork) else network
    at_once = batch_size or (512 if volumes.preprocessing.spatial_dims == 2 else 16)
    try:
        with arithmetic(tf32=False, deterministic=False):  # convolutions of a GPU take TF32 by default
            logits, features = run(
                network.to(choose_device(device)),
                cast(Any, volumes.volumes),  # read batch by batch where they are mapped from a file
                batch_size=at_once,
                normalise=volumes.preprocessing.normalise,
            )
    finally:
        network.cpu()
    return Predictions(
        volumes.scan_ids, volumes.subjects, logits, volumes.labels, features, volumes.class_names
    )


def predict_cohort(classifier: CalibratedClassifier, cohort: Cohort, cache: Path) -> Predictions:
    """Return logits and features of scans; a scan without a diagnosis has the label -1.

    Parameters
    ----------
    cohort : Cohort
        At least one scan.
    cache : Path
        Folder of prepared volumes, as in `prepare_scans`.
    """
    volumes = prepare_scans(cohort, classifier.preprocessing, cache)
    logits, features = run(classifier.network, volumes)
    index: dict[str | None, int] = {name: k for k, name in enumerate(cohort.class_names)}
    labels = np.array([index.get(scan.diagnosis, -1) for scan in cohort.scans], dtype=np.int64)
    return Predictions(cohort.scan_ids, cohort.subjects, logits, labels, features, cohort.class_names)
