"""The report of one scan: pages to decide, of pictures, of numbers and of facts; as HTML, PDF and JSON."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.typical_scans import TypicalScan
from pipeline.evaluation.metrics import TABLE
from pipeline.reporting.page.facts import listed, number, percent, signed, texts_apart
from pipeline.reporting.page.html import Page
from pipeline.reporting.page.words import GROUP_ORDER, interval_text, metric_heading, noise_text, title_of
from pipeline.reporting.scan import scan_sentences as sentences
from pipeline.reporting.scan.regional_numbers import MetaRoi, RegionRow
from pipeline.reporting.scan.scan_numbers import MetricRow, ScanReport, Visit
from pipeline.reporting.scan.scan_panels import scan_panels
from pipeline.reporting.scan.tau_status import lobe_name, typical_sentence
from pipeline.reporting.scan.viewer_page import VIEWER_NAME
from pipeline.scan import Volume

Group = tuple[str, list[RegionRow]]
RETEST_SHARE = 0.03
"""Test-retest variation of regional SUVR, as published; imaging alone made 1.6 to 3.5 % on the phantom
and on painted labels of real people (`tests/benchmarks/retest.py`)."""
_SHADED_FROM = (-2.0, 2.0, 4.0)
SALIENCY_SENTENCE = (
    "SUVR: on the scale of the first page. Influence: how much a small change of the scan at a place would "
    "have changed the network's answer, from dark blue (least) to yellow (most). It is not a map of tau. It "
    "shows neither why the network gave its answer nor whether the answer is right, and it can look "
    "plausible when the answer is wrong."
)


def write_scan_report(
    report: ScanReport,
    suvr: Volume | None,
    folder: Path,
    *,
    pdf: bool = True,
    saliency: NDArray[np.floating] | None = None,
    typical: Sequence[TypicalScan] = (),
) -> dict[str, Path]:
    """Write ``report.html``, ``report.json`` and, where this machine can, ``report.pdf``.

    The page links to the viewer of the scan, ``viewer.html``, where that is in the folder.

    Parameters
    ----------
    suvr : Volume or None
        SUVR on the template grid; None for a scan that was refused before it had one.
    folder : Path
        Made where it is missing. Its name is the caller's: pseudonyms only.
    pdf : bool
        Without pango no PDF is written; see `pipeline.reporting.page.pdf.why_no_pdf`.
    saliency : ndarray, shape (96, 112, 96), optional
        Non-negative; shown beside the anatomy, never over it.
    typical : sequence of TypicalScan
        Scans of the training cohort that are shown beside this one; those that the report's model names.

    Returns
    -------
    dict of str to Path
        ``"html"``, ``"json"``, and ``"pdf"`` where it was written.

    Raises
    ------
    InputError
        If the volume is not SUVR on the template grid, or the saliency has another shape.
    """
    viewer = VIEWER_NAME if (folder / VIEWER_NAME).is_file() else ""
    return scan_page(report, suvr, saliency, typical, viewer).write(folder, "report", pdf=pdf)


def scan_schema() -> dict[str, Any]:
    """Return the JSON schema of ``report.json``, as stored in ``scan_report.schema.json``."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **ScanReport.model_json_schema()}


def scan_page(
    report: ScanReport,
    suvr: Volume | None,
    saliency: NDArray[np.floating] | None = None,
    typical: Sequence[TypicalScan] = (),
    viewer: str = "",
) -> Page:
    """Return the page of a scan, with a link to this viewer of it; see `write_scan_report`."""
    passed = [f for f in report.findings if f.verdict == "pass"]
    half = (len(passed) + 1) // 2
    hottest = f"{report.hottest_side} {title_of(report.hottest_region).lower()}".strip()
    drawn = {
        "hottest": hottest,
        "region_columns": _columns(_groups(report.regions)),
        "noted": [f for f in report.findings if f.verdict != "pass"],
        "passed": [rows for rows in (passed[:half], passed[half:]) if rows],
        "metrics": _metrics(report.model.metrics),
        "level": f"{100 * report.model.level:g} %",
        "noisy": any(row.noise is not None for row in report.model.metrics),
        "say": sentences,
        "checks": checks(report),
        "either": lambda names: listed(names, "or"),
        "pictures": scan_panels(report, suvr, saliency, typical),
        "viewer": viewer,
        "typical_sentence": typical_sentence(report.model.typical_scans if typical else ()),
        "trend": trend(report.visits),
        "retest_share": RETEST_SHARE,
        "saliency_sentence": SALIENCY_SENTENCE,
        **_strip(report.meta_roi),
        "shade": _shade,
        "z_text": lambda z: z_text(z, *([report.tau.region_z] if report.tau else [])),
        "lobe_name": lobe_name,
    }
    return Page("scan.html.j2", report, f"sub-{report.subject} ses-{report.session}", drawn)


