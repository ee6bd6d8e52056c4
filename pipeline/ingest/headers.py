"""DICOM files as headers: what a file is, which series it belongs to, values that never raise."""

from __future__ import annotations

import logging
import math
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.tag import Tag

from pipeline.errors import RefusedScan

# What pydicom says of odd values quotes them, and they may name a person: no log line, no warning. The reader
# checks what it uses itself.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module=r"pydicom\.")

PET_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.128": "PET",
    "1.2.840.10008.5.1.4.1.1.128.1": "legacy converted enhanced PET",
    "1.2.840.10008.5.1.4.1.1.130": "enhanced PET",
}

# What pydicom raises on bytes that are not what they claim to be.
MALFORMED = (
    BytesLengthException,
    InvalidDicomError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

_MODALITIES = {
    "CT": "CT images", "MR": "MR images", "RTSTRUCT": "RT structure sets", "SEG": "segmentations",
    "SR": "structured reports", "OT": "other DICOM objects", "RTDOSE": "RT doses", "RTPLAN": "RT plans",
    "NM": "NM images", "CR": "X-ray images", "DX": "X-ray images", "US": "ultrasound images",
    "PR": "presentations", "DOC": "documents", "REG": "registrations", "KO": "key object notes",
}  # fmt: skip
_NOT_A_SCAN = frozenset({"MIP", "LOCALIZER", "PROJECTION", "PROJECTION IMAGE", "MAXIMUM", "SCOUT"})


@dataclass(frozen=True)
class Layers:
    """Data sets asked one after the other: a frame's own groups, the shared ones, the whole file."""

    sets: tuple[Dataset, ...]

    def get(self, keyword: str | int) -> Any:
        """Return the first value that is present and readable, or None."""
        for one in self.sets:
            try:
                value = one.get(keyword) if isinstance(keyword, str) else one[keyword].value
            except MALFORMED:
                continue
            if value is not None and value != "":
                return value
        return None

    def text(self, keyword: str | int) -> str | None:
        """Return a value as text without padding; several values are joined by a backslash."""
        value = self.get(keyword)
        if value is None or isinstance(value, Dataset):
            return None
        if isinstance(value, bytes):
            value = value.decode("ascii", errors="replace")
        if not isinstance(value, str) and isinstance(value, Sequence):
            value = "\\".join(str(part) for part in value)
        return str(value).strip(" \0") or None

    def number(self, keyword: str | int) -> float | None:
        """Return a finite number, or None."""
        numbers = self.numbers(keyword)
        return numbers[0] if numbers else None

    def numbers(self, keyword: str | int) -> tuple[float, ...] | None:
        """Return finite numbers, or None if any is not."""
        text = self.text(keyword)
        if text is None:
            return None
        try:
            numbers = tuple(float(part) for part in text.split("\\"))
        except ValueError:
            return None
        return numbers if all(map(math.isfinite, numbers)) else None

    def whole(self, keyword: str) -> int | None:
        """Return a whole number, or None."""
        value = self.number(keyword)
        return int(value) if value is not None and value == int(value) else None

    def item(self, keyword: str) -> Layers:
        """Return the first item of a sequence; empty where there is none."""
        value = self.get(keyword)
        try:
            return Layers((value[0],) if value is not None and isinstance(value[0], Dataset) else ())
        except MALFORMED:
            return Layers(())


def is_dicom(path: Path) -> bool:
    """Return whether a file starts as a DICOM file does, with its preamble or without."""
    try:
        with path.open("rb") as stream:
            head = stream.read(132)
    except OSError:
        return False
    bare = head[:4] in (b"\x08\x00\x05\x00", b"\x08\x00\x08\x00", b"\x08\x00\x00\x00", b"\x08\x00\x16\x00")
    return head[128:] == b"DICM" or bare


def read_file(path: Path, *, tags: Sequence[str] | None = None, pixels: bool = False) -> Dataset | None:
    """Read one DICOM file; None where it is none.

    Parameters
    ----------
    tags : sequence of str, optional
        Keywords to keep; all where not given.
    pixels : bool
        Read pixel data as well.

    Raises
    ------
    RefusedScan
        ``"truncated-file"`` where it starts as DICOM and cannot be read on.
    """
    if not is_dicom(path):
        return None
    with warnings.catch_warnings():
        # Odd values in private or unused elements are the scanner's affair.
        warnings.simplefilter("ignore")
        try:
            found = pydicom.dcmread(
                path, force=True, stop_before_pixels=not pixels, specific_tags=list(tags) if tags else None
            )
        except MALFORMED as error:
            raise _breaks_off() from error
    # Where a compressed stream breaks off, pydicom gives up without a word and returns nothing of the file.
    if "SOPClassUID" not in found and "MediaStorageSOPClassUID" in getattr(found, "file_meta", ()):
        raise _breaks_off()
    return found


def _breaks_off() -> RefusedScan:
    return RefusedScan(
        "truncated-file", "A DICOM file must be whole, one breaks off", hint="fetch the series again"
    )


def kind_of(header: Dataset) -> str | None:
    """Return None for a PET image, else what it is, in words that count it.

    Examples
    --------
    >>> ct = Dataset(); ct.Modality = "CT"
    >>> kind_of(ct)
    'CT images'
    """
    layers = Layers((header,))
    sop_class = layers.text("SOPClassUID") or ""
    if sop_class == "1.2.840.10008.1.3.10":
        return "DICOM directories"
    if sop_class not in PET_CLASSES:
        modality = layers.text("Modality")
        return (
            "PET objects that are no images"
            if modality == "PT"
            else _MODALITIES.get(modality or "", "other DICOM objects")
        )
    if _NOT_A_SCAN & set((layers.text("ImageType") or "").upper().split("\\")):
        return "PET projections and localisers"
    return None


def series_of(
    files: Iterable[Path], series_uid: str | None = None
) -> tuple[dict[str, list[Dataset]], Counter[str]]:
    """Sort files into PET series; the same instance under another name is taken once.

    Parameters
    ----------
    files : iterable of Path
    series_uid : str, optional
        Take this series only.

    Returns
    -------
    series : dict
        Series instance UID to its data sets, with pixels.
    ignored : Counter
        What was left alone.
    """
    series: dict[str, dict[str, Dataset]] = {}
    ignored: Counter[str] = Counter()
    for path in files:
        dataset = read_file(path, pixels=True)
        if dataset is None:
            ignored["files that are not DICOM"] += 1
            continue
        kind = kind_of(dataset)
        if kind:
            ignored[kind] += 1
            continue
        layers = Layers((dataset,))
        uid = layers.text("SeriesInstanceUID") or ""
        if series_uid is not None and uid != series_uid:
            ignored["PET images of other series"] += 1
            continue
        instance = layers.text("SOPInstanceUID") or f"nameless {len(series.get(uid, {}))}"
        if instance in series.setdefault(uid, {}):
            ignored["duplicates of an image"] += 1
        else:
            series[uid][instance] = dataset
    return {uid: list(found.values()) for uid, found in series.items()}, ignored


def private_text(layers: Layers, group: int, creator: str, offset: int) -> str | None:
    """Return a private element as text: under its creator's block, or where the vendor always puts it."""
    for block in range(0x10, 0x20):
        owner = layers.text(Tag(group, block))
        if owner and creator.lower() in owner.lower():
            return layers.text(Tag(group, (block << 8) | offset))
    # Exports drop the creator and keep its elements; under another creator's name they are that one's.
    return layers.text(Tag(group, 0x1000 | offset)) if layers.text(Tag(group, 0x10)) is None else None


def philips_scale(layers: Layers, offset: int) -> float | None:
    """Return a Philips factor for counts, to SUV at offset 0x00 or to Bq/mL at 0x09; None without one."""
    text = private_text(layers, 0x7053, "Philips PET Private Group", offset)
    try:
        scale = float(text or 0)
    except ValueError:
        return None
    return scale if math.isfinite(scale) and scale > 0 else None
