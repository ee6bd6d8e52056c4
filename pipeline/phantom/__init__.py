"""A synthetic AV1451 cohort whose true posterior is known."""

from pipeline.phantom.batch import plan_batch
from pipeline.phantom.cohort import BROKEN_RULES, SPOILED_RULES, PlannedScan, plan_cohort
from pipeline.phantom.population import PRESETS, Preset, posterior
from pipeline.phantom.real_people import paint_labels
from pipeline.phantom.scan_maker import make_scan
from pipeline.phantom.tree import write_batch, write_cohort

__all__ = [
    "BROKEN_RULES",
    "PRESETS",
    "SPOILED_RULES",
    "PlannedScan",
    "Preset",
    "make_scan",
    "paint_labels",
    "plan_batch",
    "plan_cohort",
    "posterior",
    "write_batch",
    "write_cohort",
]
