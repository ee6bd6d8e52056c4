"""Train an ensemble: one network or more, each from its own seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from models.arrays import Floats
from models.ensemble import Average, together
from models.networks import Network
from pipeline.config import Study
from pipeline.files import read_json, write_json
from pipeline.learning.loading import LabelledVolumes
from pipeline.learning.trained import Metrics, TrainedNetwork
from pipeline.learning.training import train
from pipeline.scan import Split

MEMBERS = "members.json"

Progress = Callable[[int, int, Metrics], None]


@dataclass(frozen=True, eq=False)
class TrainedEnsemble:
    """Networks of one study that differ in the seed of their training; often only one."""

    members: tuple[TrainedNetwork, ...]
    average: Average = "probabilities"
    class_counts: tuple[int, ...] = ()
    """Scans of each class whose shares the predictions assume; the first member's training scans if empty."""

    def __len__(self) -> int:
        return len(self.members)

    @cached_property
    def network(self) -> Network:
        """The members as one network; a single member's network as it is."""
        return together([member.network for member in self.members], self.average)

    @property
    def prevalence(self) -> Floats:
        """Class shares to which the logits are calibrated, shape (K,): those of the training scans."""
        counts = np.array(self.class_counts or self.members[0].class_counts)
        return np.asarray(counts / counts.sum(), dtype=np.float64)

    @property
    def history(self) -> tuple[Metrics, ...]:
        """Per epoch the mean of each metric over the members still in training."""
        longest = max(self.members, key=lambda member: len(member.history)).history
        return tuple(
            {
                name: float(np.mean([m.history[n][name] for m in self.members if n < len(m.history)]))
                for name in metrics
            }
            for n, metrics in enumerate(longest)
        )

    def save(self, folder: Path) -> Path:
        """Write each member into its own folder; their number last, as a mark of completeness."""
        for number, member in enumerate(self.members):
            member.save(member_folder(folder, number))
        stored = {"members": len(self), "average": self.average, "class_counts": self.class_counts}
        write_json(folder / MEMBERS, stored)
        return folder

    @classmethod
    def load(cls, folder: Path) -> TrainedEnsemble:
        """Read what `save` wrote."""
        stored = read_json(folder / MEMBERS)
        members = (TrainedNetwork.load(member_folder(folder, n)) for n in range(stored["members"]))
        average, counts = stored.get("average", "probabilities"), stored.get("class_counts", ())
        return cls(tuple(members), average, tuple(counts))


def train_ensemble(
    volumes: LabelledVolumes,
    split: Split,
    study: Study,
    folder: Path,
    progress: Progress | None = None,
) -> TrainedEnsemble:
    """Train the study's networks one by one on the same split, resuming where an earlier call was stopped.

    They differ in initial weights, order of scans, augmentation and dropout; all follow from the study's
    seed. Members of a smaller ensemble are reused in a larger one.

    Parameters
    ----------
    volumes, split, study
        As in `pipeline.learning.training.train`; the study's ``ensemble`` is the number of members.
    folder : Path
        Contains ``member-0``, ``member-1`` and so on.
    progress : callable, optional
        As in `train`; counts the epochs of all members.
    """
    members = []
    for number in range(study.ensemble):
        seeded = study.model_copy(update={"seed": member_seed(study.seed, number)})
        counting = None if progress is None else _counting(progress, number, study.ensemble)
        members.append(train(volumes, split, seeded, member_folder(folder, number), counting))
    return TrainedEnsemble(tuple(members))


def member_seed(seed: int, number: int) -> int:
    """Return the seed of a member; the first has the study's, so that a single network is member 0.

    Examples
    --------
    >>> member_seed(2026, 0), member_seed(2026, 1) == member_seed(2026, 2)
    (2026, False)
    """
    if number == 0:
        return seed
    return int(np.random.SeedSequence(seed, spawn_key=(number,)).generate_state(1)[0])


def member_folder(folder: Path, number: int) -> Path:
    """Return the folder of a member below that of its ensemble."""
    return folder / f"member-{number}"


def _counting(progress: Progress, number: int, members: int) -> Progress:
    def counted(done: int, epochs: int, metrics: Metrics) -> None:
        progress(number * epochs + done, members * epochs, metrics)

    return counted
