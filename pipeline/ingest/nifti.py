"""NIfTI to `Volume`: any stored type and byte order, 3D or 4D, with a sidecar or without."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Literal, cast

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from pipeline.errors import RefusedScan
from pipeline.files import written_whole
from pipeline.ingest import sidecar
from pipeline.ingest.ecat import is_ecat, read_ecat
from pipeline.ingest.found import no_permission
from pipeline.ingest.kinds import is_pointer
from pipeline.ingest.stacking import check_filled
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
_SIZES = (b"\x5c\x01", b"\x1c\x02")
"""Little-endian sizes of the headers of NIfTI-1 and 2: 348 and 540."""
_LARGEST_RATIO = 1100
"""Deflate makes nothing smaller than a 1032nd."""
_AGREE_MM = 0.5


def read_nifti(path: Path, stated: Mapping[str, Any] | None = None) -> Volume:
    """Read a PET image from NIfTI, or from ECAT 7.

    Memory stays below 16 times what the file holds unpacked.

    Parameters
    ----------
    path : Path
        ``.nii``, ``.nii.gz`` or ``.v``.
    stated : mapping, optional
        What the sidecar states, in the words of PET-BIDS.

    Returns
    -------
    Volume
        With the facts of `pipeline.ingest.acquisition` as far as they are stated, and ``space``, where the
        image is in a template space already. Values that are not finite stay: `pipeline.imaging` counts them
        where they are.

    Raises
    ------
    RefusedScan
        ``"truncated-file"``, ``"no-permission"``, ``"no-geometry"``, ``"mixed-geometry"``,
        ``"invalid-scale"``, ``"colour-image"``, ``"complex-image"``, ``"not-attenuation-corrected"``,
        ``"injection-after-scan"``, ``"unreadable-sidecar"`` or ``"units-unknown"``.
    """
    if is_ecat(path):
        return read_ecat(path, stated)
    try:
        # A value too large for float32 becomes infinite, and is counted as such.
        with np.errstate(over="ignore", invalid="ignore"):
            kind = nib.Nifti1Image if _header_size(path) == 348 else nib.Nifti2Image
            _check_scale(path, kind)
            with _opened(path) as stream:
                image = kind.from_stream(stream)
                header = image.header
                _check_values(header, path)
                array = _squeezed(np.asarray(image.dataobj, dtype=np.float32))
                # The checksum of a packed file is compared at its end alone.
                while stream.read(4096):
                    pass
        check_filled(array)
        affine, note = _affine(header)
    except PermissionError as error:
        raise no_permission() from error
    except _BROKEN as error:
        raise RefusedScan("truncated-file", "The file is no whole NIfTI image", hint=_cure(path)) from error
    read = sidecar.understand(stated or {}, name=path.name, frames=array.shape[3] if array.ndim == 4 else 1)
    facts: dict[str, Fact] = {**read.facts}
    facts["space"] = facts.get("space") or ("MNI" if _is_mni(header) else None)
    if note:
        facts["geometry_note"] = note
    return Volume(
        array * np.float32(read.factor) if read.factor != 1 else array, affine, read.unit, read.frames, facts
    )


def _cure(path: Path) -> str:
    if is_pointer(path):
        return "fetch the image again, with `git lfs pull` or `datalad get`: it is a pointer"
    if not path.name.lower().endswith((".nii", ".nii.gz", ".img", ".hdr")):
        return "name a DICOM or NIfTI file, or the folder of one PET series"
    return "fetch the image again"


def _is_packed(path: Path) -> bool:
    """Return whether a file is gzip by its first bytes: tools add and remove ``.gz`` from the name alone."""
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def _opened(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if _is_packed(path) else path.open("rb")


def _header_size(path: Path) -> int:
    """Return 348 or 540; refuse a header whose extensions state more bytes than lie before the image.

    They are read at once.

    Raises
    ------
    ValueError
    """
    with _opened(path) as stream:
        head = stream.read(544)
        order: Literal["little", "big"] = "little" if head[:2] in _SIZES else "big"
        size = int.from_bytes(head[:4], order)
        if size not in (348, 540):
            raise ValueError("no NIfTI header")
        place = (">" if order == "big" else "<") + ("f4" if size == 348 else "i8")
        begin = float(np.frombuffer(head, place, 1, 108 if size == 348 else 168)[0])
        at = size + 4
        if 0 <= begin < at:
            raise RefusedScan(
                "truncated-file",
                f"The header states that the image begins at byte {begin:.0f}, within the header",
                hint="convert the original series again: where the values begin is not known",
                measured=f"byte {begin:.0f}",
            )
        if not 0 <= begin <= path.stat().st_size * _LARGEST_RATIO:
            raise ValueError("the image begins outside of the file")
        while head[size] and at + 16 <= begin:
            stream.seek(at)
            length = int.from_bytes(stream.read(4), order, signed=True)
            if not 8 <= length <= begin - at:
                raise ValueError("an extension is longer than the header")
            at += length
        return size


def _check_scale(path: Path, kind: Any) -> None:
    """Refuse a slope or intercept that is no number; a slope of 0 or NaN means that values are not scaled.

    The image's own header is no witness: nibabel takes an infinite slope for none.

    References
    ----------
    NIfTI-1 standard, "DATA SCALING".
    """
    with _opened(path) as stream:
        header = kind.header_class(stream.read(kind.header_class.template_dtype.itemsize), check=False)
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if math.isinf(slope) or (slope and not math.isnan(slope) and not math.isfinite(intercept)):
        raise RefusedScan(
            "invalid-scale",
            f"The header has scl_slope {slope} and scl_inter {intercept}, expected finite numbers",
            hint="convert the original series again: the true values are not known",
            measured=f"scl_slope {slope}, scl_inter {intercept}",
        )


def _check_values(header: Any, path: Path) -> None:
    """Refuse values that are no activity, and a header that states more of them than the file can hold."""
    stored = header.get_data_dtype()
    if stored.fields is not None or stored.kind == "c":
        rule, what = (
            ("colour-image", "colours") if stored.fields is not None else ("complex-image", "complex numbers")
        )
        raise RefusedScan(
            rule,
            f"The image holds {what}, expected one activity a voxel",
            hint="convert the original series again; a picture or a screenshot holds no measurement",
            measured=str(header["datatype"]),
        )
    needed = math.prod(int(n) for n in header.get_data_shape()) * stored.itemsize
    if needed > _held(path, needed):
        raise RefusedScan(
            "truncated-file",
            f"The header states {needed} bytes of image, more than the file can hold",
            hint="fetch the image again",
            measured=f"{needed} bytes",
        )


def _held(path: Path, needed: int) -> int:
    """Return how many bytes a file holds unpacked; one that would have to be packed very well is counted."""
    packed, size = _is_packed(path), path.stat().st_size
    if not packed or needed > size * _LARGEST_RATIO:
        return size
    if needed <= 16 * size:
        return needed
    held = 0
    with gzip.open(path) as stream:
        while held < needed and (part := stream.read(1 << 20)):
            held += len(part)
    return held


def _squeezed(array: FloatArray) -> FloatArray:
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (3, 4) or min(array.shape) == 0 or min(array.shape[:3]) < 2:
        raise RefusedScan(
            "no-geometry",
            f"The image has shape {array.shape}, expected three dimensions, or four with time",
            hint="convert one image at a time",
            measured=str(array.shape),
        )
    return array


def _affine(header: Any) -> tuple[NDArray[np.float64], str | None]:
    """Return the sform, or else the qform; refuse where they disagree about left and right."""
    sform, qform = (_usable(header, name) for name in ("sform", "qform"))
    chosen = sform if sform is not None else qform
    if chosen is None:
        raise RefusedScan(
            "no-geometry",
            "The header states no place in space: it has neither a usable sform nor qform",
            hint="convert it again from DICOM",
        )
    to_mm = np.diag([*[_unit_mm(header)] * 3, 1.0])
    affine = to_mm @ np.asarray(chosen, dtype=np.float64)
    if sform is None or qform is None:
        broken = "sform" if sform is None else "qform"
        stated = int(header[f"{broken}_code"]) > 0
        return (
            affine,
            f"the {broken} of the header cannot be used; the other one is taken" if stated else None,
        )
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in header.get_data_shape()[:3]])).reshape(3, -1)
    apart = float(
        np.abs((to_mm @ (sform - qform))[:3] @ np.vstack([corners, np.ones(corners.shape[1])])).max()
    )
    if apart <= _AGREE_MM:
        return affine, None
    if np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0:
        raise RefusedScan(
            "mixed-geometry",
            "sform and qform have opposite handedness: left and right cannot be distinguished",
            hint="set both from the original DICOM",
            measured=f"{apart:.0f} mm",
        )
    return affine, f"sform and qform are {apart:.1f} mm apart at the corners; sform taken"


def _usable(header: Any, name: str) -> NDArray[np.float64] | None:
    """Return the sform or qform, None where it is not stated or is no placement of voxels."""
    try:
        found = getattr(header, f"get_{name}")(coded=True)[0]
    except (HeaderDataError, ValueError):  # a quaternion that is none
        return None
    if found is None or not np.isfinite(found).all() or abs(np.linalg.det(found[:3, :3])) < 1e-9:
        return None
    return np.asarray(found, dtype=np.float64)


def _unit_mm(header: Any) -> float:
    """Return the length unit of the header in millimetres; NIfTI knows metres and microns as well."""
    return {1: 1000.0, 3: 0.001}.get(int(header["xyzt_units"]) & 7, 1.0)


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
