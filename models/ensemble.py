"""Several networks as one: the mean of their probabilities or logits, and how far they disagree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import entr, logsumexp
from torch import Tensor, nn

from models.arrays import Floats
from models.networks import Network, build_network

Average = Literal["probabilities", "logits"]
"""What is averaged over networks. The mean of centred logits is the geometric mean of the probabilities."""


class Ensemble(Network):
    """Networks of the same architecture, trained separately, as one network.

    Its features are those of the members side by side, shape (N, M F). The softmax of its logits is the mean
    of the members' probabilities, or of their centred logits; their energy ``-logsumexp`` is the mean of the
    members' energies.
    Calibration, conformal sets, energy and saliency thus work as with one network: the members are averaged
    first and calibrated together afterwards.

    Parameters
    ----------
    members : sequence of Network
        Two or more; their weights are shared, not copied.
    average : {"probabilities", "logits"}

    Raises
    ------
    ValueError
        If there are fewer than two.

    References
    ----------
    Lakshminarayanan, Pritzel, Blundell, Simple and Scalable Predictive Uncertainty Estimation using Deep
    Ensembles, NeurIPS 2017. Averaging before calibrating: Rahaman & Thiery, Uncertainty Quantification and
    Deep Ensembles, NeurIPS 2021; calibrated members leave an average that is not confident enough.
    """

    body: _Bodies
    head: _Heads

    def __init__(self, members: Sequence[Network], average: Average = "probabilities") -> None:
        if len(members) < 2:
            raise ValueError(f"An ensemble needs at least two networks, but has {len(members)}.")
        super().__init__(_Bodies(m.body for m in members), _Heads((m.head for m in members), average))

    def __len__(self) -> int:
        return len(self.head)

    @property
    def average(self) -> Average:
        """What is averaged over the members."""
        return self.head.average

    def rescale_logits(self, scale: Tensor, offset: Tensor) -> None:
        """Rescale the logits of every member, as `Network.rescale_logits` does."""
        for body, head in zip(self.body, self.head, strict=True):
            Network(body, head).rescale_logits(scale, offset)


class _Bodies(nn.ModuleList):
    """Features of all members side by side."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([body(x) for body in self], dim=1)


class _Heads(nn.ModuleList):
    """Logits of the average, from the members' features side by side."""

    def __init__(self, heads: Iterable[nn.Module], average: Average) -> None:
        super().__init__(heads)
        self.average: Average = average

    def each(self, features: Tensor) -> Tensor:
        """Return the logits of each member, shape (M, N, K)."""
        parts = features.chunk(len(self), dim=1)
        return torch.stack([head(part) for head, part in zip(self, parts, strict=True)])

    def forward(self, features: Tensor) -> Tensor:
        members = self.each(features).double()
        if self.average == "probabilities":
            return pooled(members)
        mean = members.mean(dim=0)
        level = members.logsumexp(dim=2).mean(dim=0)
        return mean + (level - mean.logsumexp(dim=1))[:, None]


def pooled(members: Tensor) -> Tensor:
    """Return logits (N, K) whose softmax is the mean of the members' probabilities.

    Their ``logsumexp`` is the mean of the members'. Members that agree to the bit leave their own logits, to
    the bit.

    Parameters
    ----------
    members : Tensor, shape (M, N, K)
        Logits.

    Examples
    --------
    >>> two = torch.tensor([[[0.0, 0.0]], [[0.0, 1.0986123]]], dtype=torch.float64)
    >>> pooled(two).softmax(dim=1)
    tensor([[0.3750, 0.6250]], dtype=torch.float64)
    """
    levels = members.logsumexp(dim=2)
    level = levels[0] + (levels - levels[0]).mean(dim=0)
    # On one level, so that what follows averages probabilities; sums relative to the largest cannot overflow.
    same = members - (levels - level)[..., None]
    top = same.detach().amax(dim=0)
    return top + torch.log1p(torch.expm1(same - top).mean(dim=0))


