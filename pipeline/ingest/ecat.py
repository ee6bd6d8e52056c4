"""ECAT 7 to `Volume`: the format of Siemens/CTI scanners as the HRRT, in ADNI since 2024."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from nibabel import ecat as layout
from numpy.typing import NDArray

from pipeline.errors import RefusedScan
from pipeline.ingest import sidecar
from pipeline.ingest.found import no_permission
from pipeline.ingest.stacking import check_filled
from pipeline.scan import FloatArray, Volume

MAGIC = b"MATRIX7"
_BLOCK = 512
_VOLUMES = (6, 7)
"""File types: volumes of bytes and of words; others are sinograms, attenuation and normalisation."""
_TYPES = {1: "u1", 5: "f4", 6: "i2", 7: "i4"}
_MOST_FRAMES, _LARGEST_SIDE = 2048, 2048
_SIGNS = {3: (-1, -1, -1), 1: (1, 1, -1), 2: (1, -1, 1), 0: (-1, 1, 1)}
"""Direction of the axes towards right, front and top by how the patient lay; 3 is head first, supine."""
_UNKNOWN_PLACE = 8
_LONGEST_UPTAKE_S = 6 * 3600


def is_ecat(path: Path) -> bool:
    """Return whether a file is named as ECAT and starts as ECAT 7 does."""
    if path.suffix.lower() not in (".v", ".ecat", ".i"):
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_ecat(path: Path, stated: Mapping[str, Any] | None = None) -> Volume:
    """Read a PET image from ECAT 7.

    Parameters
    ----------
    path : Path
    stated : mapping, optional
        What a sidecar states, in the words of PET-BIDS; it comes before the header.

    Returns
    -------
    Volume
        As `pipeline.ingest.nifti.read_nifti`.

    Raises
    ------
    RefusedScan
        ``"truncated-file"``, ``"no-permission"``, ``"no-image"``, ``"no-geometry"``, ``"mixed-geometry"``,
        ``"invalid-scale"`` or a rule of the sidecar.

    References
    ----------
    CTI ECAT 7 file format, as `nibabel.ecat` lays it out.
    """
    try:
        data = path.read_bytes()
    except PermissionError as error:
        raise no_permission() from error
    except OSError as error:
        raise _breaks_off() from error
    order = ">" if len(data) > 50 and 70 <= int.from_bytes(data[46:48], "big") < 80 else "<"
    main = _record(data, 0, layout.main_header_dtd, order)
    if int(main["file_type"]) not in _VOLUMES:
        raise RefusedScan(
            "no-image",
            f"The ECAT file is of type {int(main['file_type'])}, expected an image volume (6 or 7)",
            hint="take the reconstructed image (.v) of the scan, not its sinogram or attenuation",
            measured=f"file type {int(main['file_type'])}",
        )
    places = _frames_of(data, order)
    frames = [_record(data, (block - 1) * _BLOCK, layout.subheader_dtd, order) for block, _ in places]
    affine, note = _affine(frames, int(main["patient_orientation"]))
    arrays = [
        _values(data, first, frame, main, order) for (first, _), frame in zip(places, frames, strict=True)
    ]
    array: FloatArray = arrays[0] if len(arrays) == 1 else np.stack(arrays, axis=3)
    check_filled(array)
    own = {**_stated(main, frames), **(stated or {})}
    read = sidecar.understand(own, name=path.name, frames=len(arrays))
    scaled = array * np.float32(read.factor) if read.factor != 1 else array
    return Volume(scaled, affine, read.unit, read.frames, {**read.facts, "geometry_note": note})


def _breaks_off() -> RefusedScan:
    return RefusedScan(
        "truncated-file",
        "The file is no whole ECAT image",
        hint="fetch the image again",
    )


def _record(data: bytes, at: int, fields: Sequence[Any], order: str) -> Any:
    kind: np.dtype[Any] = np.dtype(cast("Any", fields)).newbyteorder(cast("Any", order))
    if at < 0 or at + kind.itemsize > len(data):
        raise _breaks_off()
    return np.frombuffer(data, kind, 1, at)[0]


def _frames_of(data: bytes, order: str) -> list[tuple[int, int]]:
    """Return first and last block of each frame, by the directory, in the order of their numbers."""
    found: dict[int, tuple[int, int]] = {}
    block, seen = 2, set[int]()
    while block > 1 and block not in seen and len(seen) < _MOST_FRAMES:
        seen.add(block)
        at = (block - 1) * _BLOCK
        if at + _BLOCK > len(data):
            raise _breaks_off()
        rows = np.frombuffer(data, order + "i4", 128, at).reshape(32, 4)
        for number, first, last, status in rows[1:].tolist():
            if number > 0 and first > 0 and status >= 0:
                found[number] = (first, last)
        # The last block of the directory points back to the first.
        block = int(rows[0, 1]) if int(rows[0, 1]) != 2 else 0
    if not found or len(found) > _MOST_FRAMES:
        raise _breaks_off()
    return [found[number] for number in sorted(found, key=lambda n: (n & 0x1FF, n))]


def _shape(frame: Any) -> tuple[int, int, int]:
    x, y, z = (int(frame[f"{axis}_dimension"]) for axis in "xyz")
    if not all(1 <= side <= _LARGEST_SIDE for side in (x, y, z)):
        raise _breaks_off()
    return x, y, z


def _values(data: bytes, first: int, frame: Any, main: Any, order: str) -> FloatArray:
    shape, kind = _shape(frame), _TYPES.get(int(frame["data_type"]))
    if kind is None:
        raise RefusedScan(
            "no-image",
            f"The values are stored as ECAT type {int(frame['data_type'])}, expected one of {sorted(_TYPES)}",
            hint="convert the original image: pet_ecat or dcm2niix FILE.v",
            measured=f"data type {int(frame['data_type'])}",
        )
    count = math.prod(shape)
    if first * _BLOCK + count * np.dtype(kind).itemsize > len(data):
        raise _breaks_off()
    stored = np.frombuffer(data, order + kind, count, first * _BLOCK).reshape(shape, order="F")
    calibration = float(main["ecat_calibration_factor"]) or 1.0
    factor = float(frame["scale_factor"]) * calibration
    if not (math.isfinite(factor) and factor > 0):
        raise RefusedScan(
            "invalid-scale",
            f"The scale of a frame is {factor}, expected a positive number",
            hint="export the original image again: the true values are not known",
            measured=str(factor),
        )
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(stored * np.float32(factor), np.float32)


def _affine(frames: Sequence[Any], lay: int) -> tuple[NDArray[np.float64], str]:
    first = frames[0]
    sizes = [float(first[f"{axis}_pixel_size"]) * 10.0 for axis in "xyz"]
    different = any(
        _shape(frame) != _shape(first)
        or not np.allclose([float(frame[f"{a}_pixel_size"]) * 10.0 for a in "xyz"], sizes, rtol=1e-3)
        for frame in frames[1:]
    )
    if different:
        raise RefusedScan(
            "mixed-geometry", "The frames differ in size", hint="export the frames of one reconstruction"
        )
    if not all(math.isfinite(size) and 0.1 <= size <= 50.0 for size in sizes):
        raise RefusedScan(
            "no-geometry",
            f"The voxels are {', '.join(f'{size:.3g}' for size in sizes)} mm, expected 0.1 to 50",
            hint="export the original image again",
        )
    if lay not in (*_SIGNS, _UNKNOWN_PLACE):
        raise RefusedScan(
            "no-geometry",
            f"The patient orientation of the ECAT header is {lay}: lying on the side",
            hint="convert the image with its orientation known, and check left and right",
            measured=str(lay),
        )
    note = "placed by the patient orientation of the ECAT header"
    if lay == _UNKNOWN_PLACE:
        note = "how the patient lay is not stated: taken as head first, supine; check left and right"
    steps = np.array(_SIGNS.get(lay, _SIGNS[3])) * sizes
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = -steps * (np.array(_shape(first)) - 1) / 2.0
    return affine, note


def _stated(main: Any, frames: Sequence[Any]) -> dict[str, Any]:
    """Return what the header states, in the words of PET-BIDS; no name and no number of a person."""
    starts = [int(frame["frame_start_time"]) / 1000.0 for frame in frames]
    durations = [int(frame["frame_duration"]) / 1000.0 for frame in frames]
    scan, dose = int(main["scan_start_time"]), int(main["dose_start_time"])
    # A clock that was not set is 0, or that of the scan.
    apart = scan - dose if 0 < dose < scan else None
    corrected = [float(frame["decay_corr_fctr"]) for frame in frames]
    units = _text(main["data_units"])
    if not units and int(main["calibration_unitS"]) == 1 and int(main["calibration_units_type"]) == 1:
        units = "Bq/mL"
    return {
        "Units": units.replace("/cc", "/mL").replace("/ml", "/mL"),
        "Manufacturer": "CTI",
        "ManufacturersModelName": "HRRT" if int(main["system_type"]) == 328 else "ECAT",
        "TracerName": _text(main["radiopharmaceutical"]),
        "TracerRadionuclide": _text(main["isotope_name"]).replace("-", "").upper(),
        "FrameTimesStart": starts,
        "FrameDuration": durations,
        "ScanStart": 0,
        **({"InjectionStart": -apart} if apart is not None and apart <= _LONGEST_UPTAKE_S else {}),
        **({"ImageDecayCorrected": True} if all(one > 1.0 for one in corrected) else {}),
    }


def _text(value: Any) -> str:
    return bytes(value).split(b"\0")[0].decode("latin-1").strip()
