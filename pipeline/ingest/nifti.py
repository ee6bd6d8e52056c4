"""NIfTI to `Volume`: any stored type and byte order, 3D or 4D, with a sidecar or without."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from pipeline.errors import RefusedScan
from pipeline.files import written_whole
from pipeline.ingest import sidecar
from pipeline.scan import Fact, FloatArray, Volume

_BROKEN = (
    ImageFileError,
    HeaderDataError,
    EOFError,
    OSError,
    ValueError,
    zlib.error,
    gzip.BadGzipFile,
    OverflowError,
)
_MNI_CODE = 4
_AGREE_MM = 0.5


def read_nifti(path: Path, told: Mapping[str, Any] | None = None) -> Volume:
    """Read a PET image from NIfTI.

    Parameters
    ----------
    path : Path
        ``.nii`` or ``.nii.gz``.
    told : mapping, optional
        What the sidecar says, in the words of PET-BIDS.

    Returns
    -------
    Volume
        With the facts of `pipeline.ingest.acquisition` as far as they are told, and ``space``, where the
        image is in a template space already. Values that are not finite become 0.

    Raises
    ------
    RefusedScan
        ``"truncated-file"``, ``"no-geometry"``, ``"mixed-geometry"``, ``"not-attenuation-corrected"``,
        ``"injection-after-scan"`` or ``"units-unknown"``.
    """
    try:
        image = nib.load(path)
        header = image.header
        array = _squeezed(np.asarray(image.dataobj, dtype=np.float32))
    except _BROKEN as error:
        raise RefusedScan(
            "truncated-file",
            "An image must be a whole NIfTI file, got something else",
            hint="fetch the image again",
        ) from error
    affine, note = _affine(header)
    read = sidecar.understand(told or {}, name=path.name, frames=array.shape[3] if array.ndim == 4 else 1)
    finite = np.isfinite(array)
    if not finite.all():
        array = np.where(finite, array, np.float32(0))
    facts: dict[str, Fact] = {**read.facts}
    facts["space"] = facts.get("space") or ("MNI" if _is_mni(header) else None)
    if note:
        facts["geometry_note"] = note
    return Volume(
        array * np.float32(read.factor) if read.factor != 1 else array, affine, read.unit, read.frames, facts
    )


def _squeezed(array: FloatArray) -> FloatArray:
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (3, 4) or min(array.shape) == 0 or min(array.shape[:3]) < 2:
        raise RefusedScan(
            "no-geometry",
            f"An image must have three dimensions, or four with time, got shape {array.shape}",
            hint="convert one image at a time",
            measured=str(array.shape),
        )
    return array


def _affine(header: Any) -> tuple[NDArray[np.float64], str | None]:
    """Return the sform, or else the qform; refuse where they disagree about left and right."""
    sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    chosen = sform if sform is not None else qform
    if chosen is None or not np.isfinite(chosen).all() or abs(np.linalg.det(chosen[:3, :3])) < 1e-9:
        raise RefusedScan(
            "no-geometry",
            "An image must tell its place in space, got neither sform nor qform",
            hint="convert it again from DICOM",
        )
    affine = np.asarray(chosen, dtype=np.float64)
    if sform is None or qform is None:
        return affine, None
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in header.get_data_shape()[:3]])).reshape(3, -1)
    apart = float(np.abs((sform - qform)[:3] @ np.vstack([corners, np.ones(corners.shape[1])])).max())
    if apart <= _AGREE_MM:
        return affine, None
    if np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0:
        raise RefusedScan(
            "mixed-geometry",
            "sform and qform must agree on left and right, got opposite handedness",
            hint="set both from the original DICOM",
            measured=f"{apart:.0f} mm",
        )
    return affine, f"sform and qform are {apart:.1f} mm apart at the corners; sform taken"


def _is_mni(header: Any) -> bool:
    return _MNI_CODE in (int(header["sform_code"]), int(header["qform_code"]))


def write_nifti(volume: Volume, path: Path) -> Path:
    """Write a volume as float32 NIfTI, whole or not at all; the same volume gives the same bytes.

    Parameters
    ----------
    volume : Volume
    path : Path
        ``.nii.gz``.
    """
    image = nib.Nifti1Image(np.asarray(volume.array, dtype=np.float32), volume.affine)
    image.set_sform(volume.affine, code=1)
    image.set_qform(volume.affine, code=1, strip_shears=True)
    image.header.set_xyzt_units("mm", "sec")
    if len(volume.frames) > 1:
        image.header["pixdim"][4] = volume.frames[0].duration_s
    with written_whole(path) as beside:
        nib.save(image, beside)
    return path
