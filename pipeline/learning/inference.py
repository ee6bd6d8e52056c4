"""Running a trained network over labelled volumes or images."""

from __future__ import annotations

from models.networks import Network, run
from pipeline.learning.devices import choose_device
from pipeline.learning.loading import LabelledVolumes
from pipeline.learning.predictions import Predictions
from pipeline.learning.trained import TrainedNetwork


def predict(
    network: Network | TrainedNetwork,
    volumes: LabelledVolumes,
    *,
    batch_size: int | None = None,
    device: str = "auto",
) -> Predictions:
    """Return logits and features of every scan; nothing is fitted and nothing is calibrated here.

    Parameters
    ----------
    network : Network or TrainedNetwork
        On return it is on the CPU again.
    volumes : LabelledVolumes
    batch_size : int, optional
        Scans in memory at once; 16 volumes or 512 images where not given.
    device : {"auto", "cpu", "cuda"}

    Returns
    -------
    Predictions
    """
    network = network.network if isinstance(network, TrainedNetwork) else network
    at_once = batch_size or (512 if volumes.preprocessing.spatial_dims == 2 else 16)
    try:
        logits, features = run(
            network.to(choose_device(device)),
            volumes.volumes,
            batch_size=at_once,
            normalise=volumes.preprocessing.normalise,
        )
    finally:
        network.cpu()
    return Predictions(
        volumes.scan_ids, volumes.subjects, logits, volumes.labels, features, volumes.class_names
    )
