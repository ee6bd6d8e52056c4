"""Label volumes are read in one orientation, and what cannot be painted is refused with a reason."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from pipeline.atlas import AFFINE, load_atlas
from pipeline.errors import InputError
from pipeline.phantom.brain_labels import (
    fingerprint_of_people,
    list_people,
    measured_labels,
    painted_like,
    read_person,
)
from pipeline.phantom.head_layers import spacing_of


def test_every_label_is_painted_like_something_that_the_phantom_has():
    known = {*load_atlas().names[1:], "csf", "brainstem", "cerebellar_white"}
    assert set(painted_like().values()) <= known
    assert {n for numbers in measured_labels().values() for n in numbers} <= set(painted_like())
    # Numbers that the description of the numbering names outright.
    assert painted_like()[116] == "right_entorhinal"
    assert painted_like()[32] == "left_amygdala"
    assert measured_labels()["left_fusiform"] == (123, 161)
    assert measured_labels()["right_lateral_occipital"] == (128, 144, 156, 196)


def test_no_label_belongs_to_two_regions():
    numbers = [n for numbers in measured_labels().values() for n in numbers]
    assert len(numbers) == len(set(numbers))
    assert all(painted_like()[n] == name for name, ns in measured_labels().items() for n in ns)


def test_axes_run_to_the_right_the_front_and_the_top(people_folder, atlas_as_labels):
    one, two = (read_person(p) for p in list_people(people_folder))
    assert np.array_equal(one.labels, atlas_as_labels)
    assert np.array_equal(two.labels, atlas_as_labels)
    assert np.diag(two.affine)[:3] == pytest.approx([2.1, 2.1, 2.1])
    assert spacing_of(two.affine) == pytest.approx([2.1, 2.1, 2.1])


def test_people_are_known_by_what_they_hold(people_folder, tmp_path):
    for path in list_people(people_folder):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert fingerprint_of_people(tmp_path) == fingerprint_of_people(people_folder)
    (tmp_path / "two.nii").unlink()
    assert fingerprint_of_people(tmp_path) != fingerprint_of_people(people_folder)


def test_a_folder_without_people_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: The folder of label volumes does not exist"):
        list_people(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no label volume\. Expected NIfTI"):
        list_people(tmp_path)


def with_label(labels, number, place=(48, 60, 50)):
    changed = labels.copy()
    changed[place] = number
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: with_label(v, 250), r"odd\.nii: The label 250 \(1 voxels\) is not in the numbering"),
        (lambda v: np.where(v == 38, 39, v), r"odd\.nii: No voxel has the label 38 \(cerebellar grey\)"),
        (lambda v: np.where(v == 116, 44, v), r"No voxel has the label 116 \(right entorhinal\)"),
        (lambda v: v + np.float32(0.5), r"values that are not whole numbers\. Expected labels"),
        (lambda v: np.stack([v, v], axis=-1), r"has the shape \(96, 112, 96, 2\)\. Expected three axes"),
        (lambda v: v + 0j, r"odd\.nii: The volume holds values that are not whole numbers"),
        (
            lambda v: np.where(v == 47, np.int32(65536 + 47), v),
            r"The label 65583 \(\d+ voxels\) is not in the numbering",
        ),
        (
            lambda v: v[:, ::-1],
            r"frontal poles \(120, 121\) do not lie in front of .*: header and labels disagree",
        ),
        (lambda v: v[:, :, ::-1], r"central gyri \(176, 182\) do not lie above the temporal lobe"),
        (lambda v: v.transpose(0, 2, 1), r"frontal poles \(120, 121\) do not lie in front"),
        (lambda v: v[:, :, 20:], r"labels end at the bottom with \d+ cm2 of brain: it is cut there"),
        (lambda v: np.where(np.arange(96) > 65, 0, v), r"labels end at the top with \d+ cm2 of brain"),
        (lambda v: v[::-1], r"right hippocampus \(label 47\) does not lie to the right of the left"),
    ],
    ids=[
        *("unknown", "no cerebellum", "no region", "not whole", "four axes", "complex", "wide number"),
        *("back to front", "upside down", "axes exchanged", "cut below", "cut above", "sides"),
    ],
)
def test_labels_that_cannot_be_painted_are_refused(atlas_as_labels, tmp_path, change, message):
    nib.save(nib.Nifti1Image(change(atlas_as_labels), AFFINE), tmp_path / "odd.nii")
    with pytest.raises(InputError, match=message):
        read_person(tmp_path / "odd.nii")


def test_wide_voxels_and_broken_files_are_refused(atlas_as_labels, tmp_path):
    nib.save(nib.Nifti1Image(atlas_as_labels, AFFINE @ np.diag([1, 1, 2, 1])), tmp_path / "wide.nii")
    with pytest.raises(InputError, match=r"Voxels are 2 x 2 x 4 mm\. Expected 0\.5 to 2\.5 mm"):
        read_person(tmp_path / "wide.nii")
    (tmp_path / "text.nii").write_text("no image")
    with pytest.raises(InputError, match=r"text\.nii: The file cannot be read as NIfTI"):
        read_person(tmp_path / "text.nii")
    whole = tmp_path / "whole.nii.gz"
    nib.save(nib.Nifti1Image(atlas_as_labels, AFFINE), whole)
    (tmp_path / "cut.nii.gz").write_bytes(whole.read_bytes()[:20_000])
    with pytest.raises(InputError, match=r"cut\.nii\.gz: The file cannot be read as NIfTI"):
        read_person(tmp_path / "cut.nii.gz")


def test_a_volume_of_one_frame_is_read_as_one_volume(atlas_as_labels, tmp_path):
    nib.save(nib.Nifti1Image(atlas_as_labels[..., None], AFFINE), tmp_path / "frame.nii")
    assert np.array_equal(read_person(tmp_path / "frame.nii").labels, atlas_as_labels)


def test_a_head_may_lie_turned_in_its_scanner(atlas_as_labels, tmp_path):
    turned = np.eye(4)
    turned[1:3, 1:3] = [[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]]
    nib.save(nib.Nifti1Image(atlas_as_labels, turned @ AFFINE), tmp_path / "turned.nii")
    assert np.array_equal(read_person(tmp_path / "turned.nii").labels, atlas_as_labels)


def test_colours_and_headers_that_promise_too_much_are_refused(atlas_as_labels, tmp_path):
    colours = np.zeros((8, 8, 8), dtype=[(c, "u1") for c in "RGB"])
    nib.save(nib.Nifti1Image(colours, AFFINE), tmp_path / "colours.nii")
    with pytest.raises(InputError, match=r"colours\.nii: The volume holds values that are not whole numbers"):
        read_person(tmp_path / "colours.nii")
    nib.save(nib.Nifti1Image(atlas_as_labels, AFFINE), tmp_path / "whole.nii")
    for name, at, change in (("huge", 42, [30_000] * 3), ("type", 70, [9999])):
        broken = bytearray((tmp_path / "whole.nii").read_bytes())
        broken[at : at + 2 * len(change)] = np.array(change, dtype="<i2").tobytes()
        (tmp_path / f"{name}.nii").write_bytes(broken)
        with pytest.raises(InputError, match=rf"{name}\.nii: The file cannot be read as NIfTI \(.+\)"):
            read_person(tmp_path / f"{name}.nii")


def test_hidden_files_are_no_people(people_folder, tmp_path):
    (tmp_path / "._one.nii.gz").write_bytes(b"what another system leaves beside a file")
    one = list_people(people_folder)[0]
    (tmp_path / "ONE.NII").write_bytes(one.read_bytes() if one.suffix == ".nii" else b"")
    assert [path.name for path in list_people(tmp_path)] == ["ONE.NII"]
