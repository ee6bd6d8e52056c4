"""Frames of one scan in series or files of their own: joined, or refused; never many scans."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from pipeline.errors import RefusedScan
from pipeline.ingest.convert import read_found
from pipeline.ingest.scan_reading import read_scan
from pipeline.ingest.sources import find_scans
from pipeline.ingest.times import mean_count_time

HALF_LIFE_S = 6586.2
LATER = [300.0 * t for t in range(4)]


@pytest.fixture
def frame(make_series, tmp_path):
    """The function that writes one frame as a series of its own; those of one study share its UIDs."""
    study = generate_uid()

    def write(t, name="PET Tau Frame {}", folder=None, duration_s=300.0, seed=None, **stated):
        def edit(ds, _slice, _frame):
            minute = 20 + 5 * t
            ds.StudyInstanceUID, ds.FrameOfReferenceUID = study, study + ".1"
            ds.AcquisitionTime, ds.FrameReferenceTime = f"10{minute:02d}00.00", "148000"
            ds.ActualFrameDuration, ds.NumberOfTimeSlices = str(1000 * duration_s), 1
            ds.SeriesDescription = name.format(t + 1)
            for keyword, value in stated.items():
                setattr(ds, keyword, value)

        return make_series(
            tmp_path / "in" / (folder or f"series {t}"), edit=edit, seed=t if seed is None else seed
        )

    return write


def test_series_of_single_frames_are_one_dynamic_scan(frame, tmp_path):
    written = [frame(t) for t in (2, 0, 3, 1)]
    (scan,) = find_scans(tmp_path / "in").scans
    volume = read_found(scan)
    in_order = [written[n].values for n in (1, 3, 0, 2)]
    np.testing.assert_allclose(volume.array, np.stack(in_order, axis=-1), rtol=1e-6)
    assert [(one.start_s, one.duration_s) for one in volume.frames] == [(s, 300.0) for s in LATER]
    assert volume.facts["scan_after_injection_s"] == 4800.0
    assert "4 series of this study are frames of one scan" in scan.notes[-1]
    np.testing.assert_array_equal(read_scan(tmp_path / "in").array, volume.array)


@pytest.mark.parametrize("by_factor", [False, True])
def test_frames_corrected_to_their_own_start_are_brought_to_the_first_ones(frame, tmp_path, by_factor):
    factor = np.exp2(mean_count_time(300.0, HALF_LIFE_S) / HALF_LIFE_S)
    stated = {"DecayFactor": f"{factor:.9g}"} if by_factor else {}
    clocks = ["102000.00"] * 4 if by_factor else [f"10{20 + 5 * t}00.00" for t in range(4)]
    written = [frame(t, SeriesTime=clock, **stated) for t, clock in enumerate(clocks)]
    (scan,) = find_scans(tmp_path / "in").scans
    expected = [one.values * np.exp2(s / HALF_LIFE_S) for one, s in zip(written, LATER, strict=True)]
    np.testing.assert_allclose(read_found(scan).array, np.stack(expected, axis=-1), rtol=1e-5)


def test_frames_of_one_reference_by_their_factors_stay_as_they_are(frame, tmp_path):
    middle = mean_count_time(300.0, HALF_LIFE_S)
    factors = [f"{np.exp2((s + middle) / HALF_LIFE_S):.9g}" for s in LATER]
    written = [frame(t, DecayFactor=f, SeriesTime=f"10{20 + 5 * t}00.00") for t, f in enumerate(factors)]
    (scan,) = find_scans(tmp_path / "in").scans
    np.testing.assert_allclose(
        read_found(scan).array, np.stack([one.values for one in written], axis=-1), rtol=1e-5
    )


def test_a_sum_beside_its_frames_is_another_reconstruction(frame, tmp_path):
    for t in range(4):
        frame(t)
    frame(0, name="PET Tau Frame {} sum", folder="sum", duration_s=1200.0, seed=8)
    frame(0, name="PET Tau Frame {}", folder="again", duration_s=1200.0, seed=9)
    result = find_scans(tmp_path / "in")
    (scan,) = result.scans
    assert read_found(scan).array.shape[3] == 4
    assert result.ignored == {"other reconstructions of a scan that is taken": 2}


@pytest.mark.parametrize(
    "stated",
    [
        {"name": "second"}, {"FrameOfReferenceUID": "1.2.3"}, {"PixelSpacing": ["3", "3"]},
        {"ReconstructionMethod": "FBP"}, {"CorrectedImage": ["DECY"]},
    ],
)  # fmt: skip
def test_what_differs_in_more_than_time_is_not_joined(frame, tmp_path, stated):
    frame(0)
    frame(3, **stated)
    assert len(find_scans(tmp_path / "in").scans) == 2


def test_a_frame_that_lacks_a_slice_refuses_the_whole_scan(frame, tmp_path):
    series = [frame(t) for t in range(3)]
    sorted(series[1].folder.iterdir())[0].unlink()
    (scan,) = find_scans(tmp_path / "in").scans
    with pytest.raises(RefusedScan, match="1 slices are missing") as refused:
        read_found(scan)
    assert refused.value.rule == "missing-slices"


@pytest.mark.parametrize(("lost", "noted"), [((10, 15), True), ((0, 0), False), ((5, 30), False)])
def test_frames_that_a_series_declares_and_lacks_are_noted(make_series, lost, noted):
    series = make_series(frames=6)
    for path in series.folder.iterdir():
        if lost[0] < dcmread(path).InstanceNumber <= lost[1]:
            path.unlink()
    (scan,) = find_scans(series.folder).scans
    note = str(read_found(scan).facts["time_note"])
    assert ("the header declares 6 frames, 5 are there" in note) == noted


@pytest.mark.parametrize("name", ["S001_tau_frame{}", "vol{:04}", "S001_fr-{}_av1451", "tau_Frame_{:03}"])
def test_numbered_frames_in_files_are_refused_once_with_what_to_do(tmp_path, name):
    (tmp_path / "S001").mkdir()
    for n in range(1, 7):
        values = np.full((3, 3, 3), n, np.float32)
        nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "S001" / f"{name.format(n)}.nii.gz")
    (scan,) = find_scans(tmp_path).scans
    assert scan.subject_label.startswith("S001")
    assert len(scan.files) == 6
    with pytest.raises(RefusedScan, match="6 files are the frames of one scan") as refused:
        read_found(scan)
    assert refused.value.rule == "frames-in-files"
    assert "FrameTimesStart" in (refused.value.hint or "")


def test_a_single_frame_and_people_named_by_numbers_are_no_split_scan(tmp_path):
    for name in ("S001_frame1", "S002_frame1", "S003_3", "S003_4", "framework1", "framework2"):
        nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.float32), np.eye(4)), tmp_path / f"{name}.nii.gz")
    assert not any(scan.refused for scan in find_scans(tmp_path).scans)
