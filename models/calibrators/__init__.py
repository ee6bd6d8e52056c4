"""Calibrators by name: logits in, calibrated probabilities out. numpy and scipy only.

They say ``scipy.optimize`` in full: scipy imports it when it is first named, so only fitting waits for it.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from models.calibrators.adaptive_temperature import AdaptiveTemperature
from models.calibrators.calibrator import Calibrator, log_softmax, nearest, softmax
from models.calibrators.ensemble_temperature import EnsembleTemperature
from models.calibrators.linear import Dirichlet, Vector
from models.calibrators.one_vs_rest import Histogram, Isotonic
from models.calibrators.temperature import Identity, Temperature

__all__ = ["CALIBRATORS", "Calibrator", "build_calibrator", "log_softmax", "softmax"]

CALIBRATORS: dict[str, type[Calibrator]] = {
    calibrator.name: calibrator
    for calibrator in (
        Identity,
        Temperature,
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
        What its class takes.

    Raises
    ------
    ValueError
        If the name, an option or an option's value is not known; the message names the nearest.

    Examples
    --------
    >>> build_calibrator("temperatures")
    Traceback (most recent call last):
    ValueError: No calibrator is called 'temperatures': did you mean 'temperature'?
    """
    if name not in CALIBRATORS:
        raise ValueError(f"No calibrator is called {name!r}: {nearest(name, list(CALIBRATORS))}")
    known = [entry.name for entry in fields(CALIBRATORS[name]) if entry.init]
    for option in options:
        if option not in known:
            raise ValueError(f"Calibrator {name} has no option {option!r}: {nearest(option, known)}")
    return CALIBRATORS[name](**options)
