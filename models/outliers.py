"""How unlike the calibration scans a scan is: distance of its features, energy of its logits."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from models.arrays import Floats, Ints

_FOLDS = 5
_SMALLEST_VARIANCE = 1e-12


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Features by one network of a cross-fitting.

    Parameters
    ----------
    learned : ndarray, shape (L, F)
        Of the scans it learned from, with their labels (L,).
    held_out : ndarray, shape (H, F)
        Of the scans it never saw, with their ids.
    """

    learned: NDArray[np.float32]
    labels: Ints
    held_out: NDArray[np.float32]
    scan_ids: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class OutlierDetector:
    """Mahalanobis distance to the nearest class mean, and energy, each with a limit.

    Parameters
    ----------
    means : ndarray, shape (classes seen, M F)
        Mean features of each class with calibration scans; of M networks side by side.
    precision : ndarray, shape (M F, F)
        Inverse of the shrunk covariance of features about their class means, one block of rows per network;
        the distance of a scan is the mean of the networks' distances.
    shrinkage : float
        Share of the covariance that is the scaled identity, 0 to 1; mean over the networks.
    mahalanobis_limit, energy_limit : float
        Larger values are out of distribution.
    typical : ndarray, shape (M,), optional
        After cross-fitting, for each network the median distance of the scans that it never saw. Features of
        different networks are not comparable, so a scan's distance is then the geometric mean over the
        networks of its distance relative to that: 2 is twice as far as a typical held-out scan.

    References
    ----------
    Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples, NeurIPS 2018;
    Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020; shrinkage: Ledoit & Wolf, A
    well-conditioned estimator for large-dimensional covariance matrices, 2004.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat([0, 1], 100)
    >>> features = rng.normal(size=(200, 3)) + 4 * labels[:, None]
    >>> logits = np.stack([-features[:, 0], features[:, 0]], axis=1)
    >>> detector = OutlierDetector.fit(features, logits, labels)
    >>> strange = detector.mahalanobis([[4.0, 4.0, 4.0], [0.0, 12.0, -9.0]]) > detector.mahalanobis_limit
    >>> strange.tolist()
    [False, True]
    """

    means: Floats
    precision: Floats
    shrinkage: float
    mahalanobis_limit: float
    energy_limit: float
    typical: Floats | None = None

    @classmethod
    def fit(
        cls,
        features: ArrayLike,
        logits: ArrayLike,
        labels: ArrayLike,
        quantile: float = 0.99,
        *,
        subjects: Sequence[Hashable] | None = None,
        networks: int = 1,
    ) -> OutlierDetector:
        """Return the detector of calibration scans.

        The distance limit comes from five-fold cross-fitting: a scan that helped to place the means and the
        covariance lies nearer to them than a new one, much nearer where there are as many features as scans.

        Parameters
        ----------
        features : array_like, shape (N, M F)
            Penultimate activations.
        logits : array_like, shape (N, K)
        labels : array_like of int, shape (N,)
        quantile : float
            Share of scans like those of calibration within each limit, in (0, 1). The limit is the
            ``ceil((N + 1) quantile)``-th smallest value, the largest one where N is too small for that: then
            about one such scan in N + 1 lies beyond.
        subjects : sequence, length N, optional
            Subject of each row; all scans of a subject are then in one fold.
        networks : int
            M, the number of networks whose features are side by side.

        Raises
        ------
        ValueError
            If the lengths differ, there are fewer than two scans, a value is not finite, `quantile` lies
            outside (0, 1), or the number of features is not a multiple of `networks`.
        """
        x, z, y = _checked(features, logits, labels, quantile)
        if x.shape[1] % networks:
            raise ValueError(
                f"There are {x.shape[1]} features. Expected those of {networks} networks side by side."
            )
        distances = np.empty(len(x))
        folds = _folds(y, subjects)
        for fold in np.unique(folds):
            held_out = folds == fold
            means, precision, _ = _gaussians(x[~held_out], y[~held_out], networks)
            distances[held_out] = _distances(x[held_out], means, precision).mean(axis=0)
        limits = _limit(distances, quantile), _limit(_energy(z), quantile)
        return cls(*_gaussians(x, y, networks), *limits)

    @classmethod
    def of_networks(
        cls, networks: Sequence[HeldOut], logits: ArrayLike, scan_ids: Sequence[str], quantile: float = 0.99
    ) -> OutlierDetector:
        """Return the detector of networks that were cross-fitted.

        Means and covariance of each network are those of the scans it learned from; the limits are those of
        scans it never saw, pooled over the networks. A new scan's distance averages all networks, a held-out
        scan's only as many as there are repeats: fewer scans lie beyond the limit than `quantile` allows.

        Parameters
        ----------
        networks : sequence of HeldOut
            Each held-out scan is in as many of them as there are repeats.
        logits : array_like, shape (N, K)
            Of the held-out scans, each by the networks that never saw it.
        scan_ids : sequence of str, length N
        quantile : float
            As in `fit`.
        """
        gaussians = [_gaussian(n.learned.astype(np.float64), n.labels) for n in networks]
        typical = np.empty(len(networks))
        relative: dict[str, list[float]] = {i: [] for i in scan_ids}
        for number, (network, (means, precision, _)) in enumerate(zip(networks, gaussians, strict=True)):
            distances = np.maximum(
                _to_nearest(network.held_out.astype(np.float64), means, precision), _SMALLEST_VARIANCE
            )
            typical[number] = np.median(distances)
            for scan_id, value in zip(network.scan_ids, np.log(distances / typical[number]), strict=True):
                relative[scan_id].append(float(value))
        return cls(
            np.hstack([means for means, _, _ in gaussians]),
            np.vstack([precision for _, precision, _ in gaussians]),
            float(np.mean([shrinkage for _, _, shrinkage in gaussians])),
            _limit(np.exp([np.mean(relative[i]) for i in scan_ids]), quantile),
            _limit(_energy(np.asarray(logits, dtype=np.float64)), quantile),
            typical,
        )

    def mahalanobis(self, features: ArrayLike) -> Floats:
        """Return the distance (not squared) of features (N, M F) to the nearest class mean, shape (N,).

        Raises
        ------
        ValueError
            If the number of features differs from that of `fit`.
        """
        x = np.asarray(features, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != self.means.shape[1]:
            raise ValueError(
                f"Features have shape {x.shape}. Expected (scans, {self.means.shape[1]}) as in `fit`."
            )
        each = _distances(x, self.means, self.precision)
        if self.typical is None:
            return np.asarray(each.mean(axis=0))
        each = np.maximum(each, _SMALLEST_VARIANCE)
        return np.asarray(np.exp(np.log(each / self.typical[:, None]).mean(axis=0)))

    def energy(self, logits: ArrayLike) -> Floats:
        """Return the energy ``-logsumexp`` of logits (N, K), shape (N,); larger is more unlike."""
        return _energy(np.asarray(logits, dtype=np.float64))

    def to_arrays(self) -> dict[str, Floats]:
        """Return arrays that `from_arrays` reads, as for a safetensors file."""
        arrays = {
            "means": self.means,
            "precision": self.precision,
            "limits": np.array([self.shrinkage, self.mahalanobis_limit, self.energy_limit]),
        }
        return arrays if self.typical is None else arrays | {"typical": self.typical}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Floats]) -> OutlierDetector:
        """Rebuild from `to_arrays`."""
        shrinkage, mahalanobis_limit, energy_limit = (float(v) for v in arrays["limits"])
        limits = (shrinkage, mahalanobis_limit, energy_limit)
        return cls(arrays["means"], arrays["precision"], *limits, arrays.get("typical"))


