"""A long tail: some classes of the training part made rarer, the other parts unchanged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from pipeline.errors import CohortError
from pipeline.scan import Split


def tail_counts(counts: Sequence[int], ratio: float) -> tuple[int, ...]:
    """Return the class counts of a long tail: ``n_max * ratio ** (-k / (K - 1))``, rounded down.

    k is the rank of a class by falling count, in class order where counts are equal: balanced data get the
    benchmarks' tail, imbalanced data keep their order. No class gets more than it has.

    Parameters
    ----------
    counts : sequence of int, length K
    ratio : float
        Largest over smallest class, at least 1.

    References
    ----------
    Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, section 5.1; the rounding
    is that of the code of Cao et al., LDAM, NeurIPS 2019.

    Examples
    --------
    >>> tail_counts([5000] * 10, ratio=100)
    (5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50)
    >>> tail_counts([20, 900, 400], ratio=9)
    (20, 900, 300)
    """
    have = np.asarray(counts, dtype=np.int64)
    places = np.empty(len(have))
    places[np.argsort(-have, kind="stable")] = np.arange(len(have))
    wanted = have.max() * float(ratio) ** (-places / max(1, len(have) - 1))
    # A whole number may come out a hair below itself.
    return tuple(np.minimum(have, np.floor(wanted + 1e-6).astype(np.int64)).tolist())


def long_tail(
    split: Split, label_of: Mapping[str, int], class_names: Sequence[str], *, ratio: float, seed: int
) -> Split:
    """Thin out the training part of a split to a long tail; the other parts are unchanged.

    The calibration and validation parts are thus held out *before* the tail is cut: they keep the class mix
    of the data, as the test part does, so that a calibrator is fitted on the mix it is evaluated on. In a
    balanced benchmark rare classes then have more calibration scans than a naturally imbalanced cohort has.
    The literature also holds out after cutting; the paper of GCE does not state its choice.

    Scans are dropped by a keyed hash of their ids, so that a steeper tail is a subset of a gentler one. The
    unit is the scan, not the subject: a subject may keep one visit of three.

    Parameters
    ----------
    ratio : float
        See `tail_counts`; 1 changes nothing.
    seed : int
        Decides which scans remain.

    Raises
    ------
    CohortError
        If a class would be left without a scan.
    """
    if ratio == 1:
        return split
    members: list[list[str]] = [[] for _ in class_names]
    for scan_id in split.train:
        members[label_of[scan_id]].append(scan_id)
    counts = tail_counts([len(ids) for ids in members], ratio)
    emptied = [
        f"{name} (of {len(ids)})" for name, ids, n in zip(class_names, members, counts, strict=True) if not n
    ]
    if emptied:
        raise CohortError(
            f"A ratio of {ratio:g} leaves no training scan of {', '.join(emptied)}",
            where="imbalance.ratio",
            hint="Choose a smaller ratio, or add scans",
        )
    remaining = {
        scan_id
        for ids, n in zip(members, counts, strict=True)
        for scan_id in sorted(ids, key=lambda i: _rank(seed, i))[:n]
    }
    return replace(split, train=tuple(i for i in split.train if i in remaining))


def _rank(seed: int, scan_id: str) -> bytes:
    # Another key than the split's: else scans that just missed the calibration part would go first.
    return hashlib.sha256(f"tail:{seed}:{scan_id}".encode()).digest()
