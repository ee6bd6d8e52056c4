"""Whole-brain label volumes of real people: their numbering, and how they are read and checked.

Labels are numbered as in BrainCOLOR and DLMUSE (MUSE's white matter among them): from 100 upwards even
numbers are right, odd ones left. Each label is painted like a region of the atlas or a fixed tissue; those
that mean the same as a region of the atlas define its truth in that person.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from models.arrays import Floats
from pipeline.errors import InputError
from pipeline.files import fingerprint, sha256_of_file

MEASURED: dict[str, tuple[int, ...]] = {
    "amygdala": (31,), "hippocampus": (47,), "entorhinal": (116,), "fusiform": (122, 160),
    "inferior_temporal": (132,), "middle_temporal": (154,), "parahippocampal": (170,),
    "superior_temporal": (200,), "temporal_pole": (202,), "insula": (102, 172),
    "posterior_cingulate": (166,), "precuneus": (168,), "inferior_parietal": (106,), "supramarginal": (194,),
    "superior_parietal": (198,), "cuneus": (114,), "pericalcarine": (108,), "lingual": (134,),
    "lateral_occipital": (128, 144, 156, 196), "precentral": (182,), "postcentral": (176,),
    "superior_frontal": (190, 152), "rostral_middle_frontal": (142,), "pars_opercularis": (162,),
    "pars_orbitalis": (164,), "pars_triangularis": (204,), "transverse_temporal": (206,),
    "frontal_pole": (120,), "caudate": (36,), "putamen": (57,), "pallidum": (55,), "thalamus": (59,),
    "accumbens": (23,), "ventral_dc": (61,),
}  # fmt: skip
"""Regions of the atlas and the right-sided labels that define them in a person."""

_ALSO_PAINTED: dict[str, tuple[int, ...]] = {
    "rostral_anterior_cingulate": (100,), "caudal_anterior_cingulate": (138,), "posterior_cingulate": (110,),
    "lateral_orbitofrontal": (104, 136, 146, 158, 178), "medial_orbitofrontal": (124, 140, 186),
    "pars_opercularis": (118, 126), "precentral": (112,), "supramarginal": (174,), "paracentral": (148, 150),
    "superior_frontal": (192,), "superior_temporal": (180, 184),
}  # fmt: skip
"""Right-sided cortex that is painted like a region of the atlas, but is no part of what that name means."""

_TISSUES: dict[str, tuple[int, ...]] = {
    "cerebellar_grey": (38, 39, 71, 72, 73), "cerebellar_white": (40, 41), "brainstem": (35,),
    "white_matter": (44, 45, 53, 54, 69, 70, 75, 76, *range(81, 96)), "lateral_ventricle": (49, 50, 51, 52),
    "csf": (1, 4, 11, 15, 42, 43, 46, 63, 64),
}  # fmt: skip
_RARE = {33: "right_amygdala", 34: "left_amygdala", 65: "left_insula", 66: "right_insula",
         67: "left_precentral", 68: "right_precentral"}  # fmt: skip
OUTSIDE = (74, 97, 98, 99)
"""A marker beside the head, and colours of the editor: as if there were no label."""
_LEFT_OF = {31: 32, 47: 48, 36: 37, 57: 58, 55: 56, 59: 60, 23: 30, 61: 62}
CEREBELLAR_GREY = _TISSUES["cerebellar_grey"]
VENTRICLES = _TISSUES["lateral_ventricle"]
FLUID = (*VENTRICLES, *_TISSUES["csf"])
_BRAINSTEM = _TISSUES["brainstem"]
_SPACING_MM = (0.5, 2.5)
_DIRECTIONS = (
    ((47,), (48,), "The right hippocampus (label 47) does not lie to the right of the left one (48)"),
    (
        (120, 121),
        (108, 109),
        "The frontal poles (120, 121) do not lie in front of calcarine cortex (108, 109)",
    ),
    (
        (182, 183, 176, 177),
        (132, 133),
        "The central gyri (176, 182) do not lie above the temporal lobe (132)",
    ),
)
"""Along each axis, labels that lie ahead of others: within 30 degrees in 135 real people."""
_ENDS = (("left", "right"), ("back", "front"), ("bottom", "top"))
_CUT_CM2 = 35.0
"""The last slice of a whole brain shows less of it: at most 17 in 135 people (voxels of 2 mm)."""
_UNREADABLE = (
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    OSError,
    EOFError,
    ValueError,
    MemoryError,
    zlib.error,
)


def left_of(label: int) -> int:
    """Return the left-sided partner of a right-sided label.

    Examples
    --------
    >>> left_of(116), left_of(31)
    (117, 32)
    """
    return _LEFT_OF.get(label, label + 1)


def _sided(table: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {f"right_{name}": labels for name, labels in table.items()} | {
        f"left_{name}": tuple(map(left_of, labels)) for name, labels in table.items()
    }


@functools.cache
def painted_like() -> dict[int, str]:
    """Return, label by label, the region of the atlas or the fixed tissue whose uptake it is painted with."""
    tables = (_sided(MEASURED), _sided(_ALSO_PAINTED), _TISSUES)
    named = {label: name for table in tables for name, labels in table.items() for label in labels}
    return named | _RARE


@functools.cache
def measured_labels() -> dict[str, tuple[int, ...]]:
    """Return the labels that define a region of the atlas in a person; sided names, no cerebellum."""
    tissues = {name: _TISSUES[name] for name in ("white_matter", "lateral_ventricle")}
    return _sided(MEASURED) | tissues


@dataclass(frozen=True, eq=False)
class LabelVolume:
    """One person's labels.

    Parameters
    ----------
    labels : ndarray of int16, shape (x, y, z)
        Numbers of the numbering above, 0 outside; axes run to the right, the front and the top.
    affine : ndarray, shape (4, 4)
        Voxel index to RAS+ mm.
    """

    labels: NDArray[np.int16]
    affine: Floats


def list_people(folder: Path) -> tuple[Path, ...]:
    """Return the NIfTI files of a folder by name; hidden ones are left out.

    Raises
    ------
    InputError
        If the folder is missing or holds none.
    """
    if not folder.is_dir():
        raise InputError(
            "The folder of label volumes does not exist",
            where=str(folder),
            hint="set phantom.anatomies to a folder of NIfTI label volumes, one a person",
        )
    visible = (p for p in folder.iterdir() if not p.name.startswith("."))
    found = tuple(sorted(p for p in visible if p.name.lower().endswith((".nii", ".nii.gz"))))
    if not found:
        raise InputError(
            "The folder holds no label volume. Expected NIfTI files (.nii or .nii.gz), one a person",
            where=str(folder),
            hint="set phantom.anatomies to the folder that holds the files themselves, not one above it",
        )
    return found


def fingerprint_of_people(folder: Path) -> str:
    """Return a digest of the label volumes of a folder: their names and contents, not where they lie.

    Raises
    ------
    InputError
        As `list_people`.
    """
    return fingerprint([(path.name, sha256_of_file(path)) for path in list_people(folder)])


@functools.lru_cache(maxsize=2)
def read_person(path: Path) -> LabelVolume:
    """Read a label volume and turn its axes to the right, the front and the top.

    Raises
    ------
    InputError
        If the file is no three-dimensional NIfTI volume of whole numbers with voxels of 0.5 to 2.5 mm, holds
        a label that the numbering does not have, lacks one that the phantom needs, shows a brain that is cut,
        or a head that lies otherwise than the header states.
    """
    try:
        image = nib.as_closest_canonical(nib.load(path))
        values = np.asarray(image.dataobj)
    except _UNREADABLE as error:
        raise InputError(
            f"The file cannot be read as NIfTI ({str(error) or type(error).__name__})",
            where=str(path),
            hint="export it again",
        ) from error
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        raise InputError(
            f"The volume has the shape {values.shape}. Expected three axes",
            where=str(path),
            hint="export one label volume a file",
        )
    if values.dtype.kind not in "iuf" or not np.array_equal(values, np.rint(values)):
        raise InputError(
            "The volume holds values that are not whole numbers. Expected labels",
            where=str(path),
            hint="export the labels themselves, to the nearest voxel, not an image or probabilities",
        )
    affine = np.asarray(image.affine, dtype=np.float64)
    # Checked before they become short: 65583 would turn into 47.
    check_labels(values.astype(np.int64), affine, path.name)
    return LabelVolume(values.astype(np.int16), affine)


def check_labels(labels: NDArray[np.integer], affine: Floats, where: str) -> None:
    """Refuse labels that cannot be painted.

    Raises
    ------
    InputError
        See `read_person`.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not (spacing.min() >= _SPACING_MM[0] and spacing.max() <= _SPACING_MM[1]):
        raise InputError(
            f"Voxels are {' x '.join(f'{s:.3g}' for s in spacing)} mm. Expected {_SPACING_MM[0]} to "
            f"{_SPACING_MM[1]} mm along each axis",
            where=where,
            hint="resample the labels to 1 or 2 mm, to the nearest voxel; the header's unit must be mm",
        )
    _check_numbers(labels, where)
    _check_whole(labels, spacing, where)
    _check_directions(labels, affine, where)


