"""How far two measurements agree, of two methods or of two scans: Bland-Altman and intraclass correlation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from models.arrays import Floats
from pipeline.evaluation.inference.intervals import Interval
from pipeline.files import written_whole
from pipeline.scan import Scan

LEAST_PEOPLE = 10
"""With fewer, an interval by bootstrap means nothing."""
_CONSTANT = 1e-3
"""The reference region is 1 in every scan, to the digits of the table: there is nothing to agree about."""
_WIDTH = 1.959964
"""Standard deviations of a normal distribution that hold 95 %."""


@dataclass(frozen=True)
class MethodAgreement:
    """Agreement of two methods on one quantity, with 95 % intervals by bootstrap over people.

    Parameters
    ----------
    name : str
    scans, people : int
    own_mean, other_mean : float
    bias : Interval
        Mean of own minus other.
    sd : float
        Standard deviation of the differences.
    lower, upper : Interval
        Limits of agreement, bias -+ 1.96 sd: 95 % of the differences lie between them where these are normal.
    trend : Interval
        How much the difference grows for each unit of the mean of both methods; 0 where the bias is the same
        everywhere.
    absolute, consistency : Interval
        Intraclass correlation, ICC(2,1) and ICC(3,1): the second leaves the bias out.

    References
    ----------
    Bland & Altman, Lancet 1986; 327:307, and Stat Methods Med Res 1999; 8:135.
    Shrout & Fleiss, Psychol Bull 1979; 86:420.
    """

    name: str
    scans: int
    people: int
    own_mean: float
    other_mean: float
    bias: Interval
    sd: float
    lower: Interval
    upper: Interval
    trend: Interval
    absolute: Interval
    consistency: Interval

    @property
    def variation_percent(self) -> float:
        """Within-person standard deviation over the mean, where both measurements are of one method."""
        return 100 * self.sd / math.sqrt(2) / ((self.own_mean + self.other_mean) / 2)


def intraclass_correlation(values: ArrayLike) -> tuple[float, float]:
    """Return ICC(2,1), absolute agreement, and ICC(3,1), consistency, of single ratings.

    Parameters
    ----------
    values : array_like, shape (n, k)
        Each of k methods measured each of n targets.

    References
    ----------
    Shrout & Fleiss 1979: (BMS - EMS) / (BMS + (k-1) EMS + k (JMS - EMS) / n), and the same without the last
    term, with the mean squares between targets, between methods, and of the rest.

    Examples
    --------
    >>> absolute, consistency = intraclass_correlation([[1, 2], [2, 3], [3, 4]])
    >>> round(absolute, 2), round(consistency, 2)
    (0.67, 1.0)
    """
    table = np.asarray(values, dtype=float)
    absolute, consistency = _intraclass(_sums(table - table.mean()).sum(axis=0), table.shape[1])
    return float(absolute), float(consistency)


def method_agreement(
    name: str,
    own: ArrayLike,
    other: ArrayLike,
    people: Sequence[str],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> MethodAgreement:
    """Compare two measurements of the same scans.

    Parameters
    ----------
    own, other : array_like, shape (n,)
        Finite.
    people : sequence of str
        Whose each scan is: scans of one person are drawn together.

    Raises
    ------
    ValueError
        If the scans are of fewer than ten people, or a value is not finite.
    """
    table = np.column_stack([np.asarray(own, dtype=float), np.asarray(other, dtype=float)])
    names, person = np.unique(np.asarray(people), return_inverse=True)
    if len(names) < LEAST_PEOPLE:
        raise ValueError(f"at least {LEAST_PEOPLE} people are needed, found {len(names)}")
    if not np.isfinite(table).all():
        raise ValueError("a measurement is not a number")
    # Sums of squares about a point near the mean keep their digits.
    sums = np.zeros((len(names), 6))
    np.add.at(sums, person, _sums(table - table.mean()))
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), draws)
    value, spread = _statistics(sums.sum(axis=0)), _statistics(drawn @ sums)
    found = {}
    for what, one in value.items():
        low, high = np.nanpercentile(spread[what], [2.5, 97.5])
        found[what] = Interval(float(one), float(low), float(high))
    return MethodAgreement(
        name,
        scans=len(table),
        people=len(names),
        own_mean=float(table[:, 0].mean()),
        other_mean=float(table[:, 1].mean()),
        bias=found["bias"],
        sd=found["sd"].value,
        lower=found["lower"],
        upper=found["upper"],
        trend=found["trend"],
        absolute=found["absolute"],
        consistency=found["consistency"],
    )


def region_agreement(
    own: pd.DataFrame, other: Mapping[str, Mapping[str, float]], people: Mapping[str, str]
) -> tuple[list[MethodAgreement], dict[str, int]]:
    """Compare the regional SUVR of a dataset with those of another method.

    Parameters
    ----------
    own : DataFrame
        A row a scan, indexed by its ID; a column a region.
    other : mapping
        By scan: values by the same columns. Those of one scan may lack a region.
    people : mapping of str to str
        The subject of each scan.

    Returns
    -------
    found : list of MethodAgreement
        By region, in the order of `own`: composites first, then both sides together, left, right.
    few : dict of str to int
        Regions that too few people have values of, and how many.
    """
    found, few = [], {}
    order = {"composite": 0, "both": 1, "left": 2, "right": 3}
    for column in sorted(own.columns, key=lambda name: order.get(str(name).partition("_")[0], 4)):
        pairs = {scan: (own.at[scan, column], row[column]) for scan, row in other.items() if column in row}
        pairs = {scan: pair for scan, pair in pairs.items() if np.isfinite(pair).all()}
        held = {people[scan] for scan in pairs}
        if len(held) >= LEAST_PEOPLE:
            mine, theirs = np.array(list(pairs.values()), dtype=float).T
            if np.ptp([mine, theirs]) < _CONSTANT:
                continue
            found.append(method_agreement(str(column), mine, theirs, [people[scan] for scan in pairs]))
        elif pairs:
            few[str(column)] = len(held)
    return found, few


def repeat_agreement(
    own: pd.DataFrame, scans: Sequence[Scan], diagnosis: str | None = None
) -> tuple[list[MethodAgreement], int]:
    """Compare the second scan of each person with the first one, by the order of their sessions.

    Parameters
    ----------
    own : DataFrame
        As in `region_agreement`.
    scans : sequence of Scan
    diagnosis : str, optional
        Of the first scan; other people are left out.

    Returns
    -------
    found : list of MethodAgreement
        The bias is the second scan minus the first. Empty where too few people were scanned twice.
    people : int
        Who were scanned twice.
    """
    visits: dict[str, list[Scan]] = {}
    for scan in sorted(scans, key=lambda one: (one.subject, one.session)):
        if scan.scan_id in own.index:
            visits.setdefault(scan.subject, []).append(scan)
    pairs = [
        (first, second)
        for first, second, *_ in (found for found in visits.values() if len(found) > 1)
        if diagnosis in (None, first.diagnosis)
    ]
    before = {second.scan_id: own.loc[first.scan_id].to_dict() for first, second in pairs}
    found, _ = region_agreement(own, before, {second.scan_id: second.subject for _, second in pairs})
    return found, len(pairs)


def write_agreement(found: Sequence[MethodAgreement], path: Path) -> Path:
    """Write one row a region; limits of intervals are in columns ``*_low`` and ``*_high``."""
    rows = []
    for one in found:
        row: dict[str, object] = {}
        for name, value in vars(one).items():
            if isinstance(value, Interval):
                row |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
            else:
                row["region" if name == "name" else name] = value
        rows.append(row)
    with written_whole(path) as beside:
        pd.DataFrame(rows).to_csv(beside, sep="\t", index=False, float_format="%.5f", na_rep="n/a")
    return path


def _sums(table: Floats) -> Floats:
    """Return what the statistics need of each target, shape (n, 2 k + 2): they add up over targets."""
    ones = np.ones((len(table), 1))
    return np.hstack([ones, table, table**2, table.sum(axis=1, keepdims=True) ** 2])


def _intraclass(sums: Floats, k: int) -> tuple[Floats, Floats]:
    """Return ICC(2,1) and ICC(3,1) of added sums, shape (..., 2 k + 2)."""
    n, totals = sums[..., 0], sums[..., 1 : k + 1]
    centre = totals.sum(axis=-1) ** 2 / (n * k)
    between = sums[..., -1] / k - centre
    methods = (totals**2).sum(axis=-1) / n - centre
    rest = sums[..., k + 1 : -1].sum(axis=-1) - centre - between - methods
    bms, jms, ems = between / (n - 1), methods / (k - 1), rest / ((n - 1) * (k - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        absolute = (bms - ems) / (bms + (k - 1) * ems + k * (jms - ems) / n)
        return absolute, (bms - ems) / (bms + (k - 1) * ems)


def _statistics(sums: Floats) -> dict[str, Floats]:
    """Return the statistics of added sums of pairs, shape (..., 6)."""
    n, own, other, own_squared, other_squared, total_squared = np.moveaxis(sums, -1, 0)
    bias = (own - other) / n
    squared = 2 * (own_squared + other_squared) - total_squared
    sd = np.sqrt(np.maximum(squared / n - bias**2, 0) * n / (n - 1))
    along = own_squared - other_squared - (own**2 - other**2) / n
    spread = (total_squared - (own + other) ** 2 / n) / 2
    absolute, consistency = _intraclass(sums, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        trend = along / spread
    return {
        "bias": bias,
        "sd": sd,
        "lower": bias - _WIDTH * sd,
        "upper": bias + _WIDTH * sd,
        "trend": trend,
        "absolute": absolute,
        "consistency": consistency,
    }
