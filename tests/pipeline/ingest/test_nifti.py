"""NIfTI as it should not be: colours, other units of length, values that are no numbers, broken headers."""

from __future__ import annotations

import gzip
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import RefusedScan
from pipeline.ingest.nifti import read_nifti

ARRAY = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)


def save(path, array=ARRAY, affine=None, unit="mm"):
    image = nib.Nifti1Image(array, np.diag([2, 2, 3, 1.0]) if affine is None else affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, path)
    return path


@pytest.mark.parametrize(
    ("unit", "factor"), [("mm", 1.0), ("micron", 1000.0), ("meter", 0.001), ("unknown", 1.0)]
)
def test_a_place_is_in_millimetres_whatever_the_unit_of_the_header(tmp_path, unit, factor):
    path = save(tmp_path / "a.nii", affine=np.diag([2 * factor, 2 * factor, 3 * factor, 1]), unit=unit)
    np.testing.assert_allclose(read_nifti(path).spacing_mm, (2, 2, 3), rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "rule"),
    [
        ([("R", "u1"), ("G", "u1"), ("B", "u1")], "colour-image"),
        ([("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")], "colour-image"),
        (np.complex64, "complex-image"),
    ],
)
def test_values_that_are_no_activity_are_refused(tmp_path, dtype, rule):
    with pytest.raises(RefusedScan, match="expected one activity a voxel") as refusal:
        read_nifti(save(tmp_path / "a.nii", np.zeros((4, 5, 6), dtype)))
    assert refusal.value.rule == rule


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_what_is_no_number_stays_for_imaging_to_count(tmp_path, value):
    array = ARRAY.astype(np.float64)
    array[1, 2, 3] = value
    found = read_nifti(save(tmp_path / "a.nii.gz", array)).array
    assert list(np.argwhere(~np.isfinite(found))[0]) == [1, 2, 3]
    assert np.isfinite(found).sum() == found.size - 1


def scaled(path, slope, intercept, kind=nib.Nifti1Image, order="<"):
    image = kind(ARRAY.astype(np.int16), np.diag([2, 2, 3, 1.0]), kind.header_class(endianness=order))
    content = bytearray(image.to_bytes())
    at, number = (112, "f4") if kind is nib.Nifti1Image else (176, "f8")
    content[at : at + 2 * int(number[1])] = np.array([slope, intercept], order + number).tobytes()
    path.write_bytes(content)
    return path


FORMS = [(kind, order) for kind in (nib.Nifti1Image, nib.Nifti2Image) for order in "<>"]


@pytest.mark.parametrize(("kind", "order"), FORMS)
@pytest.mark.parametrize(
    ("slope", "intercept"), [(0, 0), (0, 7), (0, np.inf), (np.nan, 0), (np.nan, np.nan), (1, 0)]
)
def test_a_slope_of_zero_or_none_means_no_scaling(tmp_path, slope, intercept, kind, order):
    found = read_nifti(scaled(tmp_path / "a.nii", slope, intercept, kind, order)).array
    np.testing.assert_array_equal(found, ARRAY)


@pytest.mark.parametrize(("kind", "order"), FORMS)
@pytest.mark.parametrize(
    ("slope", "intercept"), [(np.inf, 0), (-np.inf, 0), (np.inf, np.nan), (2, np.nan), (2, np.inf)]
)
def test_a_scale_that_is_no_number_is_refused_by_name(tmp_path, slope, intercept, kind, order):
    with pytest.raises(RefusedScan, match=r"scl_slope .* expected finite numbers") as refusal:
        read_nifti(scaled(tmp_path / "a.nii", slope, intercept, kind, order))
    assert refusal.value.rule == "invalid-scale"


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_header_that_states_more_than_the_file_holds_is_refused_before_memory_is_taken(tmp_path, name):
    path = save(tmp_path / "b.nii")
    data = bytearray(path.read_bytes())
    data[42:48] = np.array([30_000] * 3, "<i2").tobytes()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    tracemalloc.start()
    with pytest.raises(RefusedScan, match=r"no whole NIfTI image|more than the file can hold") as refusal:
        read_nifti(tmp_path / name)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
    assert refusal.value.rule == "truncated-file"


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 30), packed=st.booleans())
def test_any_header_is_read_or_refused_within_sixteen_times_the_image(tmp_path, seed, changes, packed):
    rng = np.random.default_rng(seed)
    data = bytearray(save(tmp_path / "a.nii", rng.normal(size=(20, 20, 20)).astype(np.float32)).read_bytes())
    for place in rng.integers(0, 352, changes):
        data[place] = rng.integers(0, 256)
    path = tmp_path / ("b.nii.gz" if packed else "b.nii")
    path.write_bytes(gzip.compress(data) if packed else data)
    tracemalloc.start()
    try:
        read_nifti(path)
    except RefusedScan as refusal:
        assert refusal.rule  # noqa: PT017
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < 16 * len(data) + 3_000_000


