"""What every calibrator is: fitted on logits and labels, turns logits into probabilities."""

from __future__ import annotations

import difflib
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Far above what a float32 network can say; keeps differences and their products finite in float64.
_LARGEST_LOGIT = 1e100


def log_softmax(logits: ArrayLike) -> Floats:
    """Return the natural logarithm of `softmax`, finite for any finite logits.

    Parameters
    ----------
    logits : array_like, shape (n_scans, n_classes)

    Returns
    -------
    ndarray of float64, shape (n_scans, n_classes)
    """
    below_top = _below_top(np.asarray(logits, dtype=np.float64))
    log_probabilities: Floats = below_top - np.log(np.exp(below_top).sum(axis=1, keepdims=True))
    return log_probabilities


def softmax(logits: ArrayLike) -> Floats:
    """Turn logits into probabilities, uncalibrated.

    Parameters
    ----------
    logits : array_like, shape (n_scans, n_classes)

    Returns
    -------
    ndarray of float64, shape (n_scans, n_classes)
        Rows sum to 1.

    Examples
    --------
    >>> softmax([[1000.0, 1000.0], [0.0, -1000.0]])
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    scores = np.exp(_below_top(np.asarray(logits, dtype=np.float64)))
    probabilities: Floats = scores / scores.sum(axis=1, keepdims=True)
    return probabilities


def _below_top(logits: Floats) -> Floats:
    difference: Floats = logits - logits.max(axis=1, keepdims=True)
    return difference


@dataclass(eq=False)
class Calibrator(ABC):
    """Maps logits to calibrated probabilities; fitted on the calibration split only.

    A subclass is a dataclass: what its ``__init__`` takes are options, the other fields are what `fit` learns
    (numbers and float64 arrays). Both travel through `to_dict` and `from_dict` bit for bit.

    Attributes
    ----------
    name : str
        What configurations call it.
    may_change_class : bool
        Whether a scan's most probable class can become another one, and with it the accuracy.
    num_classes : int or None
        Classes it was fitted for; None before.
    """

    name: ClassVar[str]
    may_change_class: ClassVar[bool] = False
    needs_fitting: ClassVar[bool] = True
    num_classes: int | None = field(default=None, init=False)

    def fit(self, logits: ArrayLike, labels: ArrayLike) -> Self:
        """Learn from scans that the network was not trained on.

        Parameters
        ----------
        logits : array_like, shape (n_scans, n_classes)
            Unnormalised class scores; never probabilities.
        labels : array_like of int, shape (n_scans,)
            True classes, 0 to n_classes - 1; a class may be absent.

        Returns
        -------
        Calibrator
            Itself, fitted.

        Raises
        ------
        ValueError
            If shapes disagree, no scan is given, a logit is not finite or a label is no class.
        """
        scores = _checked_logits(logits)
        classes = _checked_labels(labels, scores)
        self._fit(scores, classes)
        self.num_classes = scores.shape[1]
        return self

    def transform(self, logits: ArrayLike) -> Floats:
        """Return calibrated probabilities.

        Parameters
        ----------
        logits : array_like, shape (n_scans, n_classes)

        Returns
        -------
        ndarray of float64, shape (n_scans, n_classes)
            Rows sum to 1.

        Raises
        ------
        ValueError
            If it was not fitted, or was fitted for another number of classes.
        """
        scores = _checked_logits(logits)
        if self.num_classes is None and self.needs_fitting:
            raise ValueError(
                f"A calibrator must be fitted before it transforms, {self.name} was not: "
                "call fit(logits, labels) with the calibration split"
            )
        if self.num_classes not in (None, scores.shape[1]):
            raise ValueError(
                f"Logits must have the {self.num_classes} classes that {self.name} was fitted for, "
                f"got {scores.shape[1]}"
            )
        return self._transform(scores)

    @abstractmethod
    def _fit(self, logits: Floats, labels: Ints) -> None:
        """Learn; logits and labels have been checked."""

    @abstractmethod
    def _transform(self, logits: Floats) -> Floats:
        """Return probabilities; logits have been checked."""

    def to_dict(self) -> dict[str, Any]:
        """Return name, options and what was learned, as JSON knows it."""
        parts: dict[bool, dict[str, Any]] = {True: {}, False: {}}
        for entry in fields(self):
            parts[entry.init][entry.name] = _encode(getattr(self, entry.name))
        return {"name": self.name, "options": parts[True], "fitted": parts[False]}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Calibrator:
        """Return what `to_dict` described.

        Raises
        ------
        ValueError
            If the name, an option or a learned value is unknown or missing.
        """
        # Imported here because the table of names stands above this module.
        from models.calibrators import build_calibrator

        missing = {"name", "options", "fitted"} - set(stored)
        if missing:
            raise ValueError(
                f"A stored calibrator must hold name, options and fitted, lacks {sorted(missing)}"
            )
        options = {key: _decode(value) for key, value in stored["options"].items()}
        calibrator = build_calibrator(stored["name"], **options)
        learned = [entry.name for entry in fields(calibrator) if not entry.init]
        if sorted(learned) != sorted(stored["fitted"]):
            raise ValueError(
                f"A stored {stored['name']} must hold {sorted(learned)}, got {sorted(stored['fitted'])}"
            )
        for key in learned:
            setattr(calibrator, key, _decode(stored["fitted"][key]))
        return calibrator


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    # JSON has no infinity; a word keeps the file readable by strict parsers.
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return np.array(value, dtype=np.float64)
    return float(value) if value in ("inf", "-inf") else value


def _checked_logits(logits: ArrayLike) -> Floats:
    scores = np.asarray(logits, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ValueError(
            f"Logits must have shape (scans, classes) with 2 classes or more, got {scores.shape}"
        )
    if not np.all(np.abs(scores) < _LARGEST_LOGIT):
        bad = int(np.flatnonzero(~(np.abs(scores) < _LARGEST_LOGIT).all(axis=1))[0])
        raise ValueError(f"Logits must be finite, got {scores[bad].tolist()} in row {bad}")
    return scores


def _checked_labels(labels: ArrayLike, logits: Floats) -> Ints:
    classes = np.asarray(labels)
    if classes.shape != logits.shape[:1]:
        raise ValueError(f"Labels must be one per scan, got shape {classes.shape} for {len(logits)} scans")
    if classes.size == 0:
        raise ValueError("A calibrator must be fitted on at least one scan, got none")
    if not np.issubdtype(classes.dtype, np.integer):
        raise ValueError(f"Labels must be integers, got {classes.dtype}")
    if classes.min() < 0 or classes.max() >= logits.shape[1]:
        raise ValueError(
            f"Labels must be classes 0 to {logits.shape[1] - 1}, got {classes.min()} to {classes.max()}"
        )
    return classes.astype(np.int64)


def nearest(word: str, known: list[str]) -> str:
    """Return "did you mean ...?" or the list of what is known."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known) or 'none'}"
