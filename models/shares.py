"""The class shares that a clinic states; standard library only, so that a command line reads them at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

_ROUNDING = 0.005
"""How far shares that were rounded may be from a sum of 1."""


def read_shares(
    stated: Mapping[str, float] | Sequence[float], class_names: Sequence[str] | None = None
) -> dict[str, float]:
    """Return class shares that sum to one, from shares or from percentages.

    Parameters
    ----------
    stated : mapping of class name to float, or sequence of float in the order of `class_names`
        At least 0; they sum to 1, or to 100, but for rounding.
    class_names : sequence of str, optional
        Classes that must be named, all of them; the result is in their order.

    Raises
    ------
    ValueError
        If they do not sum to 1 or 100, one is negative or no number, the classes are others, or all but one
        are 0.

    Examples
    --------
    >>> read_shares({"CN": 60, "MCI": 30, "AD": 10})
    {'CN': 0.6, 'MCI': 0.3, 'AD': 0.1}
    """
    if not isinstance(stated, Mapping):
        if len(stated) != len(class_names or ()):
            raise ValueError(
                f"The prevalence has {len(stated)} shares. "
                f"Expected one for each of {', '.join(class_names or ())}."
            )
        stated = dict(zip(class_names or (), stated, strict=True))
    if class_names is not None:
        if set(stated) != set(class_names):
            raise ValueError(
                f"The prevalence names {', '.join(stated) or 'no class'}. "
                f"Expected a share for each of {', '.join(class_names)}."
            )
        stated = {name: stated[name] for name in class_names}
    try:
        stated = {name: float(value) for name, value in stated.items()}
    except (TypeError, ValueError):
        given = ", ".join(f"{name} {value!r}" for name, value in stated.items())
        raise ValueError(f"The shares of the classes are {given}. Expected a number for each.") from None
    total = math.fsum(stated.values())
    whole = next((w for w in (1, 100) if abs(total / w - 1) <= _ROUNDING + 1e-9), None)
    if whole is None or min(stated.values()) < 0:
        given = ", ".join(f"{name} {value:g}" for name, value in stated.items())
        raise ValueError(
            f"The shares of the classes are {given or 'missing'}; their sum is {total:g}. "
            "Expected numbers of at least 0 that sum to 1, or to 100 as percentages."
        )
    if len(stated) > 1 and sum(value > 0 for value in stated.values()) == 1:
        only = max(stated, key=lambda name: stated[name])
        raise ValueError(
            f"Only {only} has a share above 0, so that every answer would be {only}, whatever the scan "
            "shows. Expected a share above 0 for two classes or more."
        )
    return {name: value / total for name, value in stated.items()}
