"""Which pictures the figures of a scan's report show, and their words."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.typical_scans import TypicalScan
from pipeline.atlas import SHAPE
from pipeline.errors import InputError
from pipeline.reporting.page.html import data_uri
from pipeline.reporting.scan import scan_pictures as pictures
from pipeline.reporting.scan import slices as planes
from pipeline.reporting.scan.cortex import Aspect, Side, of_regions, on_cortex
from pipeline.reporting.scan.regional_numbers import RegionRow
from pipeline.reporting.scan.scan_numbers import ScanReport
from pipeline.scan import Volume

VIEWS: tuple[tuple[tuple[Side, ...], Aspect], ...] = (
    (("right",), "lateral"), (("right",), "medial"), (("right", "left"), "ventral"),
    (("left",), "medial"), (("left",), "lateral"),
)  # fmt: skip
"""From the patient's right to the left, as in slices."""


@dataclass(frozen=True)
class Panel:
    """One picture, its words for who does not see it, and what stands above it."""

    address: str
    alt: str
    title: str = ""

    @classmethod
    def of(cls, picture: bytes, alt: str, title: str = "") -> Panel:
        """Return a panel that holds its picture."""
        return cls(data_uri(picture), alt, title)


@dataclass(frozen=True)
class Panels:
    """Pictures that stand together, what stands above them, and the scale below them."""

    pictures: tuple[Panel, ...]
    scale: Panel | None = None
    title: str = ""


Beside = Sequence[tuple[TypicalScan, str]]
"""Scans of the training cohort with their titles."""


def scan_panels(
    report: ScanReport,
    suvr: Volume | None,
    saliency: NDArray[np.floating] | None,
    typical: Sequence[TypicalScan] = (),
) -> dict[str, tuple[Panels, ...]]:
    """Return the figures of a report by name, each in one or more parts; none of one that cannot be drawn.

    Raises
    ------
    InputError
        If the volume is not SUVR on the template grid, or the saliency has another shape.
    """
    names = ("planes", "z", "cortex", "levels", "saliency", "registration")
    found: dict[str, tuple[Panels, ...]] = dict.fromkeys(names, ())
    z = z_values(report.regions)
    if z:
        found["z"] = (Panels(tuple(_cortex_z(z)), _scale("z")),)
    if suvr is None:
        return found
    planes.check_grid(suvr)
    titles = {t.status: t.title for t in report.model.typical_scans}
    beside = [(scan, titles[scan.status]) for scan in typical if scan.status in titles]
    found["cortex"] = _cortex(suvr.array, beside)
    found["levels"] = _levels(suvr.array, beside)
    found["registration"] = (Panels(tuple(_registration(suvr.array))),)
    if report.hottest_region:
        point = planes.hottest_point(suvr.array, report.hottest_region, report.hottest_side)
        hottest = tuple(_slices(planes.three_planes(suvr.array, point)))
        found["planes"] = (Panels(hottest, _scale("SUVR")),)
        if saliency is not None:
            influence = tuple(_saliency(saliency, point))
            found["saliency"] = (Panels(hottest, title="SUVR"), Panels(influence, title="Influence"))
    return found


def _cortex(suvr: NDArray[np.floating], beside: Beside) -> tuple[Panels, ...]:
    rows = [Panels(tuple(_cortex_suvr(suvr, "this scan")), title="This scan" if beside else "")]
    rows += [Panels(_cortex_of_typical(scan, title), title=title.capitalize()) for scan, title in beside]
    return (*rows[:-1], replace(rows[-1], scale=_scale("SUVR")))


def _levels(suvr: NDArray[np.floating], beside: Beside) -> tuple[Panels, ...]:
    """Return each level of this scan and of those beside it, two levels a part.

    A printed page holds two parts, or one below the cortex.
    """
    own = tuple(_slices(planes.tau_levels(suvr), "this scan" if beside else ""))
    scale = _scale("SUVR")
    if not beside:
        return (Panels(own, scale),)
    columns = [own, *(_levels_of_typical(scan, title) for scan, title in beside)]
    levels = list(zip(*columns, strict=True))
    parts = [Panels((*first, *second)) for first, second in zip(levels[::2], levels[1::2], strict=True)]
    return (*parts[:-1], replace(parts[-1], scale=scale))


