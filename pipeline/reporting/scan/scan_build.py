"""From a measured scan and a prediction to the numbers of its report."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from models.card import Card
from pipeline.config import TauThresholds
from pipeline.errors import InputError, RefusedScan
from pipeline.reporting.page.words import CLASS_TITLES, acquisition_facts
from pipeline.reporting.scan.centaur_status import CentaurStatus
from pipeline.reporting.scan.model_facts import likeness_at, set_counts
from pipeline.reporting.scan.regional import (
    Norms,
    asymmetry_sentence,
    composite_rows,
    finite,
    hottest_region,
    meta_roi_of,
    region_rows,
)
from pipeline.reporting.scan.scan_numbers import (
    ClassProbability,
    Distance,
    EntropySplit,
    FindingRow,
    ModelFacts,
    Quality,
    ScanReport,
    Visit,
)
from pipeline.reporting.scan.scan_sentences import headline
from pipeline.reporting.scan.tau_status import tau_status
from pipeline.scan import says_synthetic

if TYPE_CHECKING:
    from models.prediction import Prediction
    from pipeline.imaging.partial_volume import Unblurred
    from pipeline.imaging.process import Normalised


@dataclass(frozen=True, eq=False)
class MeasuredScan:
    """What is known of one scan before a prediction.

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
    unblurred : Unblurred, optional
        A second SUVR of regions and composites, corrected for blur.
    """

    subject: str
    session: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    regions: pd.DataFrame | None = None
    composites: Mapping[str, float] = field(default_factory=dict)
    findings: Sequence[Any] = ()
    visits: tuple[Visit, ...] = ()
    accession_number: str = ""
    unblurred: Unblurred | None = None

    @classmethod
    def of(
        cls,
        subject: str,
        session: str,
        facts: Mapping[str, Any],
        normalised: Normalised | None,
        visits: tuple[Visit, ...] = (),
    ) -> MeasuredScan:
        """Return a scan with what imaging measured; nothing of that where it was refused before."""
        if normalised is None:
            return cls(subject, session, facts, visits=visits)
        n = normalised
        return cls(
            subject, session, facts, n.regions, n.composites, n.findings, visits, unblurred=n.unblurred
        )


@dataclass(frozen=True, eq=False)
class ReportContext:
    """What a report needs beside the scan: facts of the model, date and run.

    Parameters
    ----------
    report_date : str
        Passed in, so that the same scan gives the same bytes.
    card : Card
        Of the classifier: its norms and its tests.
    thresholds : TauThresholds
        From which a scan is tau-positive.
    centaur : CentaurStatus
        What was measured in CenTauR's masks.
    """

    model: ModelFacts
    report_date: str
    run_id: str
    card: Card = field(default_factory=Card)
    thresholds: TauThresholds = field(default_factory=TauThresholds)
    centaur: CentaurStatus = field(default_factory=CentaurStatus.not_calibrated)


def build_scan_report(
    scan: MeasuredScan,
    context: ReportContext,
    prediction: Prediction | None,
    refusal: RefusedScan | None = None,
) -> ScanReport:
    """Assemble the report of one scan.

    Parameters
    ----------
    prediction : Prediction or None
        None where the scan was refused.
    refusal : RefusedScan, optional
        Why there is no prediction.

    Raises
    ------
    InputError
        If there is neither a prediction nor a refusal.
    """
    norms, second = Norms(context.card.norms), scan.unblurred
    rows = region_rows(scan.regions, norms, None if second is None else second.regions)
    region, side = hottest_region(rows)
    # A scan that quality control refused has no measurements, but what was checked until then.
    checked = scan.findings or (() if refusal is None else refusal.findings)
    findings = tuple(_finding(f) for f in checked)
    measured: dict[str, Any] = {
        "findings": findings,
        "quality": _worst(findings, refused=prediction is None),
        "regions": rows,
        "composites": composite_rows(scan.composites, norms, None if second is None else second.composites),
        "pvc_resolution_mm": None if second is None else second.resolution_mm,
        "meta_roi": meta_roi_of(scan.composites, norms, context.thresholds),
        "norm_count": norms.count,
        "hottest_region": region,
        "hottest_side": side,
        "asymmetry_sentence": asymmetry_sentence(rows),
        "visits": tuple(sorted(scan.visits, key=lambda visit: visit.months)),
    }
    if prediction is not None:  # what was measured of a refused scan is not to be relied on
        meta_roi = scan.composites.get("meta_roi")
        measured["tau"] = tau_status(meta_roi, rows, context.thresholds, norms.count)
        measured["centaur"] = context.centaur
    answer = _answer(prediction, context.card) if prediction is not None else _refused(refusal)
    return ScanReport(
        subject=scan.subject,
        session=scan.session,
        report_date=context.report_date,
        run_id=context.run_id,
        synthetic=says_synthetic(scan.facts),
        accession_number=scan.accession_number,
        acquisition=acquisition_facts(scan.facts),
        model=context.model,
        **measured,
        **answer,
    )


def _answer(p: Prediction, card: Card) -> dict[str, Any]:
    classes = tuple(
        ClassProbability(
            name=name,
            title=CLASS_TITLES.get(name, ""),
            probability=p.probabilities[k],
            lower=p.lower[k],
            upper=p.upper[k],
            in_set=name in p.prediction_set,
            trained_share=p.prevalence[k],
            clinic_share=p.clinic_prevalence[k] if p.clinic_prevalence else None,
            clinic_probability=p.clinic_probabilities[k] if p.clinic_probabilities else None,
            shown=p.shown[k],
        )
        for k, name in enumerate(p.class_names)
    )
    reported = p.decision == "report"
    return {
        "verdict": p.decision,
        "headline": headline(classes) if reported else "Refer for expert read",
        "reasons": p.reasons,
        "classes": classes,
        "prediction_set": p.prediction_set,
        "coverage": p.coverage,
        "tested_sets": set_counts(card, p.class_names),
        "largest_set": p.largest_set,
        "range_factor": p.range_factor,
        "confidence": p.confidence,
        "operating_point": p.operating_point,
        # Tests were made at the prevalence of training: the scan's place among them is the one it has there.
        "likeness": likeness_at(card, max(p.probabilities)),
        "uncertainty": _uncertainty(p),
        "distances": (
            Distance(
                label="Distance to the scans of training (Mahalanobis)",
                value=p.mahalanobis,
                limit=p.mahalanobis_limit,
            ),
            Distance(label="Lack of evidence for any class (energy)", value=p.energy, limit=p.energy_limit),
        ),
    }


def _uncertainty(prediction: Prediction) -> EntropySplit | None:
    entropy, disagreed, shared = prediction.entropy, prediction.mutual_information, prediction.mean_entropy
    if entropy is None or disagreed is None or shared is None:
        return None
    return EntropySplit(
        networks=prediction.networks,
        entropy=entropy,
        mutual_information=disagreed,
        mean_entropy=shared,
        limit=math.log(len(prediction.class_names)),
    )


def _refused(refusal: RefusedScan | None) -> dict[str, Any]:
    if refusal is None:
        raise InputError(
            "A report needs a prediction or a refusal, and found neither",
            hint="pass the Prediction or the RefusedScan",
        )
    return {
        "verdict": "refused",
        "headline": "No tau status and no probability: the scan was refused",
        "reasons": (_with_measured(refusal.problem, refusal.measured),),
        "hint": refusal.hint,
    }


def _with_measured(problem: str, measured: str) -> str:
    """Return a problem with the value that was measured, once: most problems state it themselves."""
    stated, words = (set(re.findall(r"[^\s,;:()]+", text)) for text in (problem, measured))
    return problem if words <= stated else f"{problem} (measured {measured})"


def _finding(found: Any) -> FindingRow:
    return FindingRow(
        rule=found.rule,
        verdict=found.verdict,
        measured=finite(found.measured) if found.measured is not None else None,
        limit=found.limit,
        message=found.message,
    )


def _worst(findings: tuple[FindingRow, ...], *, refused: bool) -> Quality:
    verdicts = {f.verdict for f in findings}
    if refused or "refuse" in verdicts:
        return "refuse"
    return "warn" if "warn" in verdicts else "pass"
