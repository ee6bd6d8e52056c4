"""What reports call regions, composites, classes and acquisition facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.atlas import META_ROI, META_ROI_DEFINITIONS
from pipeline.evaluation.metrics import metric_named
from pipeline.reporting.page.facts import NBSP, Measured, Named, number, signed

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
    "braak_1_2": ("Braak I/II", "entorhinal; not hippocampus, where choroid plexus signal spills in"),
    "braak_3_4": ("Braak III/IV", "limbic and temporal"),
    "braak_5_6": ("Braak V/VI", "neocortex"),
}  # fmt: skip


def _megabecquerel(value: float) -> str:
    return f"{value / 1e6:.0f} MBq"


def _millimetres(value: float) -> str:
    return f"{value:g} mm"


def _years(value: float) -> str:
    return f"{value:.0f} years" if value < 90 else "90 years or more"  # an age beyond 89 can identify


def _yes_or_no(value: object) -> str:
    return "yes" if value is True else "no" if value is False else str(value)


ACQUISITION: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("Tracer", "tracer", str),
    ("Injected activity", "injected_activity_bq", _megabecquerel),
    ("Scanner", "manufacturer", str),
    ("Scanner model", "model", str),
    ("Reconstruction", "reconstruction", str),
    ("Attenuation corrected", "attenuation_corrected", _yes_or_no),
    ("Series description", "series_description", str),
    ("Study instance UID (pseudonym)", "study_instance_uid", str),
    ("Frames averaged", "frames_averaged", str),
    ("Motion between frames", "motion_mm", lambda v: f"{v:.1f} mm"),
    ("Resolution after smoothing", "resolution_mm", _millimetres),
    ("Reference region", "reference_region", lambda v: str(v).replace("_", " ")),
    ("Age", "age", _years),
    ("Sex", "sex", str),
)
"""Label, fact and how it is written. What is not listed here is never shown: facts come from files made
elsewhere, and may hold a name."""
WINDOW = "Window after injection"


def title_of(region: str) -> str:
    """Return the title of a region in a report.

    Examples
    --------
    >>> title_of("inferior_temporal")
    'Inferior temporal'
    """
    return _TITLES.get(region, region.replace("_", " ").capitalize())


def region_group(region: str, kind: str) -> str:
    """Return the heading under which a region is listed."""
    if kind == "offtarget":
        return OFF_TARGET
    if kind in ("background", "reference"):
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
    start, end = facts.get("window_start_min"), facts.get("window_end_min")
    if isinstance(start, int | float) and isinstance(end, int | float):
        rows.append(Named(label=WINDOW, value=f"{start:.0f} to {end:.0f} min after injection"))
    for label, name, written in ACQUISITION:
        value = facts.get(name)
        if name == "motion_mm" and facts.get("frames_averaged") == 1:
            continue  # one frame shows no motion, whatever there was before it was averaged
        if value not in (None, ""):
            rows.append(Named(label=label, value=_written(value, written)))
    return tuple(rows)


def _written(value: Any, written: Callable[[Any], str]) -> str:
    try:
        return written(value)
    except (TypeError, ValueError):  # a header may hold text where a number belongs: show what is there
        return str(value)


def metric_heading(metric: str) -> str:
    """Return the heading of a metric's column; its arrow stays on the line of the last word.

    Examples
    --------
    >>> metric_heading("brier_score").replace(NBSP, "_")
    'Brier score_↓'
    """
    return metric_named(metric).heading.replace(" ↓", f"{NBSP}↓").replace(" ↑", f"{NBSP}↑")


def noise_text(floor: float, metric: str) -> str:
    """Return the noise floor of a calibration error as tables show it under the error.

    Examples
    --------
    >>> noise_text(0.0714, "classwise_ece").replace(NBSP, "_")
    'noise_7.1_%'
    """
    return f"noise {metric_named(metric).number(floor)}".replace(" ", NBSP)


def interval_text(found: Measured, metric: str) -> tuple[str, str]:
    """Return value and interval of a metric as tables show them, with true minus signs."""
    value, interval = metric_named(metric).parts(found)
    return value.replace("-", "−"), interval.replace("-", "−")


def change_text(found: Measured, metric: str) -> tuple[str, str]:
    """Return a difference of a metric and its interval with signs; of one in percent, percentage points.

    Examples
    --------
    >>> change_text(Measured(value=-0.0294, low=-0.05, high=0.001), "classwise_ece_above_noise")
    ('−2.9 points', '−5.0 to +0.1')
    >>> change_text(Measured(value=0.0214, low=0.01, high=0.03), "accuracy")
    ('+0.021', '+0.010 to +0.030')
    """
    scale, digits, unit = metric_named(metric).steps
    value, low, high = (signed(scale * x, digits) for x in (found.value, found.low, found.high))
    return f"{value}{unit}", f"{low} to {high}"


def size_text(size: float, metric: str) -> str:
    """Return the size of a difference of a metric, without a sign.

    Examples
    --------
    >>> size_text(0.0321, "classwise_ece_above_noise"), size_text(0.04, "accuracy")
    ('3.2 points', '0.040')
    """
    scale, digits, unit = metric_named(metric).steps
    return f"{number(scale * size, digits)}{unit}"
