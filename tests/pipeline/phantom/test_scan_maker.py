"""The atlas's own brain is made as it always was; a cut field of view is refused by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.config import ImagingSettings, PhantomSettings
from pipeline.errors import RefusedScan
from pipeline.files import fingerprint
from pipeline.imaging.process import normalise
from pipeline.phantom import make_scan, plan_cohort
from pipeline.phantom.cohort import CUT_RULE
from pipeline.scan import Frame, Volume


@pytest.mark.parametrize(
    ("scan", "painted", "fusiform", "counts", "resolution_mm"),
    # Made before people could differ by more than an affine map; last digits depend on the processor.
    [
        (0, 382435.557555, 1.261368130, 880668919.993, 7.286397683),
        (3, 419071.143369, 1.629082586, 1591200627.148, 7.563814453),
    ],
)
def test_affine_scans_are_those_of_old(small_settings, scan, painted, fusiform, counts, resolution_mm):
    rendering, seen = make_scan(plan_cohort(small_settings, 7)[scan], 7, small_settings)
    assert rendering.suvr.sum(dtype=np.float64) == pytest.approx(painted, rel=1e-7)
    assert rendering.regional["left_fusiform"] == pytest.approx(fusiform, rel=1e-7)
    assert seen.frames[0].sum(dtype=np.float64) == pytest.approx(counts, rel=1e-6)
    assert seen.resolution_mm == pytest.approx(resolution_mm, rel=1e-8)


def test_settings_of_old_cohorts_are_written_as_of_old():
    assert set(PhantomSettings().model_dump()) == {
        "preset", "subjects", "scans", "spoiled", "workers", "batches",
    }  # fmt: skip
    people = PhantomSettings(anatomy="people")
    assert people.model_dump()["anatomy"] == "people"
    assert PhantomSettings(**people.model_dump()) == people
    assert fingerprint(people.model_dump()) != fingerprint(PhantomSettings().model_dump())


@pytest.mark.slow
def test_a_cut_field_of_view_is_refused_by_the_rule_it_breaks():
    settings = PhantomSettings(subjects=4, scans=4, spoiled=0, anatomy="people")
    for planned in plan_cohort(settings, 5):
        scan = replace(planned, frames_s=(1200.0,), spoiled=CUT_RULE)
        frame, affine = (seen := make_scan(scan, 5, settings)[1]).frames[0], seen.affine
        facts = {"scan_after_injection_s": 4800.0}
        with pytest.raises(RefusedScan, match="cerebell") as refused:
            normalise(Volume(frame, affine, "Bq/mL", (Frame(0.0, 1200.0),), facts), ImagingSettings())
        # Where nothing of the reference region is in view, there is no share of it to report.
        assert refused.value.rule in (CUT_RULE, "no-reference")