def ledoit_wolf(residuals: Floats) -> tuple[Floats, float]:
    """Return the covariance of centred rows (N, F), shrunk towards a scaled identity, and by how much.

    The shrinkage minimises the expected squared distance to the true covariance.

    References
    ----------
    Ledoit & Wolf, Journal of Multivariate Analysis 88, 2004, section 3.
    """
    n, f = residuals.shape
    covariance = residuals.T @ residuals / n
    scale = max(float(np.trace(covariance)) / f, _SMALLEST_VARIANCE)
    spread = float((covariance**2).sum()) - f * scale**2
    noise = (float(((residuals**2).sum(axis=1) ** 2).sum()) / n - float((covariance**2).sum())) / n
    shrinkage = min(max(noise / spread, 0.0), 1.0) if spread > 0 else 1.0
    return (1 - shrinkage) * covariance + shrinkage * scale * np.eye(f), shrinkage


def _gaussians(x: Floats, y: Ints, networks: int) -> tuple[Floats, Floats, float]:
    # Separately for each network: one covariance of all their features would be M squared times as large.
    found = [_gaussian(own, y) for own in np.split(x, networks, axis=1)]
    means, precisions, shrinkages = zip(*found, strict=True)
    return np.hstack(means), np.vstack(precisions), float(np.mean(shrinkages))


