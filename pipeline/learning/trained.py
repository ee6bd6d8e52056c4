"""A trained network with its preprocessing and the record of its training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

from models.arrays import Floats
from models.networks import Network, build_network
from models.preprocessing import AnyPreprocessing, preprocessing_from_dict
from pipeline.files import read_json, write_json, written_whole
from pipeline.learning.prior_correction import PriorCorrection

WEIGHTS = "network.safetensors"
RECORD = "training.json"

Metrics = dict[str, float]


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network at the end of its training, on the CPU and in evaluation mode.

    Parameters
    ----------
    name, options
        Arguments of `models.networks.build_network`.
    class_counts : tuple of int
        Training scans of each class.
    sampling : str
        How scans were drawn; ``"unchanged"`` for the network of a stored classifier.
    prior_correction : PriorCorrection
        Already applied to the last layer, so that the logits are calibrated to the class shares of training.
    best_epoch : int
        Epoch (from 0) of the weights.
    history : tuple of dict
        Per epoch: epoch, learning_rate, loss, validation_nll, validation_nll_at_best_temperature,
        validation_balanced_accuracy, seconds.
    made_of : str
        Fingerprint of data, split and settings.
    """

    network: Network
    name: str
    options: dict[str, Any]
    preprocessing: AnyPreprocessing
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    sampling: str
    prior_correction: PriorCorrection
    best_epoch: int
    history: tuple[Metrics, ...]
    made_of: str

    @property
    def prevalence(self) -> Floats:
        """Class shares to which the logits are calibrated, shape (K,): those of the training scans."""
        shares: Floats = np.array(self.class_counts) / sum(self.class_counts)
        return shares

    def save(self, folder: Path) -> Path:
        """Write weights and record; the record last, so that it marks the weights as complete."""
        with written_whole(folder / WEIGHTS) as beside:
            save_file({k: v.contiguous() for k, v in self.network.state_dict().items()}, beside)
        record = {
            "network": {"name": self.name, "options": self.options},
            "preprocessing": self.preprocessing.to_dict(),
            "class_names": self.class_names,
            "class_counts": self.class_counts,
            "sampling": self.sampling,
            "prior_correction": self.prior_correction.to_dict(),
            "best_epoch": self.best_epoch,
            "history": self.history,
            "made_of": self.made_of,
        }
        write_json(folder / RECORD, record)
        return folder

    @classmethod
    def load(cls, folder: Path) -> TrainedNetwork:
        """Read what `save` wrote, in this version or an earlier one."""
        record = read_json(folder / RECORD)
        preprocessing = preprocessing_from_dict(record["preprocessing"])
        name, options = record["network"]["name"], record["network"]["options"]
        network = build_network(
            name, len(record["class_names"]), preprocessing.in_shape, preprocessing.spatial_dims, **options
        )
        network.load_state_dict(load_file(folder / WEIGHTS))
        return cls(
            network.eval(),
            name,
            options,
            preprocessing,
            tuple(record["class_names"]),
            tuple(record["class_counts"]),
            record["sampling"],
            PriorCorrection.from_dict(record.get("prior_correction") or record["undone"]),  # its older name
            record["best_epoch"],
            tuple(record["history"]),
            record["made_of"],
        )
