"""Names of classes: those of the data, or those of the study in their place."""

from __future__ import annotations

from pipeline.errors import CohortError


def named(own: tuple[str, ...], given: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Return the names the study gives, or the data's own where it gives none.

    Raises
    ------
    CohortError
        If there are fewer than two classes, a name stands twice, or the study gives another number of names.

    Examples
    --------
    >>> named(("0", "1"), ("normal", "mass"), "labels")
    ('normal', 'mass')
    """
    if len(set(own)) != len(own) or len(own) < 2:
        raise CohortError(f"Classes must be at least two with names of their own, got {own}", where=where)
    if given and (len(given) != len(own) or len(set(given)) != len(given)):
        raise CohortError(
            f"cohort.classes must name each of the {len(own)} classes once, got {', '.join(given)}",
            where=where,
            hint="mend cohort.classes, or leave it out for the names of the data",
        )
    return given or own