def _check_numbers(labels: NDArray[np.integer], where: str) -> None:
    """Refuse a label that the numbering does not have, and the lack of one that the phantom needs."""
    numbers, counts = np.unique(labels, return_counts=True)
    for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
        if number and number not in painted_like() and number not in OUTSIDE:
            raise InputError(
                f"The label {number} ({count} voxels) is not in the numbering of BrainCOLOR and DLMUSE",
                where=where,
                hint="relabel the volume in that numbering (hippocampus 47/48, entorhinal 116/117, ...)",
            )
    present = set(numbers.tolist())
    for name, wanted in {**measured_labels(), "cerebellar_grey": (38, 39)}.items():
        missing = [label for label in wanted if label not in present]
        if missing == list(wanted) or (name == "cerebellar_grey" and missing):
            raise InputError(
                f"No voxel has the label {missing[0]} ({name.replace('_', ' ')})",
                where=where,
                hint="use a volume that labels the whole brain, cerebellum included",
            )


def _check_whole(labels: NDArray[np.integer], spacing: Floats, where: str) -> None:
    """Refuse a brain that ends in a flat cut: half a cerebellum would be measured as a whole one.

    A brain tapers off; only its stem may be cut.
    """
    tissue = ~np.isin(labels, (0, *FLUID, *OUTSIDE, *_BRAINSTEM))
    for axis, names in enumerate(_ENDS):
        others = tuple(a for a in range(3) if a != axis)
        area_cm2 = tissue.sum(axis=others) * np.prod(spacing[list(others)]) / 100
        filled = np.flatnonzero(area_cm2)
        for name, last in zip(names, (filled[0], filled[-1]), strict=True):
            if area_cm2[last] > _CUT_CM2:
                raise InputError(
                    f"The labels end at the {name} with {area_cm2[last]:.0f} cm2 of brain: it is cut there",
                    where=where,
                    hint="use a volume that labels the whole brain, cerebellum included",
                )


def _check_directions(labels: NDArray[np.integer], affine: Floats, where: str) -> None:
    """Refuse a head that lies otherwise than its header states: its lower cerebellum would be another."""
    for axis, (ahead, behind, otherwise) in enumerate(_DIRECTIONS):
        ends = (np.argwhere(np.isin(labels, numbers)).mean(axis=0) for numbers in (ahead, behind))
        along = affine[:3, :3] @ np.subtract(*ends)
        if along[axis] <= 0 or np.argmax(np.abs(along)) != axis:
            raise InputError(
                f"{otherwise}: header and labels disagree",
                where=where,
                hint="correct the orientation in the file's header",
            )