def _gaussian(x: Floats, y: Ints) -> tuple[Floats, Floats, float]:
    classes, place = np.unique(y, return_inverse=True)
    means = np.stack([x[place == k].mean(axis=0) for k in range(len(classes))])
    covariance, shrinkage = ledoit_wolf(x - means[place])
    # One scan a class leaves no residuals: the floor keeps the inverse finite, every distance is then huge.
    floor = _SMALLEST_VARIANCE * np.eye(x.shape[1])
    return means, np.asarray(np.linalg.inv(covariance + floor), dtype=np.float64), shrinkage


def _distances(x: Floats, means: Floats, precision: Floats) -> Floats:
    """Return the distance of each scan by each network, shape (M, N)."""
    networks = len(precision) // precision.shape[1]
    parts = (np.split(x, networks, axis=1), np.split(means, networks, axis=1), np.split(precision, networks))
    return np.stack([_to_nearest(*own) for own in zip(*parts, strict=True)])


def _to_nearest(x: Floats, means: Floats, precision: Floats) -> Floats:
    squared = np.stack([np.einsum("nf,nf->n", (x - m) @ precision, x - m) for m in means])
    return np.asarray(np.sqrt(np.maximum(squared.min(axis=0), 0)))


def _energy(logits: Floats) -> Floats:
    return np.asarray(-logsumexp(logits, axis=1))


def _folds(y: Ints, subjects: Sequence[Hashable] | None) -> Ints:
    """Deal subjects to folds in turn, in order of their first scan's class, so that classes spread."""
    _, first, person = np.unique(
        np.arange(len(y)) if subjects is None else np.array([str(s) for s in subjects]),
        return_index=True,
        return_inverse=True,
    )
    if len(first) < 2:
        raise ValueError("All scans are of one subject. The limits need scans of at least two.")
    assigned = np.empty(len(first), dtype=np.int64)
    assigned[np.argsort(y[first], kind="stable")] = np.arange(len(first)) % min(_FOLDS, len(first))
    return np.asarray(assigned[person])


def _limit(values: Floats, quantile: float) -> float:
    rank = min(math.ceil((len(values) + 1) * quantile - 1e-9), len(values))
    return float(np.sort(values)[rank - 1])


def _checked(
    features: ArrayLike, logits: ArrayLike, labels: ArrayLike, quantile: float
) -> tuple[Floats, Floats, Ints]:
    x, z = np.asarray(features, dtype=np.float64), np.asarray(logits, dtype=np.float64)
    y = np.asarray(labels, dtype=np.int64)
    if not 0 < quantile < 1:
        raise ValueError(f"quantile is {quantile}. Expected a number between 0 and 1.")
    if x.ndim != 2 or z.ndim != 2 or not len(x) == len(z) == len(y) or len(x) < 2:
        raise ValueError(
            f"Features, logits and labels have shapes {x.shape}, {z.shape} and {y.shape}. "
            "Expected those of the same scans, at least two."
        )
    if not (np.isfinite(x).all() and np.isfinite(z).all()):
        raise ValueError("Features or logits contain NaN or infinity.")
    return x, z, y
