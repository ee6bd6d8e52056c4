"""What a file or a DICOM instance is: a PET image, or what else, in words that count it."""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.ingest.folders import ANNEXED
from pipeline.ingest.headers import SeriesHeader

PET_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.128": "PET",
    "1.2.840.10008.5.1.4.1.1.128.1": "legacy converted enhanced PET",
    "1.2.840.10008.5.1.4.1.1.130": "enhanced PET",
}

_MODALITIES = {
    "CT": "CT images", "MR": "MR images", "RTSTRUCT": "RT structure sets", "SEG": "segmentations",
    "SR": "structured reports", "RTDOSE": "RT doses", "RTPLAN": "RT plans",
    "NM": "NM images", "CR": "X-ray images", "DX": "X-ray images", "US": "ultrasound images",
    "PR": "presentations", "DOC": "documents", "REG": "registrations", "KO": "key object notes",
}  # fmt: skip
NOT_DICOM = "files that are not DICOM"
POINTERS = ANNEXED
DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
DIRECTORY, _NO_IMAGE, _PROJECTION = (
    "DICOM directories", "PET objects that are no images", "PET projections and localisers",
)  # fmt: skip
_CAPTURE, _TRANSMISSION = "secondary captures of PET, pictures without values", "PET transmission images"
_CAPTURES = "1.2.840.10008.5.1.4.1.1.7."
"""Secondary Capture Image Storage, and with ``.1`` to ``.4`` its multi-frame classes."""
NEIGHBOURS = frozenset({DIRECTORY, _NO_IMAGE, _PROJECTION, _CAPTURE, _TRANSMISSION})
"""What lies in the folder of a PET series and is none of its slices."""
_NOT_A_SCAN = frozenset(
    {"MIP", "LOCALIZER", "PROJECTION", "MAXIMUM", "SCOUT", "TOPOGRAM", "SCREEN", "SCREENSHOT"}
)
_PACKED = (".gz", ".zip", ".bz2", ".xz", ".zst", ".7z", ".rar", ".tar", ".tgz")
_FORMATS = (
    ".hdr",
    ".mgz",
    ".mgh",
    ".mnc",
    ".nrrd",
    ".nhdr",
    ".mha",
    ".mhd",
    ".v",
    ".ecat",
    ".hdr.gz",
    ".img.gz",
    ".hv",
    ".h33",
)
"""Analyze and pairs of NIfTI-1, FreeSurfer, MINC, NRRD, MetaImage, ECAT."""


def kind_of(header: SeriesHeader) -> str | None:
    """Return None for a PET image, else what it is, in words that count it.

    Examples
    --------
    >>> from pydicom import Dataset; ct = Dataset(); ct.Modality = "CT"
    >>> kind_of(SeriesHeader.of(ct))
    'CT images'
    """
    sop_class = header.text("SOPClassUID") or ""
    if sop_class == DIRECTORY_CLASS or header.holds("FileSetID"):
        return DIRECTORY
    if sop_class not in PET_CLASSES:
        modality = header.text("Modality")
        of_pet = _CAPTURE if f"{sop_class}.".startswith(_CAPTURES) else _NO_IMAGE
        return of_pet if modality == "PT" else _MODALITIES.get(modality or "", "other DICOM objects")
    if (header.whole("SamplesPerPixel") or 1) > 1:  # under the class of PET: red, green and blue
        return _CAPTURE
    if (header.text("CountsSource") or "").upper() == "TRANSMISSION":
        return _TRANSMISSION
    reprojected = "REPROJECTION" in (header.text("SeriesType") or "").upper().split("\\")
    if reprojected or is_projection((header.text("ImageType") or "").split("\\")):
        return _PROJECTION
    return None


def is_projection(image_type: Iterable[object]) -> bool:
    """Return whether an Image Type (0008,0008) is of a projection, localiser or screenshot.

    Examples
    --------
    >>> is_projection(["DERIVED", "SECONDARY", "MIP IMAGE"]), is_projection(["ORIGINAL", "PRIMARY"])
    (True, False)
    """
    words = {word for value in image_type for word in re.split(r"[\W_]+", str(value).upper())}
    return bool(words & _NOT_A_SCAN)


