"""The atlas's own brain is made as it always was; a cut field of view is refused by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.atlas import REFERENCE
from pipeline.config import ImagingSettings, PhantomSettings
from pipeline.errors import RefusedScan
from pipeline.files import fingerprint
from pipeline.imaging.process import normalise
from pipeline.phantom import make_scan, plan_cohort
from pipeline.phantom.anatomy import Rendering, draw_uptake
from pipeline.phantom.cohort import CUT_RULE
from pipeline.phantom.population import Latents
from pipeline.phantom.scanner import acquire
from pipeline.scan import Frame, Volume


def ball():
    """A head that no atlas decides: a ball whose right half is brighter."""
    x, y, z = np.ogrid[-47.5:48, -55.5:56, -47.5:48]
    inside = (x**2 + y**2 + z**2) < 35**2
    return Rendering((inside * (1.0 + 0.5 * (x > 0))).astype(np.float32), {REFERENCE: 1.0})


@pytest.mark.parametrize(
    ("vendor", "counts", "spread"),
    [
        ("SIEMENS", 694160770.3281833, 2021.7277093894486),
        ("GE MEDICAL SYSTEMS", 488073898.50582564, 1925.9556216570545),
        ("Philips", 694771360.8580894, 1868.1264196998734),
    ],
)
def test_scans_of_the_atlas_are_made_as_of_old(vendor, counts, spread):
    # Made before scanners could vary; last digits depend on the processor.
    frame = acquire(ball(), vendor, (1200.0,), [3, 1], [3, 2]).frames[0]
    assert frame.sum(dtype=np.float64) == pytest.approx(counts, rel=1e-6)
    assert frame.std(dtype=np.float64) == pytest.approx(spread, rel=1e-6)


def test_uptake_is_drawn_as_of_old():
    drawn = draw_uptake(Latents(0.4, asymmetry=0.1), [3, 1], [3, 2])
    assert drawn.background["left_fusiform"] == pytest.approx(1.1574139310402172, rel=1e-9)
    assert drawn.tau["right_precuneus"] == pytest.approx(0.27362074518099794, rel=1e-9)
    assert drawn.meninges == pytest.approx(0.5086625449260467, rel=1e-9)


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
