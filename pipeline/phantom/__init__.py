"""A synthetic AV1451 cohort whose true posterior is known."""

from pipeline.phantom.cohort import SPOILED_RULES, PlannedScan, plan_cohort
from pipeline.phantom.population import PRESETS, Preset, posterior
from pipeline.phantom.tree import make_scan, write_cohort

__all__ = [
    "PRESETS",
    "SPOILED_RULES",
    "PlannedScan",
    "Preset",
    "make_scan",
    "plan_cohort",
    "posterior",
    "write_cohort",
]
