"""A processing is calibrated on published SUVR, and not used where it changed."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.ingestion.ingest_tables import COHORT_TABLE
from pipeline.atlas import AFFINE, load_atlas
from pipeline.centaur.centaur_calibration import (
    fit_calibration,
    masks_of,
    own_suvr,
    read_calibration,
    write_calibration,
)
from pipeline.centaur.centaur_masks import REGIONS, centaur_z, mask_title
from pipeline.config import ImagingSettings
from pipeline.errors import InputError
from pipeline.ingest.deidentify import Pseudonymiser, key_beside, load_or_make_key
from pipeline.reporting.scan.centaur_status import CentaurReader
from pipeline.scan import Cohort, Scan, Volume

COUNT = 14


@pytest.fixture
def imaging(mask_folder) -> ImagingSettings:
    return ImagingSettings(centaur_masks=mask_folder)


@pytest.fixture
def dataset(tmp_path):
    """A dataset of SUVR images, and how its subjects are named in the source."""
    bids = tmp_path / "bids"
    bids.mkdir()
    names = Pseudonymiser(load_or_make_key(key_beside(bids), bids))
    atlas = load_atlas()
    rng = np.random.default_rng(0)
    scans = []
    for n in range(COUNT):
        image = np.where(atlas.reference, 1.0, 1.0 + 0.08 * n) + rng.normal(0, 0.01, atlas.labels.shape)
        path = bids / f"{n}.nii"
        nib.save(nib.Nifti1Image(image.astype(np.float32), AFFINE), path)
        scans.append(Scan(names.subject(f"P-{n}"), "01", path, diagnosis="CN"))
    cohort = Cohort(tuple(scans), ("CN", "AD"))
    (bids / COHORT_TABLE).parent.mkdir(parents=True)
    cohort.write_tsv(bids / COHORT_TABLE)
    return bids, cohort, names


def table(path, cohort, masks, names, *, header="subject,universal,MesialTemporal_SUVR,meta,TP,frontal"):
    columns = header.split(",")[1:]
    regions = ["universal", "mesial_temporal", "meta_temporal", "temporo_parietal", "frontal"]
    rows = [header]
    for n, scan in enumerate(cohort.scans):
        own = own_suvr(np.asarray(nib.load(scan.path).dataobj), masks)
        values = [f"{0.9 * own[region] + 0.1:.6f}" for region in regions[: len(columns)]]
        rows.append(",".join([names(n, scan), *values]))
    path.write_text("\n".join(rows))
    return path


def source_name(n, _scan):
    return f"P-{n}"


@pytest.mark.parametrize("name", [source_name, lambda _n, scan: scan.scan_id, lambda _n, scan: scan.subject])
@pytest.mark.parametrize(
    "header",
    [
        "subject,universal,MesialTemporal_SUVR,meta,TP,frontal",
        "ID,CenTauR,Mesial_CenTauR,Meta_CenTauR,TP_CenTauR,Frontal_CenTauR",
        "ptid,Universal_suvr,Mesial temporal,Meta-temporal,Temporo-parietal,Frontal",
        "Scan,CenTauR SUVR",
    ],
)
def test_the_line_to_the_published_values_is_found(tmp_path, dataset, imaging, name, header):
    bids, cohort, names = dataset
    csv = table(tmp_path / "spm8.csv", cohort, masks_of(imaging), name, header=header)
    found = fit_calibration(csv, cohort, imaging, lambda label: f"sub-{names.subject(label)}")
    assert len(found.lines) == header.count(",")
    for line in found.lines.values():
        assert (line.slope, line.intercept, line.scans) == (
            pytest.approx(0.9, abs=1e-3),
            pytest.approx(0.1, abs=1e-3),
            COUNT,
        )
    own = own_suvr(np.asarray(nib.load(cohort.scans[5].path).dataobj), masks_of(imaging))
    expected = centaur_z({"universal": 0.9 * own["universal"] + 0.1})["universal"]
    assert found.z(own)["universal"] == pytest.approx(expected, abs=0.01)
    assert read_calibration(write_calibration(found, bids).parent) == found


def test_a_processing_or_masks_that_changed_state_no_z(tmp_path, dataset, imaging, mask_folder):
    _, cohort, names = dataset
    csv = table(tmp_path / "spm8.csv", cohort, masks_of(imaging), source_name)
    out, said = tmp_path / "out", []
    out.mkdir()
    image = Volume(np.asarray(nib.load(cohort.scans[7].path).dataobj), AFFINE, "SUVR")
    before = CentaurReader.of(imaging, out, said.append).read(image, imaging)
    assert before.sentence == "CenTauRz is not stated: the processing is not calibrated to CenTauR."
    assert all(row.z is None for row in before.rows)
    assert len(before.rows) == 5
    found = fit_calibration(csv, cohort, imaging, lambda label: f"sub-{names.subject(label)}")
    write_calibration(found, out)
    status = CentaurReader.of(imaging, out, said.append).read(image, imaging)
    assert status.why_not == ""
    assert f"on {COUNT} scans with published SUVR: universal " in status.sentence
    titles = ("universal", "mesial temporal", "meta-temporal", "temporoparietal", "frontal")
    assert [row.region for row in status.rows] == [mask_title(name) for name in REGIONS] == list(titles)
    assert all(f"{title} " in status.sentence for title in titles)
    assert status.sentence.endswith("(Villemagne et al. 2023, doi 10.1002/dad2.12454).")
    assert all(row.z is not None for row in status.rows)
    other = ImagingSettings(centaur_masks=mask_folder, resolution_mm=9.0)
    assert "processing has changed" in CentaurReader.of(other, out, said.append).read(image, other).sentence
    assert CentaurReader.of(ImagingSettings(), out, said.append).read(image, imaging).rows == ()
    path = mask_folder / "CenTauR.nii.gz"
    mask = nib.load(path)
    values = np.asarray(mask.dataobj).copy()
    values[values > 0] = np.where(np.arange((values > 0).sum()) % 9 == 0, 0, 1)
    nib.save(nib.Nifti1Image(values, mask.affine), path)
    assert "masks have changed" in CentaurReader.of(imaging, out, said.append).read(image, imaging).sentence
    assert said == []
    (out / "centaur.json").write_text("{")
    for problem in ("taucal centaur fit", "needs one file CenTauR.nii"):
        broken = CentaurReader.of(imaging, out, said.append).read(image, imaging)
        assert broken.sentence.endswith("the masks or the calibration to CenTauR cannot be read.")
        assert problem in said[-1]
        path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda rows: [rows[0], *rows[1:8]], "mesial temporal|universal.*at least 10 scans.*found 7"),
        (lambda rows: [rows[0], *("X" + r for r in rows[1:])], "None of the 14 scans of the table"),
        (lambda rows: [*rows, rows[3]], "Line 16 names P-2 again"),
        (lambda rows: [rows[0].replace("universal", "z").replace("meta", "m"), *rows[1:]], ""),
        (lambda rows: [rows[0], "P-0,-.4,1,1,1,1"], "Line 2, column universal: '-.4' is no SUVR"),
        (lambda rows: [r.partition(",")[0] for r in rows], "No column names a mask of CenTauR"),
        (lambda rows: [r.replace("subject", "who") for r in rows], "no column scan or scan_id"),
        (lambda rows: [rows[0].replace("TP", "meta b"), *rows[1:]], "may all be the mask meta-temporal"),
    ],
)
def test_a_table_that_does_not_fit_is_named(tmp_path, dataset, imaging, change, match):
    _, cohort, names = dataset
    csv = table(tmp_path / "spm8.csv", cohort, masks_of(imaging), source_name)
    csv.write_text("\n".join(change(csv.read_text().split("\n"))))
    if not match:  # fewer masks are fine
        found = fit_calibration(csv, cohort, imaging, lambda label: f"sub-{names.subject(label)}")
        assert set(found.lines) == {"mesial_temporal", "temporo_parietal", "frontal"}
        return
    with pytest.raises(InputError, match=match) as error:
        fit_calibration(csv, cohort, imaging, lambda label: f"sub-{names.subject(label)}")
    assert error.value.where == str(csv)


def test_two_scans_of_a_subject_must_be_told_apart(tmp_path, dataset, imaging):
    _, cohort, names = dataset
    csv = table(tmp_path / "spm8.csv", cohort, masks_of(imaging), source_name)
    second = Scan(cohort.scans[0].subject, "02", cohort.scans[0].path)
    two = Cohort((*cohort.scans, second), cohort.class_names)
    with pytest.raises(InputError, match=r"2 scans of P-0\. Name the scan"):
        fit_calibration(csv, two, imaging, lambda label: f"sub-{names.subject(label)}")


def test_the_command_fits_and_says_what_it_found(tmp_path, dataset, imaging):
    bids, cohort, _ = dataset
    csv = table(tmp_path / "spm8.csv", cohort, masks_of(imaging), source_name)
    study = tmp_path / "study.yaml"
    text = f"name: s\noutput: {tmp_path / 'out'}\ncohort:\n  path: {bids}\n  classes: [CN, AD]\n"
    study.write_text(text)
    missing = CliRunner().invoke(app, ["centaur", "fit", str(csv), str(study)])
    assert isinstance(missing.exception, InputError)
    assert "imaging.centaur_masks" in str(missing.exception)
    study.write_text(f"{text}imaging:\n  centaur_masks: {imaging.centaur_masks}\n")
    done = CliRunner().invoke(app, ["centaur", "fit", str(csv), str(study)])
    assert done.exit_code == 0, done.output
    assert "0.900 (0.9" in " ".join(done.output.split())
    assert read_calibration(tmp_path / "out").scans == COUNT
