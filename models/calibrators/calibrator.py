"""The base of all calibrators: fitted on logits and labels, turns logits into probabilities."""

from __future__ import annotations

import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from functools import partial
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import scipy.special
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Far above what a float32 network can answer; keeps differences and their products finite in float64.
_LARGEST_LOGIT = 1e100


# Over classes, axis 1, where scipy's own default is the whole array.
softmax: Callable[[ArrayLike], Floats] = partial(scipy.special.softmax, axis=1)
log_softmax: Callable[[ArrayLike], Floats] = partial(scipy.special.log_softmax, axis=1)


@dataclass(eq=False)
class Calibrator(ABC):
    """Maps logits to calibrated probabilities; fitted on the calibration split only.

    A subclass is a dataclass: what its ``__init__`` takes are options, the other fields are what `fit` learns
    (numbers and float64 arrays). Both travel through `to_dict` and `from_dict` bit for bit.

    Attributes
    ----------
    name : str
        Its name in configurations.
    num_classes : int or None
        Classes it was fitted for; None before.
    """

    name: ClassVar[str]
    needs_fitting: ClassVar[bool] = True
    num_classes: int | None = field(default=None, init=False)

    @property
    def may_change_class(self) -> bool:
        """Whether a scan's most probable class can become another one, and with it the accuracy."""
        return False

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
            If shapes disagree, no scan is given, a logit is no finite number or a label is no class.
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
        return self._transform(self._checked(logits))

    def draws(self, logits: ArrayLike) -> Floats:
        """Return calibrated probabilities under each draw of what the calibration scans leave uncertain.

        Parameters
        ----------
        logits : array_like, shape (n_scans, n_classes)

        Returns
        -------
        ndarray of float64, shape (n_draws, n_scans, n_classes)
            Equally likely; their mean is what `transform` returns. One draw where the calibrator has no
            posterior. The same after every call and every reload.

        Raises
        ------
        ValueError
            As `transform`.
        """
        return self._draws(self._checked(logits))

    def _checked(self, logits: ArrayLike) -> Floats:
        scores = _checked_logits(logits)
        if self.num_classes is None and self.needs_fitting:
            raise ValueError(
                f"Calibrator {self.name} is not fitted. Call fit(logits, labels) with the calibration split."
            )
        if self.num_classes not in (None, scores.shape[1]):
            raise ValueError(
                f"Logits have {scores.shape[1]} classes, but {self.name} was fitted for {self.num_classes}."
            )
        return scores

    @abstractmethod
    def _fit(self, logits: Floats, labels: Ints) -> None:
        """Learn; logits and labels have been checked."""

    @abstractmethod
    def _transform(self, logits: Floats) -> Floats:
        """Return probabilities; logits have been checked."""

    def _draws(self, logits: Floats) -> Floats:
        """Return probabilities under each draw; logits have been checked."""
        return self._transform(logits)[None]

    @classmethod
    def _upgraded(
        cls, options: dict[str, Any], fitted: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return options and learned values of an older version as this one stores them."""
        return options, fitted

    def to_dict(self) -> dict[str, Any]:
        """Return name, options and what was learned, as JSON-able values."""
        parts: dict[bool, dict[str, Any]] = {True: {}, False: {}}
        for entry in fields(self):
            parts[entry.init][entry.name] = _encode(getattr(self, entry.name))
        return {"name": self.name, "options": parts[True], "fitted": parts[False]}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Calibrator:
        """Rebuild a calibrator from `to_dict`.

        Raises
        ------
        ValueError
            If the name, an option or a learned value is unknown or missing.
        """
        # Imported here because the table of names imports this module.
        from . import CALIBRATORS, build_calibrator

        missing = {"name", "options", "fitted"} - set(stored)
        if missing:
            raise ValueError(
                f"The stored calibrator lacks {', '.join(sorted(missing))}. "
                "Expected name, options and fitted."
            )
        kind = CALIBRATORS.get(stored["name"], Calibrator)
        options, fitted = kind._upgraded(stored["options"], stored["fitted"])
        calibrator = build_calibrator(stored["name"], **{key: _decode(v) for key, v in options.items()})
        learned = [entry.name for entry in fields(calibrator) if not entry.init]
        if sorted(learned) != sorted(fitted):
            raise ValueError(
                f"The stored {stored['name']} has the learned values {', '.join(sorted(fitted))}. "
                f"Expected {', '.join(sorted(learned))}."
            )
        for key in learned:
            setattr(calibrator, key, _decode(fitted[key]))
        return calibrator


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, tuple):
        return list(value)
    # JSON has no infinity; a word keeps the file readable by strict parsers.
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return np.array(value, dtype=np.float64)
    return float(value) if value in ("inf", "-inf") else value


def _checked_logits(logits: ArrayLike) -> Floats:
    try:
        given = np.asarray(logits)
        scores = given.astype(np.float64, casting="same_kind" if given.dtype.kind == "c" else "unsafe")
    except (TypeError, ValueError) as error:
        raise ValueError(f"The logits cannot be read as an array of real numbers: {error}.") from None
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ValueError(
            f"Logits have shape {scores.shape}. Expected (scans, classes) with at least 2 classes."
        )
    if not np.all(np.abs(scores) < _LARGEST_LOGIT):
        bad = int(np.flatnonzero(~(np.abs(scores) < _LARGEST_LOGIT).all(axis=1))[0])
        raise ValueError(f"Logits are not finite in row {bad}: {scores[bad].tolist()}.")
    return scores


def _checked_labels(labels: ArrayLike, logits: Floats) -> Ints:
    classes = np.asarray(labels)
    if classes.shape != logits.shape[:1]:
        raise ValueError(f"Labels have shape {classes.shape} for {len(logits)} scans. Expected one per scan.")
    if classes.size == 0:
        raise ValueError("There are no scans to fit on. A calibrator needs at least one.")
    if not np.issubdtype(classes.dtype, np.integer):
        raise ValueError(f"Labels are {classes.dtype}. Expected integers.")
    if classes.min() < 0 or classes.max() >= logits.shape[1]:
        raise ValueError(
            f"Labels range from {classes.min()} to {classes.max()}. "
            f"Expected classes 0 to {logits.shape[1] - 1}."
        )
    return classes.astype(np.int64)


def check_whole(name: str, value: object) -> None:
    """Refuse an option that is no whole number of at least 1.

    Raises
    ------
    ValueError
        With the option and its value.
    """
    if not (isinstance(value, Integral) and int(value) >= 1):
        raise ValueError(f"{name}={value!r} is not valid. Expected a whole number of at least 1.")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint for a name that is not known: the nearest known one, or all of them."""
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.5)
    return f"Did you mean {names[near[0]]!r}?" if near else f"Known: {', '.join(names.values()) or 'none'}."
