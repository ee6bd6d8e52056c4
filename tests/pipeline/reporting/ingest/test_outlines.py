"""The picture of a scan under the template's outline, and where it is shown."""

import io

import numpy as np
from PIL import Image

from pipeline.atlas import SHAPE, load_atlas
from pipeline.ingest.outcomes import ScanOutcome
from pipeline.reporting.ingest.ingest_page import build_ingest_report, write_ingest_page
from pipeline.reporting.ingest.outlines import outline_path, outline_picture, write_outline
from pipeline.scan import Cohort

BLUE, ORANGE = (0, 190, 220), (255, 140, 0)


def drawn(suvr):
    return np.asarray(Image.open(io.BytesIO(outline_picture(suvr))).convert("RGB")).astype(int)


def test_three_slices_lie_side_by_side_under_both_outlines():
    picture = drawn(np.zeros(SHAPE, np.float32))
    assert picture.shape == (112, 96 + 96 + 112 + 3 * 2, 3)
    axial, coronal, sagittal = picture[:, :96], picture[:, 98:194], picture[:, 196:308]
    for panel in (axial, coronal, sagittal):
        assert (panel == BLUE).all(axis=-1).sum() > 150
    for panel in (coronal, sagittal):
        assert (panel == ORANGE).all(axis=-1).sum() > 30
    other = ~((picture == BLUE) | (picture == ORANGE)).all(axis=-1)
    assert set(picture[other].ravel()) <= {255, 0, 190, 220, 140}


def test_the_right_side_is_shown_on_the_left_and_the_front_on_top():
    suvr = np.zeros(SHAPE, np.float32)
    suvr[60:70, 80:90, 42:46] = 3.0  # right frontal, within 3 mm of the axial slice
    rows, columns = np.nonzero((drawn(suvr)[:, :96] == 0).all(axis=-1))
    assert columns.max() < 48
    assert rows.max() < 56


def test_uptake_beyond_the_outline_is_visible():
    head = load_atlas().brain.astype(np.float32)
    aside = np.roll(head, 10, axis=0)
    dark = [(drawn(image)[:, :96] < 170).all(axis=-1).sum() for image in (head, aside)]
    inside = [(drawn(image * load_atlas().brain)[:, :96] < 170).all(axis=-1).sum() for image in (head, aside)]
    assert dark[0] == inside[0]
    assert dark[1] > inside[1] + 300


def test_the_page_shows_each_scan_that_has_a_picture(tmp_path):
    images = {}
    for name in ("sub-A_ses-1", "sub-B_ses-1"):
        images[name] = tmp_path / f"{name}_space-MNI152NLin2009aSym_desc-suvr_pet.nii.gz"
    written = write_outline(load_atlas().grey, images["sub-A_ses-1"])
    assert written == outline_path(images["sub-A_ses-1"])
    assert written.name == "sub-A_ses-1_space-MNI152NLin2009aSym_desc-outline_pet.png"
    outcomes = [ScanOutcome(name, "accepted") for name in images]
    report = build_ingest_report(outcomes, {}, "bids", Cohort((), ("CN", "AD")))
    html = write_ingest_page(report, tmp_path, images).read_text()
    assert html.count("data:image/png") == 1
    assert 'alt="sub-A_ses-1: three slices' in html
    assert "<h2>Outlines" not in write_ingest_page(report, tmp_path).read_text()