def checks(report: ScanReport) -> list[tuple[str, str, str, str]]:
    """Return the checks that decide between a finding and a referral: name, value, limit, verdict."""
    if report.confidence is None or report.operating_point is None:
        return []
    confidence, point = report.confidence, report.operating_point
    sure, enough = texts_apart(confidence, point, percent, 1)
    least = "none: no finding for any scan" if confidence < point >= 1 else f"at least {enough}"
    where = " at your clinic's prevalence" if report.clinic else ""
    size, most, quality = len(report.prediction_set), report.largest_set, report.quality == "pass"
    rows = [
        ("Quality control", "passed" if quality else "warning", "passed", quality),
        (f"Confidence: highest probability{where}", sure, least, confidence >= point),
        ("Classes in the prediction set", f"{size}", f"at most {most}", 0 < size <= most),
    ]
    for d in report.distances:
        value, limit = texts_apart(d.value, d.limit, number, 1)
        rows.append((d.label, value, f"at most {limit}", not d.beyond))
    return [(name, value, limit, "pass" if fine else "refer") for name, value, limit, fine in rows]


def _groups(regions: tuple[RegionRow, ...]) -> list[Group]:
    found = [(name, [r for r in regions if r.group == name]) for name in GROUP_ORDER]
    return [(name, rows) for name, rows in found if rows]


def _columns(groups: list[Group], count: int = 3) -> list[list[Group]]:
    """Share groups out to columns of like height, in order.

    A style sheet could do so alone, but laying that out takes a PDF writer longer than all the rest.
    """
    heights = [len(rows) + 2 for _, rows in groups]  # a header, and the gap below
    middles = [sum(heights[:n]) + height / 2 for n, height in enumerate(heights)]
    place = [min(int(count * middle / sum(heights)), count - 1) for middle in middles]
    columns = [[group for group, at in zip(groups, place, strict=True) if at == n] for n in range(count)]
    return [column for column in columns if column]


def _metrics(rows: tuple[MetricRow, ...]) -> list[tuple[str, str, str]]:
    """Return heading, value and interval of the metrics that all tables show; of all where none is known."""
    known = [
        (
            metric_heading(n),
            value,
            interval if row.noise is None else f"{interval}; {noise_text(row.noise, n)}",
        )
        for n in TABLE
        for row in rows
        if row.name == n
        for value, interval in [interval_text(row, n)]
    ]
    return known or [(r.name, number(r.value), f"{number(r.low)} to {number(r.high)}") for r in rows]


def strip_ticks(*suvr: float) -> tuple[float, ...]:
    """Return four SUVR at equal steps, on a scale that holds these; the usual one where that does.

    Examples
    --------
    >>> strip_ticks(1.19, 1.34, 1.25), strip_ticks(1.19, 1.34, 2.51)
    ((0.9, 1.4, 1.9, 2.4), (0.9, 1.9, 2.9, 3.9))
    """
    known = [value for value in suvr if math.isfinite(value)]
    low = min([0.9, *(math.floor(10 * value) / 10 for value in known)])
    step = 0.5 * max([1, *(math.ceil((value - low) / 1.5) for value in known)])
    return tuple(round(low + step * n, 1) for n in range(4))


def _strip(found: MetaRoi | None) -> dict[str, Any]:
    """Return ticks and places of the strip of the meta-ROI, in percent of its width."""
    if found is None:
        return {}
    ticks = strip_ticks(found.suvr, found.band_low, found.band_high)

    def share(suvr: float) -> float:
        return 100 * min(max((suvr - ticks[0]) / (ticks[-1] - ticks[0]), 0.0), 1.0)

    return {
        "ticks": ticks,
        "place": lambda suvr: f"{share(suvr):.2f}%",
        "span": lambda low, high: f"{share(high) - share(low):.2f}%",
    }


def z_text(z: float | None, *limits: float) -> str:
    """Return a z-score with as many digits as show on which side it is of the limits of shading, and others.

    Examples
    --------
    >>> z_text(1.97), z_text(2.0), z_text(2.31), z_text(None)
    ('+1.97', '+2.0', '+2.3', '–')
    """
    if z is None:
        return signed(z)
    near = min((*_SHADED_FROM, *limits), key=lambda limit: abs(z - limit))
    return texts_apart(z, near, signed, 1)[0]


def _shade(z: float | None) -> str:
    if z is None or -2 < z < 2:
        return ""
    if z < 0:
        return " low"
    return " z4" if z >= 4 else " z2"


def trend(visits: tuple[Visit, ...], height: float = 64.0) -> dict[str, Any]:
    """Return where the visits and the test-retest band stand in a picture of a given height.

    Returns
    -------
    dict
        ``points`` and ``lines`` with x in percent of the width and y in pixels; ``band_top`` and
        ``band_bottom`` in pixels. Empty with fewer than two visits.
    """
    if len(visits) < 2:
        return {}
    first = visits[0].meta_roi
    values = [v.meta_roi for v in visits]
    low = min(*values, first * (1 - 2 * RETEST_SHARE))
    high = max(*values, first * (1 + 2 * RETEST_SHARE))
    months = max(v.months for v in visits) or 1.0

    def y(value: float) -> float:
        return height - 8 - (height - 16) * (value - low) / (high - low)

    spots = [(f"{4 + 92 * v.months / months:.2f}%", f"{y(v.meta_roi):.1f}") for v in visits]
    return {
        "points": spots,
        "lines": [(*a, *b) for a, b in itertools.pairwise(spots)],
        "band_top": y(first * (1 + RETEST_SHARE)),
        "band_bottom": y(first * (1 - RETEST_SHARE)),
    }