@functools.lru_cache(maxsize=4)
def _cortex_of_typical(scan: TypicalScan, title: str) -> tuple[Panel, ...]:
    """Return the same for every report of a classifier, so drawn once."""
    return tuple(_cortex_suvr(scan.suvr, title))


@functools.lru_cache(maxsize=4)
def _levels_of_typical(scan: TypicalScan, title: str) -> tuple[Panel, ...]:
    return tuple(_slices(planes.tau_levels(scan.suvr), title))


@functools.lru_cache(maxsize=2)
def _scale(name: str) -> Panel:
    limit = pictures.BACKGROUND_LIMIT
    where = {
        "SUVR": f"Scale of SUVR from 0 to 3.5: grey up to {limit}, orange to yellow above",
        "z": "Scale of z from −4 to 6: blue below −2, grey up to 2, orange to yellow above",
    }
    return Panel.of(pictures.draw_scale(name), where[name])


def _registration(suvr: NDArray[np.floating]) -> Iterable[Panel]:
    for name, picture in zip(("Axial", "Coronal", "Sagittal"), pictures.draw_registration(suvr), strict=True):
        yield Panel.of(picture, f"{name} slice in grey with the outline of the template brain")


def _slices(views: Iterable[planes.Slice], whose: str = "") -> Iterable[Panel]:
    for view in views:
        of = f" of {whose}" if whose else ""
        zoom = 3 if whose else 4  # several stand side by side, each smaller
        yield Panel.of(pictures.draw_slice(view, zoom=zoom), f"SUVR{of}, {_place(view)}", whose)


def _place(view: planes.Slice) -> str:
    letter = {"axial": "z", "coronal": "y", "sagittal": "x"}[view.plane]
    return f"{view.plane} slice at {letter} {view.position_mm:.0f} mm".replace("-", "−")


def _saliency(saliency: NDArray[np.floating], point: tuple[float, float, float]) -> Iterable[Panel]:
    if saliency.shape != SHAPE:
        raise InputError(f"The saliency has shape {saliency.shape}. Expected the template's {SHAPE}")
    top = float(np.quantile(saliency, 0.999)) or 1.0
    for view in planes.three_planes(saliency, point):
        yield Panel.of(pictures.draw_slice(view, "saliency", top), f"Saliency, {_place(view)}")


def _cortex_suvr(suvr: NDArray[np.floating], whose: str) -> Iterable[Panel]:
    values = {side: on_cortex(suvr, side) for side in ("left", "right")}
    for sides, aspect in VIEWS:
        drawn = pictures.draw_cortex({side: values[side] for side in sides}, aspect, "SUVR")
        yield Panel.of(drawn, f"SUVR of {whose} on the cortex, {_view(sides, aspect)}", _view(sides, aspect))


def _cortex_z(z: dict[str, float]) -> Iterable[Panel]:
    for sides, aspect in VIEWS:
        drawn = pictures.draw_cortex({side: of_regions(z, side) for side in sides}, aspect, "z")
        yield Panel.of(drawn, f"z of cortical regions, {_view(sides, aspect)}", _view(sides, aspect))


def _view(sides: tuple[Side, ...], aspect: Aspect) -> str:
    return f"{sides[0]} {aspect}" if len(sides) == 1 else aspect


def z_values(regions: tuple[RegionRow, ...]) -> dict[str, float]:
    """Return ``"left_precuneus"`` -> z of the target regions that have one."""
    sides = [(f"left_{r.region}", r.z_left) for r in regions if r.kind == "target"]
    sides += [(f"right_{r.region}", r.z_right) for r in regions if r.kind == "target"]
    return {name: z for name, z in sides if z is not None}
