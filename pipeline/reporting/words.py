"""How a report calls regions, composites, classes and acquisition facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pipeline.atlas import META_ROI, META_ROI_DEFINITIONS
from pipeline.reporting.page import Named


class Interval(Protocol):
    """A value between two bounds."""

    @property
    def value(self) -> float:
        """The point."""

    @property
    def low(self) -> float:
        """The lower bound."""

    @property
    def high(self) -> float:
        """The upper bound."""


CLASS_TITLES = {
    "CN": "cognitively normal",
    "MCI": "mild cognitive impairment",
    "AD": "dementia of the Alzheimer type",
    "CN-": "cognitively normal, amyloid negative",
    "CN+": "cognitively normal, amyloid positive",
    "MCI+": "mild cognitive impairment, amyloid positive",
}

_GROUPS: dict[str, tuple[str, ...]] = {
    "Medial temporal": ("entorhinal", "amygdala", "hippocampus", "parahippocampal"),
    "Temporal": (
        "fusiform", "inferior_temporal", "middle_temporal", "temporal_pole", "superior_temporal", "banks_sts",
        "transverse_temporal",
    ),
    "Parietal": ("precuneus", "inferior_parietal", "supramarginal", "superior_parietal"),
    "Occipital": ("lateral_occipital", "cuneus", "lingual", "pericalcarine"),
    "Cingulate and insula": (
        "isthmus_cingulate", "posterior_cingulate", "caudal_anterior_cingulate",
        "rostral_anterior_cingulate", "insula",
    ),
    "Frontal": (
        "rostral_middle_frontal", "caudal_middle_frontal", "superior_frontal", "pars_opercularis",
        "pars_triangularis", "pars_orbitalis", "lateral_orbitofrontal",
        "medial_orbitofrontal", "frontal_pole",
    ),
    "Sensorimotor": ("precentral", "postcentral", "paracentral"),
}  # fmt: skip
_GROUP_OF = {region: group for group, regions in _GROUPS.items() for region in regions}
OFF_TARGET = "Off-target (binds without tau)"
GROUP_ORDER = (*_GROUPS, "Other", OFF_TARGET, "Background")

_TITLES = {
    "banks_sts": "Banks of sup. temporal sulcus",
    "ventral_dc": "Ventral diencephalon",
    "cerebellar_grey": "Cerebellar grey",
    "inferior_cerebellar_grey": "Inferior cerebellar grey (reference)",
}

COMPOSITES: dict[str, tuple[str, str]] = {
    "meta_roi": (
        f"Temporal meta-ROI ({META_ROI})",
        ", ".join(r.replace("_", " ") for r in META_ROI_DEFINITIONS[META_ROI]),
    ),
    "meta_roi_adni": (
        "Temporal meta-ROI (ADNI)", ", ".join(r.replace("_", " ") for r in META_ROI_DEFINITIONS["ADNI"]),
    ),
    "braak_1_2": ("Braak I/II", "entorhinal; hippocampus left out: choroid plexus spills into it"),
    "braak_3_4": ("Braak III/IV", "limbic and temporal"),
    "braak_5_6": ("Braak V/VI", "neocortex"),
}  # fmt: skip

ACQUISITION: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Tracer", "", ("tracer", "TracerName")),
    ("Injected activity", " MBq", ("injected_mbq", "injected_activity_mbq", "dose_mbq")),
    ("Window after injection", "", ("window", "window_min", "frames_used")),
    ("Window starts", " min after injection", ("window_start_min", "scan_start_min")),
    ("Window ends", " min after injection", ("window_end_min", "scan_end_min")),
    ("Scanner", "", ("manufacturer", "Manufacturer")),
    ("Scanner model", "", ("model", "scanner_model", "manufacturer_model", "ManufacturersModelName")),
    ("Reconstruction", "", ("reconstruction", "reconstruction_method", "ReconMethodName")),
    ("Resolution", " mm", ("resolution_mm", "native_resolution_mm")),
    ("Resolution after smoothing", " mm", ("smoothed_to_mm", "common_resolution_mm")),
    (
        "Attenuation correction",
        "",
        ("attenuation_correction", "AttenuationCorrection"),
    ),
    ("Series description", "", ("series_description", "SeriesDescription")),
    ("Study instance UID", "", ("study_instance_uid", "StudyInstanceUID")),
    ("Series instance UID", "", ("series_instance_uid", "SeriesInstanceUID")),
    ("Reference region", "", ("reference_region",)),
    ("Coefficient of variation there", "", ("reference_cov",)),
    ("Age", " years", ("age",)),
    ("Sex", "", ("sex",)),
)
"""Label, unit and the facts it may come from. What is not listed here is never shown: facts come from files
made elsewhere, and may hold a name."""


def title_of(region: str) -> str:
    """Return how a report calls a region.

    Examples
    --------
    >>> title_of("inferior_temporal")
    'Inferior temporal'
    """
    return _TITLES.get(region, region.replace("_", " ").capitalize())


def region_group(region: str, kind: str) -> str:
    """Return the heading a region stands under."""
    if kind == "offtarget":
        return OFF_TARGET
    if kind == "background":
        return "Background"
    return _GROUP_OF.get(region, "Other")


def acquisition_facts(facts: Mapping[str, Any]) -> tuple[Named, ...]:
    """Return the known acquisition facts in a fixed order; every other fact is left out.

    Examples
    --------
    >>> [str(f.value) for f in acquisition_facts({"tracer": "AV1451", "PatientName": "Doe^Jane"})]
    ['AV1451']
    """
    rows = []
    for label, unit, keys in ACQUISITION:
        value = next((facts[k] for k in keys if facts.get(k) not in (None, "")), None)
        if value is not None:
            rows.append(Named(label=label, value=f"{_plain(value)}{unit}"))
    return tuple(rows)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


METRIC_TITLES = {
    "negative_log_likelihood": "NLL ↓",
    "brier_score": "Brier ↓",
    "classwise_ece": "Classwise ECE ↓",
    "expected_calibration_error": "ECE ↓",
    "balanced_accuracy": "Balanced accuracy ↑",
    "macro_auroc": "Macro AUROC ↑",
    "posterior_error": "Posterior error ↓",
}
"""The metrics that tables show, in order; arrows point to where it is better."""
_IN_PERCENT = ("classwise_ece", "expected_calibration_error")


def interval_text(found: Interval, metric: str) -> tuple[str, str]:
    """Return the value and the interval as tables show them, calibration errors in percent.

    Examples
    --------
    >>> from pipeline.evaluation.intervals import Interval
    >>> interval_text(Interval(0.1234, 0.1, 0.15), "classwise_ece")
    ('12.3 %', '10.0 to 15.0')
    """
    if metric in _IN_PERCENT:
        return f"{100 * found.value:.1f} %", f"{100 * found.low:.1f} to {100 * found.high:.1f}"
    return f"{found.value:.2f}", f"{found.low:.2f} to {found.high:.2f}"