def kind_of_other(path: Path) -> str:
    """Return what a file is that is no DICOM, in words that count it."""
    name = path.name.lower()
    if is_pointer(path):
        return POINTERS
    if name.endswith((".nii", ".nii.gz")):
        return "NIfTI images beside DICOM"
    if path.suffix.lower() in _PACKED:
        return "compressed files that are to be unpacked"
    is_pair = path.suffix.lower() == ".img" and path.with_suffix(".hdr").exists()
    if is_pair or name.endswith(_FORMATS):
        return "images of other formats, which are to be converted to NIfTI"
    return NOT_DICOM


def is_pointer(path: Path) -> bool:
    """Return whether git-lfs or git-annex left a few words or a link in place of a file.

    Only files of a pointer's size are opened: a nightly folder has thousands of others.
    """
    if path.is_symlink() and not path.exists():
        return "annex" in str(path.readlink())
    try:
        if not _SMALLEST_POINTER <= path.stat().st_size <= _LARGEST_POINTER:
            return False
        with path.open("rb") as stream:
            return stream.read(64).startswith((b"version https://git-lfs", b"/annex/objects"))
    except OSError:
        return False


_SMALLEST_POINTER, _LARGEST_POINTER = 40, 1024


def commands_for(names: Iterable[str]) -> list[str]:
    """Return the commands that make of files of other formats what can be read, by their names.

    Examples
    --------
    >>> commands_for(["a.mgz", "b.MNC", "c.txt"])
    ['mnc2nii FILE.mnc FILE.nii', 'mri_convert FILE.mgz FILE.nii.gz']
    """
    low = [name.lower() for name in names]
    return sorted({command for end, command in _COMMANDS.items() if any(name.endswith(end) for name in low)})


_COMMANDS = {
    ".mgz": "mri_convert FILE.mgz FILE.nii.gz", ".mgh": "mri_convert FILE.mgh FILE.nii.gz",
    ".mnc": "mnc2nii FILE.mnc FILE.nii",
    ".hdr": "fslchfiletype NIFTI_GZ FILE.hdr (Analyze: check left and right)",
    ".nrrd": "dcm2niix FILE.nrrd", ".nhdr": "dcm2niix FILE.nhdr",
    ".mha": "c3d FILE.mha -o FILE.nii.gz", ".mhd": "c3d FILE.mhd -o FILE.nii.gz",
    ".i.hdr": "stir_math or dcm2niix FILE.i.hdr (Interfile)", ".hv": "stir_math FILE.nii FILE.hv (Interfile)",
    ".v": "dcm2niix FILE.v", ".ecat": "dcm2niix FILE.ecat",
    ".rar": "unrar x FILE.rar", ".7z": "7z x FILE.7z", ".zst": "zstd -d FILE.zst", ".bz2": "bunzip2 FILE.bz2",
    ".xz": "unxz FILE.xz",
}  # fmt: skip
"""What converts or unpacks, by the end of a name."""


def is_nifti(path: Path) -> bool:
    """Return whether a file is named as NIfTI."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def without_other_forms(paths: Iterable[Path], ignored: Counter[str]) -> list[Path]:
    """Leave out what was made of an image beside it: the same unpacked, or as SPM names its results.

    Each would be another subject, or the same one twice.
    """
    found = list(paths)
    images = {(path.parent, _END.sub("", path.name)) for path in found if is_nifti(path)}
    packed = {path for path in found if path.suffix == ".gz"}
    chosen = []
    for path in found:
        beside = path.with_name(path.name + ".gz")
        if beside in packed and is_nifti(path) and _is_packed_form(path, beside):
            ignored["unpacked copies of an image that is taken"] += 1
        elif is_nifti(path) and any((path.parent, bare) in images for bare in _without_prefix(path)):
            ignored["images that were made of one that is taken (w, s, r, m, c1 before its name)"] += 1
        else:
            chosen.append(path)
    return chosen


_END = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_BY_SPM = re.compile(r"(mean|m?w?c[1-6]|[rswmua]){1,4}")


def _without_prefix(path: Path) -> Iterator[str]:
    stem = _END.sub("", path.name)
    return (stem[n:] for n in range(1, min(8, len(stem))) if _BY_SPM.fullmatch(stem[:n]))


def _is_packed_form(path: Path, packed: Path) -> bool:
    try:
        with path.open("rb") as plain, gzip.open(packed) as stream:
            while part := plain.read(1 << 20):
                if part != stream.read(len(part)):
                    return False
            return not stream.read(1)
    except (OSError, EOFError, zlib.error):
        return False