def pooled_logits(members: Floats) -> Floats:
    """Return the mean of the members' centred logits, shape (N, K): the geometric mean of probabilities.

    Its ``logsumexp`` is the mean of the members', as with `pooled`.

    Parameters
    ----------
    members : ndarray, shape (M, N, K)
        Logits.

    Examples
    --------
    >>> pooled_logits(np.array([[[0.0, 0.0]], [[0.0, 2.0]]])).round(3)
    array([[0.097, 1.097]])
    """
    mean = np.asarray(members, dtype=np.float64).mean(axis=0)
    level = logsumexp(members, axis=2).mean(axis=0)
    return np.asarray(mean + (level - logsumexp(mean, axis=1))[:, None])


def together(networks: Sequence[Network], average: Average = "probabilities") -> Network:
    """Return the networks as one: a single one as it is, several as an `Ensemble`."""
    return networks[0] if len(networks) == 1 else Ensemble(networks, average)


def build_members(stored: Mapping[str, Any], num_classes: int, in_shape: tuple[int, ...]) -> Network:
    """Build the networks that a bundle describes, as one.

    Parameters
    ----------
    stored : mapping
        ``name`` and ``options`` of `models.networks.build_network`; ``members``, 1 where absent; ``average``,
        of probabilities where absent.
    """
    members = [
        build_network(stored["name"], num_classes, in_shape, **stored["options"])
        for _ in range(stored.get("members", 1))
    ]
    return together(members, stored.get("average", "probabilities"))


def describe_members(network: Network, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `build_members` reads, JSON-able; of a single network its name and options alone."""
    several = {"members": len(network), "average": network.average} if isinstance(network, Ensemble) else {}
    return {"name": name, "options": dict(options)} | several


def members_in(network: Network) -> int:
    """Return the number of networks: 1 for a network that is not an ensemble."""
    return len(network) if isinstance(network, Ensemble) else 1


@torch.no_grad()
def member_logits(network: Network, logits: Floats, features: NDArray[np.float32]) -> Floats:
    """Return the logits of each member, shape (M, N, K), of scans that `models.networks.run` ran.

    Parameters
    ----------
    logits, features : ndarray, shape (N, K) and (N, M F)
        What `run` returned for it.
    """
    if not isinstance(network, Ensemble):
        return logits[None]
    device = next(network.parameters()).device
    each: Floats = network.head.each(torch.from_numpy(features).to(device)).double().cpu().numpy()
    return each


class Uncertainty(NamedTuple):
    """The entropy of averaged probabilities and the part of it that is disagreement, in nats, shape (N,)."""

    entropy: Floats
    mutual_information: Floats


def uncertainty_of(probabilities: Floats) -> Uncertainty:
    """Split the entropy of an ensemble into what its members share and what they disagree about.

    The entropy of the average is the mean entropy of the members (aleatoric: each of them finds the scan
    ambiguous) plus the mutual information of class and member (epistemic: they disagree).

    Parameters
    ----------
    probabilities : ndarray, shape (M, N, K)

    References
    ----------
    Depeweg et al., Decomposition of Uncertainty in Bayesian Deep Learning, ICML 2018.

    Examples
    --------
    >>> members = np.array([[[0.5, 0.5], [1.0, 0.0]], [[0.5, 0.5], [0.0, 1.0]]])
    >>> found = uncertainty_of(members)
    >>> found.entropy.round(3).tolist(), found.mutual_information.round(3).tolist()
    ([0.693, 0.693], [0.0, 0.693])
    """
    # Relative to the first: members that agree to the bit then disagree by exactly nothing.
    mean = np.maximum(probabilities[0] + (probabilities - probabilities[0]).mean(axis=0), 0)
    total, own = entr(mean).sum(axis=-1), entr(probabilities).sum(axis=-1)
    shared = own[0] + (own - own[0]).mean(axis=0)
    return Uncertainty(total, np.maximum(total - shared, 0))
