"""Shares of the training subjects, each inside the next larger one, for a learning curve."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace

from pipeline.learning.split import subject_classes
from pipeline.scan import Split


def share_of_subjects(split: Split, label_of: Mapping[str, str], share: float, *, seed: int) -> Split:
    """Return a split whose training part has this share of the subjects of each class; the rest is unchanged.

    A subject comes with all its scans. Subjects are ordered by a keyed hash of their names, so that a smaller
    share is a subset of a larger one with the same seed. Every class has at least one subject.

    Parameters
    ----------
    label_of : mapping of scan id to class name
    share : float
        In (0, 1]; 1 changes nothing.
    seed : int
        Decides which subjects remain.

    Examples
    --------
    >>> ids = tuple(f"sub-{n:02d}_ses-M0" for n in range(12))
    >>> split = Split(ids, (), (), (), {i: i[:6] for i in ids})
    >>> labels = {i: "AD" if n < 4 else "CN" for n, i in enumerate(ids)}
    >>> remaining = share_of_subjects(split, labels, 0.25, seed=0).train
    >>> [sum(labels[i] == name for i in remaining) for name in ("AD", "CN")]
    [1, 2]
    """
    if share >= 1:
        return split
    ids = split.train
    class_of = subject_classes([split.subject_of[i] for i in ids], [label_of[i] for i in ids], ids)
    remaining: set[str] = set()
    for name in sorted(set(class_of.values())):
        members = sorted((s for s, c in class_of.items() if c == name), key=lambda s: _rank(seed, s))
        remaining.update(members[: max(1, math.floor(share * len(members) + 0.5))])
    return replace(split, train=tuple(i for i in ids if split.subject_of[i] in remaining))


def _rank(seed: int, subject: str) -> bytes:
    return hashlib.sha256(f"curve:{seed}:{subject}".encode()).digest()