def test_a_packed_file_is_known_by_its_bytes_not_by_its_name(tmp_path):
    plain = save(tmp_path / "a.nii")
    (tmp_path / "b.nii.gz").write_bytes(plain.read_bytes())
    (tmp_path / "c.nii").write_bytes(gzip.compress(plain.read_bytes()))
    for name in ("b.nii.gz", "c.nii"):
        np.testing.assert_array_equal(read_nifti(tmp_path / name).array, ARRAY)


def test_a_packed_file_whose_checksum_is_wrong_is_refused(tmp_path):
    content = bytearray(gzip.compress(save(tmp_path / "a.nii").read_bytes()))
    content[-6] ^= 255
    (tmp_path / "b.nii.gz").write_bytes(content)
    with pytest.raises(RefusedScan, match="no whole NIfTI image"):
        read_nifti(tmp_path / "b.nii.gz")


def test_a_table_in_place_of_an_image_is_not_fetched_again_but_named_right(tmp_path):
    (tmp_path / "DXSUM.csv").write_text("PTID,DX\n" * 100)
    with pytest.raises(RefusedScan, match=r"Name a DICOM or NIfTI file, or the folder of one PET series"):
        read_nifti(tmp_path / "DXSUM.csv")


def test_a_pointer_in_place_of_an_image_is_refused_with_the_command_that_fetches_it(tmp_path):
    (tmp_path / "lfs.nii.gz").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n")
    (tmp_path / "annex.nii.gz").symlink_to(".git/annex/objects/none")
    for name in ("lfs.nii.gz", "annex.nii.gz"):
        with pytest.raises(RefusedScan, match="git lfs pull"):
            read_nifti(tmp_path / name)


def test_a_file_that_may_not_be_read_is_not_said_to_be_broken(tmp_path, monkeypatch):
    path = save(tmp_path / "a.nii")

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", denied)
    with pytest.raises(RefusedScan, match="may not be read") as refusal:
        read_nifti(path)
    assert refusal.value.rule == "no-permission"


@pytest.mark.parametrize(
    ("edit", "broken"),
    [
        ({"quatern_b": 1.0, "quatern_c": 1.0, "quatern_d": 1.0}, "qform"),
        ({"quatern_b": np.nan}, "qform"),
        ({"srow_x": [np.nan] * 4}, "sform"),
        ({"srow_x": [0] * 4, "srow_y": [0] * 4, "srow_z": [0] * 4}, "sform"),
    ],
)
def test_one_usable_placement_is_enough_and_the_other_is_named(tmp_path, edit, broken):
    path = _with_header(tmp_path / "a.nii", **edit)
    volume = read_nifti(path)
    np.testing.assert_allclose(volume.affine, np.diag([2.0, 2, 3, 1]))
    assert f"the {broken} of the header cannot be used" in str(volume.facts["geometry_note"])


@pytest.mark.parametrize("begin", [0, 100, 348])
def test_an_image_that_begins_within_its_header_is_refused(tmp_path, begin):
    path = _with_header(tmp_path / "a.nii", vox_offset=begin)
    with pytest.raises(RefusedScan, match=f"begins at byte {begin}, within the header") as refused:
        read_nifti(path)
    assert "convert the original series again" in (refused.value.hint or "")


def _with_header(path, **values):
    """Write an image, then fields of its header as they are stored."""
    image = nib.Nifti1Image(np.ones((6, 7, 5), np.float32), np.diag([2.0, 2, 3, 1]))
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    nib.save(image, path)
    content = path.read_bytes()
    header = np.frombuffer(content[:348], nib.nifti1.header_dtype).copy()
    for name, value in values.items():
        header[name] = value
    path.write_bytes(header.tobytes() + content[348:])
    return path
