"""ECAT 7: values, times and geometry of images written field by field, and of one that nibabel brings."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel import ecat as layout

from pipeline.errors import RefusedScan
from pipeline.ingest.convert import read_found
from pipeline.ingest.ecat import is_ecat, read_ecat
from pipeline.ingest.scan_reading import read_scan
from pipeline.ingest.sources import find_scans

SHAPE = (4, 5, 3)


def ecat(frames=1, main=(), sub=(), dtype=">i2"):
    """Return the bytes of an ECAT image, and its values in Bq/mL, indexed as they are stored."""
    head = np.zeros((), np.dtype(layout.main_header_dtd).newbyteorder(">"))
    given = {
        "magic_number": b"MATRIX72v",
        "sw_version": 72,
        "file_type": 7,
        "system_type": 328,
        "num_frames": frames,
        "scan_start_time": 1_600_000_000,
        "dose_start_time": 1_600_000_000 - 4800,
        "isotope_name": b"F-18",
        "radiopharmaceutical": b"AV-1451",
        "patient_name": b"Doe^Jane",
        "patient_id": b"MRN12345",
        "ecat_calibration_factor": 2.0,
        "data_units": b"Bq/cc",
        "patient_orientation": 3,
    }
    for name, value in {**given, **dict(main)}.items():
        head[name] = value
    directory, blocks, values = np.zeros((32, 4), ">i4"), [], []
    directory[0] = (31 - frames, 2, 0, frames)
    at = 3
    for n in range(frames):
        frame = np.zeros((), np.dtype(layout.subheader_dtd).newbyteorder(">"))
        own = {
            "data_type": 6 if dtype == ">i2" else 5,
            "num_dimensions": 3,
            "x_dimension": SHAPE[0],
            "y_dimension": SHAPE[1],
            "z_dimension": SHAPE[2],
            "scale_factor": 0.5 * (n + 1),
            "x_pixel_size": 0.2,
            "y_pixel_size": 0.25,
            "z_pixel_size": 0.3,
            "frame_duration": 300_000,
            "frame_start_time": 300_000 * n,
            "decay_corr_fctr": 1.5,
        }
        for name, value in {**own, **dict(sub)}.items():
            frame[name] = value
        stored = np.random.default_rng(n).integers(0, 3000, SHAPE).astype(dtype)
        data = stored.tobytes(order="F")
        size = -(-len(data) // 512)
        directory[n + 1] = (0x1010000 + n + 1, at, at + size, 1)
        blocks.append(frame.tobytes().ljust(512, b"\0") + data.ljust(size * 512, b"\0"))
        values.append(stored.astype(np.float32) * frame["scale_factor"] * 2.0)
        at += 1 + size
    whole = head.tobytes().ljust(512, b"\0") + directory.tobytes() + b"".join(blocks)
    return whole, np.stack(values, axis=3) if frames > 1 else values[0]


@pytest.fixture
def image(tmp_path):
    """The function that writes an ECAT image of a subject and returns its path and values."""

    def write(name="S001_AV1451.v", **how):
        data, values = ecat(**how)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path, values

    return write


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("dtype", [">i2", ">f4"])
def test_values_times_and_facts(image, frames, dtype):
    path, values = image(frames=frames, dtype=dtype)
    volume = read_ecat(path)
    np.testing.assert_allclose(volume.array, values, rtol=1e-6)
    assert volume.unit == "Bq/mL"
    assert [(frame.start_s, frame.duration_s) for frame in volume.frames] == [
        (300.0 * n, 300.0) for n in range(frames)
    ]
    facts = {
        name: volume.facts[name] for name in ("tracer", "model", "scan_after_injection_s", "decay_correction")
    }
    assert facts == {
        "tracer": "AV1451",
        "model": "HRRT",
        "scan_after_injection_s": 4800.0,
        "decay_correction": "START",
    }
    assert "Doe" not in str(volume.facts)
    assert "MRN" not in str(volume.facts)


def test_head_first_supine_is_placed_to_the_left_back_and_down(image):
    volume = read_ecat(image()[0])
    np.testing.assert_allclose(np.diag(volume.affine)[:3], (-2.0, -2.5, -3.0), rtol=1e-6)
    centre = volume.affine @ [*((np.array(SHAPE) - 1) / 2), 1]
    np.testing.assert_allclose(centre[:3], 0, atol=1e-6)


@pytest.mark.parametrize("lay", [0, 1, 2, 3])
def test_however_the_patient_lay_the_axes_stay_right_handed_as_the_scanner_is(image, lay):
    affine = read_ecat(image(main={"patient_orientation": lay})[0]).affine
    assert np.linalg.det(affine[:3, :3]) < 0


def test_an_image_of_nibabel_has_the_values_that_nibabel_reads(tmp_path):
    source = Path(nib.__file__).parent / "tests" / "data" / "tinypet.v"
    if not source.is_file():
        pytest.skip("this nibabel has no tinypet.v")
    theirs = nib.ecat.load(source)
    path = shutil.copy(source, tmp_path / "S1.v")
    volume = read_ecat(Path(path))
    raw = theirs.get_subheaders().raw_data_from_fileobj(0, "neurological")[::-1, ::-1, ::-1]
    subheader = theirs.get_subheaders().subheaders[0]
    factor = float(subheader["scale_factor"]) * float(theirs.header["ecat_calibration_factor"])
    array = volume.array if volume.array.ndim == 3 else volume.array[..., 0]
    np.testing.assert_allclose(array, raw * factor, rtol=1e-5)
    np.testing.assert_allclose(np.abs(np.diag(volume.affine)[:3]), np.diag(theirs.affine)[:3], rtol=1e-6)


def test_an_ingest_finds_it_and_a_report_reads_it(image, tmp_path):
    path, values = image("in/S001_AV1451.v")
    (scan,) = find_scans(tmp_path / "in").scans
    assert scan.subject_label == "S001_AV1451"
    np.testing.assert_allclose(read_found(scan).array, values, rtol=1e-6)
    np.testing.assert_allclose(read_scan(path).array, values, rtol=1e-6)


def test_it_is_found_in_a_download_of_adni(image, tmp_path):
    image("in/011_S_4321/AV1451/2019-05-10_09_00_00.0/I123456/HRRT.v")
    found = find_scans(tmp_path / "in")
    assert (found.layout, found.scans[0].subject_label) == ("adni", "011_S_4321")


@pytest.mark.parametrize(
    ("how", "rule", "problem"),
    [
        ({"main": {"file_type": 11}}, "no-image", "of type 11"),
        ({"sub": {"data_type": 3}}, "no-image", "stored as ECAT type 3"),
        ({"sub": {"scale_factor": 0}}, "invalid-scale", "scale of a frame is 0"),
        ({"sub": {"x_pixel_size": 0}}, "no-geometry", "voxels are 0"),
        ({"main": {"patient_orientation": 5}}, "no-geometry", "lying on the side"),
        ({"sub": {"z_dimension": 900}}, "truncated-file", "no whole ECAT"),
    ],
)
def test_what_is_no_image_is_refused_by_name(image, how, rule, problem):
    with pytest.raises(RefusedScan, match=problem) as refused:
        read_ecat(image(**how)[0])
    assert refused.value.rule == rule


def test_how_the_patient_lay_is_noted_where_it_is_not_stated(image):
    volume = read_ecat(image(main={"patient_orientation": 8})[0])
    assert "check left and right" in volume.facts["geometry_note"]


def test_a_directory_that_points_to_itself_ends(image):
    path, _ = image()
    data = bytearray(path.read_bytes())
    data[512 + 4 : 512 + 8] = (1).to_bytes(4, "big")
    path.write_bytes(data)
    assert read_ecat(path).array.shape == SHAPE


def test_mutated_headers_are_read_or_refused_by_name(image):
    path, _ = image(frames=2)
    whole, rng = path.read_bytes(), random.Random(3)
    assert is_ecat(path)
    for _ in range(300):
        mutated = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            mutated[rng.randrange(8, 1100 if rng.random() < 0.8 else len(whole))] = rng.randrange(256)
        path.write_bytes(mutated[: rng.randint(8, len(whole))] if rng.random() < 0.2 else mutated)
        try:
            volume = read_ecat(path)
        except RefusedScan as refusal:
            assert refusal.rule  # noqa: PT017 - either outcome is right
        else:
            assert volume.array.nbytes <= 4 * len(whole)
