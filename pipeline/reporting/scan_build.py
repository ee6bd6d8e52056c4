"""From a measured scan and a prediction to the numbers of its report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline.atlas import META_ROI, META_ROI_CUTOFFS, META_ROI_DEFINITIONS
from pipeline.errors import InputError, RefusedScan
from pipeline.reporting.page import percent, percent_range
from pipeline.reporting.scan_numbers import (
    ClassProbability,
    Composite,
    Distance,
    FindingRow,
    Likeness,
    MetaRoi,
    ModelFacts,
    Quality,
    RegionRow,
    ScanReport,
    Visit,
)
from pipeline.reporting.words import CLASS_TITLES, COMPOSITES, acquisition_facts, region_group, title_of

if TYPE_CHECKING:
    from models.classifier import Prediction

MIN_NORMS = 5
"""A z-score against fewer scans than this says nothing; it is left out."""
NOTABLE_ASYMMETRY_PERCENT = 10.0


@dataclass(frozen=True, eq=False)
class MeasuredScan:
    """What is known of one scan before any model looked at it.

    Parameters
    ----------
    subject, session : str
        Pseudonyms.
    facts : mapping
        As in `pipeline.scan.Volume.facts`; only known acquisition facts are shown, never the rest.
    regions : DataFrame, optional
        Columns region, side, suvr, volume_ml, kind, braak, as `pipeline.imaging` writes them. None where the
        scan was refused before it was measured.
    composites : mapping of str to float
        SUVR of ``"meta_roi"``, ``"braak_1_2"`` and so on.
    findings : sequence
        Quality findings with rule, verdict, measured, limit, message.
    visits : tuple of Visit
        All visits of the subject up to this one, with months from the first; drawn where there are two.
    accession_number : str
        Only where the report goes back to the PACS it came from; the caller answers for showing it.
    """

    subject: str
    session: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    regions: pd.DataFrame | None = None
    composites: Mapping[str, float] = field(default_factory=dict)
    findings: Sequence[Any] = ()
    visits: tuple[Visit, ...] = ()
    accession_number: str = ""


@dataclass(frozen=True, eq=False)
class ReportContext:
    """What the report stands in: model, norms, experience, date and run.

    Parameters
    ----------
    model : ModelFacts
    report_date : str
        Passed in, so that the same scan gives the same bytes.
    run_id : str
    norms : DataFrame, optional
        Columns region, side, mean, sd, n of the training cohort's normal scans, see `regional_norms`.
    likeness : Likeness, optional
        Held-out scans that were rated as this one.
    """

    model: ModelFacts
    report_date: str
    run_id: str
    norms: pd.DataFrame | None = None
    likeness: Likeness | None = None


def regional_norms(
    regions: Iterable[pd.DataFrame], composites: Iterable[Mapping[str, float]]
) -> pd.DataFrame:
    """Return mean, SD and count of regional SUVR over normal scans.

    Parameters
    ----------
    regions : iterable of DataFrame
        One table a scan, columns region, side, suvr. Scans of the training split only, one a subject.
    composites : iterable of mapping
        One a scan; they get the side ``"both"``.

    Returns
    -------
    DataFrame
        Columns region, side, mean, sd, n.
    """
    rows = [table[["region", "side", "suvr"]] for table in regions]
    rows += [
        pd.DataFrame({"region": list(c), "side": "both", "suvr": list(c.values())}) for c in composites if c
    ]
    if not rows:
        return pd.DataFrame(columns=["region", "side", "mean", "sd", "n"])
    grouped = pd.concat(rows).groupby(["region", "side"], sort=True)["suvr"]
    return grouped.agg(mean="mean", sd="std", n="count").reset_index()


def build_scan_report(
    scan: MeasuredScan,
    context: ReportContext,
    prediction: Prediction | None,
    refusal: RefusedScan | None = None,
) -> ScanReport:
    """Assemble the report of one scan.

    Parameters
    ----------
    scan : MeasuredScan
    context : ReportContext
    prediction : Prediction or None
        None where the scan was refused.
    refusal : RefusedScan, optional
        Why there is no prediction.

    Raises
    ------
    InputError
        If there is neither a prediction nor a refusal.
    """
    norms = _Norms(context.norms)
    rows = _region_rows(scan.regions, norms)
    hottest, side = _hottest(rows)
    findings = tuple(_finding(f) for f in scan.findings)
    measured = {
        "findings": findings,
        "quality": _worst(findings, refused=prediction is None),
        "regions": rows,
        "composites": _composites(scan.composites, norms),
        "meta_roi": _meta_roi(scan.composites, norms),
        "norm_count": norms.count,
        "hottest_region": hottest,
        "hottest_side": side,
        "asymmetry_sentence": _asymmetry(rows),
        "visits": tuple(sorted(scan.visits, key=lambda visit: visit.months)),
    }
    answer = _answer(prediction) if prediction is not None else _refused(refusal)
    return ScanReport(
        subject=scan.subject,
        session=scan.session,
        report_date=context.report_date,
        run_id=context.run_id,
        synthetic=_is_synthetic(scan.facts),
        accession_number=scan.accession_number,
        likeness=context.likeness if prediction is not None else None,
        acquisition=acquisition_facts(scan.facts),
        model=context.model,
        **measured,
        **answer,
    )


def _answer(prediction: Prediction) -> dict[str, Any]:
    names = prediction.class_names
    classes = tuple(
        ClassProbability(
            name=name,
            title=CLASS_TITLES.get(name, ""),
            probability=prediction.probabilities[k],
            lower=prediction.lower[k],
            upper=prediction.upper[k],
            in_set=name in prediction.prediction_set,
            trained_share=prediction.prevalence[k],
            clinic_share=prediction.clinic_prevalence[k] if prediction.clinic_prevalence else None,
            clinic_probability=prediction.clinic_probabilities[k]
            if prediction.clinic_probabilities
            else None,
        )
        for k, name in enumerate(names)
    )
    first = max(classes, key=lambda c: c.probability)
    if prediction.decision == "report":
        sure = f"{percent(first.probability)}, interval {percent_range(first.lower, first.upper)}"
        headline = f"The scan is most like {first.title or first.name} ({first.name}): {sure}"
    else:
        headline = "Refer for expert read"
    return {
        "verdict": "report" if prediction.decision == "report" else "refer",
        "headline": headline,
        "reasons": prediction.reasons,
        "classes": classes,
        "prediction_set": prediction.prediction_set,
        "coverage": prediction.coverage,
        "confidence": prediction.confidence,
        "operating_point": prediction.operating_point,
        "distances": (
            Distance(
                label="Mahalanobis distance of features",
                value=prediction.mahalanobis,
                limit=prediction.mahalanobis_limit,
            ),
            Distance(label="Energy of logits", value=prediction.energy, limit=prediction.energy_limit),
        ),
    }


def _distance(label: str, value: float, limit: float) -> Distance:
    return Distance(label=label, value=value, limit=limit)


def _refused(refusal: RefusedScan | None) -> dict[str, Any]:
    if refusal is None:
        raise InputError(
            "A report needs a prediction or the reason why there is none, got neither",
            mend="pass the Prediction or the RefusedScan",
        )
    seen = f" (measured {refusal.measured})" if refusal.measured else ""
    return {
        "verdict": "refused",
        "headline": "No probability: the scan was refused",
        "reasons": (f"{refusal.problem}{seen}",),
        "mend": refusal.mend,
    }


class _Norms:
    """Looks up mean, SD and count of a region; gives z-scores."""

    def __init__(self, table: pd.DataFrame | None) -> None:
        rows = [] if table is None else table.to_dict("records")
        self._of = {(r["region"], r["side"]): (float(r["mean"]), float(r["sd"]), int(r["n"])) for r in rows}
        counts = [n for _, _, n in self._of.values() if n >= MIN_NORMS]
        self.count = max(counts) if counts else None

    def get(self, region: str, side: str) -> tuple[float, float, int] | None:
        found = self._of.get((region, side))
        usable = found is not None and found[2] >= MIN_NORMS and np.isfinite(found[1]) and found[1] > 0
        return found if usable else None

    def z(self, region: str, side: str, suvr: float | None) -> float | None:
        found = self.get(region, side)
        return None if found is None or suvr is None else (suvr - found[0]) / found[1]


def _region_rows(table: pd.DataFrame | None, norms: _Norms) -> tuple[RegionRow, ...]:
    if table is None:
        return ()
    rows = []
    for region, part in table.groupby("region", sort=False):
        suvr = {str(r["side"]): _finite(r["suvr"]) for r in part.to_dict("records")}
        left, right = suvr.get("left"), suvr.get("right")
        first = part.iloc[0]
        rows.append(
            RegionRow(
                region=region,
                title=title_of(str(region)),
                group=region_group(str(region), str(first["kind"])),
                kind=first["kind"],
                braak="" if pd.isna(first["braak"]) else first["braak"],
                in_meta_roi=region in META_ROI_DEFINITIONS[META_ROI],
                left=left,
                right=right,
                both=suvr.get("both"),
                z_left=norms.z(str(region), "left", left),
                z_right=norms.z(str(region), "right", right),
                asymmetry_percent=None if not left or not right else 200 * (left - right) / (left + right),
            )
        )
    return tuple(rows)


def _finite(value: object) -> float | None:
    x = float(value)  # type: ignore[arg-type]
    return x if np.isfinite(x) else None


def _hottest(rows: tuple[RegionRow, ...]) -> tuple[str, str]:
    found = [
        (suvr, row.region, side)
        for row in rows
        if row.kind == "target"
        for side, suvr in (("left", row.left), ("right", row.right))
        if suvr is not None
    ]
    return max(found)[1:] if found else ("", "")


def _asymmetry(rows: tuple[RegionRow, ...]) -> str:
    told = [r for r in rows if r.kind == "target" and r.asymmetry_percent is not None]
    if not told:
        return ""
    most = max(told, key=lambda r: abs(r.asymmetry_percent or 0))
    size = most.asymmetry_percent or 0.0
    higher = "left" if size > 0 else "right"
    if abs(size) < NOTABLE_ASYMMETRY_PERCENT:
        return f"No target region differs by {NOTABLE_ASYMMETRY_PERCENT:.0f} % or more between the sides."
    count = sum(abs(r.asymmetry_percent or 0) >= NOTABLE_ASYMMETRY_PERCENT for r in told)
    return (
        f"{count} of {len(told)} target regions differ by {NOTABLE_ASYMMETRY_PERCENT:.0f} % or more between "
        f"the sides; most of all {most.title.lower()}, {abs(size):.0f} % higher on the {higher}."
    )


def _composites(values: Mapping[str, float], norms: _Norms) -> tuple[Composite, ...]:
    rows = []
    for name, suvr in values.items():
        title, regions = COMPOSITES.get(name, (title_of(name), ""))
        norm = norms.get(name, "both")
        mean, sd, count = norm if norm else (None, None, None)
        z = norms.z(name, "both", suvr)
        rows.append(
            Composite(
                name=name,
                title=title,
                regions=regions,
                suvr=suvr,
                z=z,
                norm_mean=mean,
                norm_sd=sd,
                norm_count=count,
            )
        )
    return tuple(rows)


def _meta_roi(values: Mapping[str, float], norms: _Norms) -> MetaRoi | None:
    if "meta_roi" not in values:
        return None
    norm = norms.get("meta_roi", "both")
    return MetaRoi(
        definition=f"{META_ROI}: " + ", ".join(title_of(r).lower() for r in META_ROI_DEFINITIONS[META_ROI]),
        suvr=values["meta_roi"],
        band_low=META_ROI_CUTOFFS[0],
        band_high=META_ROI_CUTOFFS[1],
        norm_mean=norm[0] if norm else None,
        norm_sd=norm[1] if norm else None,
    )


def _finding(found: Any) -> FindingRow:
    return FindingRow(
        rule=found.rule,
        verdict=found.verdict,
        measured=_finite(found.measured) if found.measured is not None else None,
        limit=found.limit,
        message=found.message,
    )


def _worst(findings: tuple[FindingRow, ...], *, refused: bool) -> Quality:
    verdicts = {f.verdict for f in findings}
    if refused or "refuse" in verdicts:
        return "refuse"
    return "warn" if "warn" in verdicts else "pass"


def _is_synthetic(facts: Mapping[str, Any]) -> bool:
    flag = any(
        str(k).lower() == "synthetic" and str(v).lower() in ("true", "1", "yes") for k, v in facts.items()
    )
    return flag or any(isinstance(v, str) and "SYNTHETIC" in v for v in facts.values())
