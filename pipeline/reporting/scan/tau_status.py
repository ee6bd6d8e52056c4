"""The first line of a scan's report: whether the scan is tau-positive, and where.

It is measured, with two thresholds and an uncertain zone between them; no classifier has part in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from pipeline.reporting.page.facts import Facts, Text, listed, number, texts_apart

if TYPE_CHECKING:
    from pipeline.config import TauThresholds
    from pipeline.reporting.scan.regional_numbers import RegionRow

Status = Literal["negative", "uncertain", "positive"]
Side = Literal["left", "right"]

_NOT_JUDGED = ("hippocampus",)
"""Signal of the choroid plexus spills in."""
_TEMPORAL = ("Medial temporal", "Temporal")
_LOBE_NAMES = {"Temporal": "lateral temporal", "Cingulate and insula": "cingulate/insula"}
"""Without an "and" of their own, for they stand in lists."""
_TITLES = {"negative": "Tau-negative", "uncertain": "Tau status uncertain", "positive": "Tau-positive"}


class RaisedRegions(Facts):
    """How many regions of a lobe are raised on one side."""

    lobe: Text
    side: Side
    raised: int
    regions: int

    @property
    def involved(self) -> bool:
        """Whether at least half of the regions are raised."""
        return 2 * self.raised >= self.regions


class TauStatus(Facts):
    """The temporal meta-ROI against two thresholds, and the lobes whose regions are raised.

    `lobes` holds every lobe and side with a norm, none where there are too few cognitively normal scans;
    `region_z` is the number of SD from which a region counts as raised, among `norm_count` such scans.
    """

    status: Status
    suvr: float
    uncertain_from: float
    positive_from: float
    source: Text
    holds_for: Text
    region_z: float
    norm_count: int | None = None
    lobes: tuple[RaisedRegions, ...] = ()

    @property
    def title(self) -> str:
        """The status, and the lobes that are involved."""
        where = "; ".join(_by_side(self.lobes))
        return f"{_TITLES[self.status]}{f': {where}' if where else ''}"

    @property
    def sentence(self) -> str:
        """The meta-ROI compared with the thresholds."""
        if self.status == "uncertain":
            shown, upper = texts_apart(self.suvr, self.positive_from, number, 2)
            place = f"in the uncertain zone from {number(self.uncertain_from)} to below {upper}"
        else:
            low = self.status == "negative"
            limit = self.uncertain_from if low else self.positive_from
            shown, threshold = texts_apart(self.suvr, limit, number, 2)
            place = f"below the lower threshold of {threshold}" if low else "at or above the upper threshold"
            place += "" if low else f" of {threshold}"
        return f"The SUVR of the temporal meta-ROI is {shown}, {place}."

    @property
    def where_sentence(self) -> str:
        """How many regions are raised in which lobe."""
        if not self.lobes:
            return "Where it is raised is not stated: there are too few cognitively normal training scans."
        normal = f"{self.norm_count} cognitively normal training scans"
        than = f"{self.region_z:g} SD or more above the mean of {normal}"
        sides: dict[str, list[str]] = {}
        for part in self.lobes:
            if part.raised:
                counted = f"{part.side} {part.raised} of {part.regions}"
                sides.setdefault(lobe_name(part.lobe), []).append(counted)
        if not sides:
            return f"No region is {than}."
        counts = "; ".join(f"{lobe} {', '.join(found)}" for lobe, found in sides.items())
        return f"Regions {than}: {counts}."

    @property
    def pattern_sentence(self) -> str:
        """The topographic pattern, and that it is computed."""
        if not self.lobes:
            return ""
        return (
            f"Pattern: {_pattern(self.lobes)}. It is computed from the regions and was not read by a person; "
            "a lobe counts where at least half of its regions on a side, without hippocampus, are raised."
        )

    @property
    def source_sentence(self) -> str:
        """Where the thresholds come from."""
        return f"Thresholds: {self.source}; they were found with {self.holds_for}."


class TypicalTau(Facts):
    """A typical training scan that is shown beside this one: the nearest to the mean of its tau status.

    `among` is the number of training scans of the status, one a subject; `synthetic` is one of the phantom.
    """

    status: Literal["negative", "positive"]
    meta_roi: float
    among: int
    synthetic: bool

    @property
    def title(self) -> str:
        """What stands above its pictures."""
        return f"typical tau-{self.status}{' (synthetic)' if self.synthetic else ''}"


def typical_sentence(shown: Sequence[TypicalTau]) -> str:
    """Return by which rule the scans beside this one were chosen, and what their meta-ROI is."""
    if not shown:
        return ""
    chosen = [f"one of {t.among} tau-{t.status} scans (meta-ROI {number(t.meta_roi)})" for t in shown]
    first, near = ("Beside it is a training scan", "It has") if len(shown) == 1 else (
        "Beside it are two training scans", "Each has")  # fmt: skip
    text = f"{first}: {listed(chosen)}. {near} the regional SUVR nearest to the mean of its group."
    return f"{text} The training scans are synthetic: no person was scanned." if shown[0].synthetic else text


def tau_status(
    suvr: float | None, rows: Sequence[RegionRow], thresholds: TauThresholds, norm_count: int | None
) -> TauStatus | None:
    """Return the tau status of a scan; None where its meta-ROI was not measured.

    Parameters
    ----------
    suvr : float, optional
        Of the temporal meta-ROI.
    rows : sequence of RegionRow
        With z-scores where there are norms.
    norm_count : int, optional
        Cognitively normal scans of the norms.
    """
    if suvr is None:
        return None
    status: Status = "positive" if suvr >= thresholds.positive_from else "uncertain"
    if suvr < thresholds.uncertain_from:
        status = "negative"
    return TauStatus(
        status=status,
        suvr=suvr,
        uncertain_from=thresholds.uncertain_from,
        positive_from=thresholds.positive_from,
        source=thresholds.source,
        holds_for=thresholds.holds_for,
        region_z=thresholds.region_z,
        norm_count=norm_count,
        lobes=tuple(_raised(rows, thresholds.region_z)),
    )


def _raised(rows: Sequence[RegionRow], limit: float) -> Iterable[RaisedRegions]:
    judged = [r for r in rows if r.kind == "target" and r.region not in _NOT_JUDGED]
    sides: tuple[Side, Side] = ("left", "right")
    for lobe in dict.fromkeys(r.group for r in judged):
        for side in sides:
            found = [r.z_left if side == "left" else r.z_right for r in judged if r.group == lobe]
            z = [value for value in found if value is not None]
            if z:
                yield RaisedRegions(lobe=lobe, side=side, raised=sum(v >= limit for v in z), regions=len(z))


def lobe_name(group: str) -> str:
    """Return what a group of regions is called wherever a page names it."""
    return _LOBE_NAMES.get(group, group.lower())


def _by_side(lobes: Sequence[RaisedRegions]) -> list[str]:
    """Return the lobes that are involved on both sides, on the left alone, and on the right alone."""
    sides: dict[str, list[str]] = {}
    for part in lobes:
        if part.involved:
            sides.setdefault(part.lobe, []).append(part.side)
    found: dict[str, list[str]] = {"on both sides": [], "on the left": [], "on the right": []}
    for lobe, which in sides.items():
        place = "on both sides" if len(which) > 1 else f"on the {which[0]}"
        found[place].append(lobe_name(lobe))
    parts = [(listed(names), place) for place, names in found.items() if names]
    return [f"{names} {'' if n else 'raised '}{place}" for n, (names, place) in enumerate(parts)]


def _pattern(lobes: Sequence[RaisedRegions]) -> str:
    involved = {part.lobe for part in lobes if part.involved}
    if not involved:
        return "no lobe is involved"
    if involved == {"Medial temporal"}:
        return "medial temporal only"
    if involved <= set(_TEMPORAL):
        return "limited to the temporal lobe"
    if involved & set(_TEMPORAL):
        return "the temporal lobe and beyond"
    return "outside the temporal lobe only"
