"""Calibrators by name: logits in, calibrated probabilities out. numpy and scipy only.

The folder imports nothing else of this project and can be copied into another one. ``scipy.optimize`` is
written in full: scipy imports it at its first use, so only fitting waits for it.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from .adaptive_temperature import AdaptiveTemperature
from .calibrator import Calibrator, log_softmax, nearest, softmax
from .ensemble_temperature import EnsembleTemperature
from .linear import Dirichlet, Vector
from .one_vs_rest import Histogram, Isotonic
from .temperature import BiasCorrectedTemperature, Identity, Temperature

__all__ = ["CALIBRATORS", "Calibrator", "build_calibrator", "log_softmax", "softmax"]

CALIBRATORS: dict[str, type[Calibrator]] = {
    calibrator.name: calibrator
    for calibrator in (
        Identity,
        Temperature,
        BiasCorrectedTemperature,
        AdaptiveTemperature,
        EnsembleTemperature,
        Vector,
        Dirichlet,
        Isotonic,
        Histogram,
    )
}


def build_calibrator(name: str, **options: Any) -> Calibrator:
    """Return an unfitted calibrator.

    Parameters
    ----------
    name : str
        One of `CALIBRATORS`.
    **options
        The options of its class.

    Raises
    ------
    ValueError
        If the name or an option is unknown (the message names the nearest), or a value is out of range.

    Examples
    --------
    >>> build_calibrator("temperatures")
    Traceback (most recent call last):
    ValueError: No calibrator is named 'temperatures'. Did you mean 'temperature'?
    """
    if name not in CALIBRATORS:
        raise ValueError(f"No calibrator is named {name!r}. {nearest(name, CALIBRATORS)}")
    known = [entry.name for entry in fields(CALIBRATORS[name]) if entry.init]
    for option in options:
        if option not in known:
            raise ValueError(f"The calibrator {name} has no option {option!r}. {nearest(option, known)}")
    return CALIBRATORS[name](**options)
