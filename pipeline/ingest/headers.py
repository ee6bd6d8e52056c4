"""One `SeriesHeader` an instance: values by keyword that never raise."""

from __future__ import annotations

import logging
import math
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import pydicom
from pydicom.charset import convert_encodings
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from pipeline.errors import RefusedScan

# pydicom's warnings quote odd values, and these may name a person: no log line, no warning. The reader checks
# what it uses itself.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module=r"pydicom\.")

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

_CHARACTER_SET = 0x00080005
_DEFAULT = ("iso8859",)


@lru_cache
def _tag_of(keyword: str) -> int:
    return int(tag_for_keyword(keyword) or 0)


# Slices of a series share most of their values: a value of so few bytes is converted once.
_SHORT = 1024


class Encoded(NamedTuple):
    """An element as it is in the file: converted when asked for."""

    vr: str | None
    value: bytes | None
    implicit: bool
    little: bool = True


Layer = Mapping[int, Encoded | DataElement]


@dataclass(frozen=True, eq=False)
class SeriesHeader:
    """The header of one instance, or of one frame of it.

    Parameters
    ----------
    layers : tuple of Layer
        Asked one after the other: a frame's own groups, the shared ones, the whole file.
    syntax : str
        UID of the transfer syntax.
    encodings : tuple of str
        Of texts.
    image : Dataset or None
        What decodes compressed pixels.
    """

    layers: tuple[Layer, ...]
    syntax: str = ImplicitVRLittleEndian
    encodings: tuple[str, ...] = _DEFAULT
    image: Dataset | None = None

    @classmethod
    def of(cls, dataset: Dataset) -> SeriesHeader:
        """Return the header of a data set as pydicom reads or a program builds it."""
        syntax = meta_of(dataset).text("TransferSyntaxUID")
        if syntax is None:
            guessed_big = dataset.original_encoding[1] is False
            syntax = ExplicitVRBigEndian if guessed_big else ImplicitVRLittleEndian
        layer = _layer(dataset)
        return cls((layer,), syntax, encodings_of(layer), dataset)

    def holds(self, keyword: str) -> bool:
        """Return whether an element is there, empty or not."""
        return any(_tag_of(keyword) in layer for layer in self.layers)

    def get(self, keyword: str | int) -> Any:
        """Return the first value that is present and readable, or None."""
        return self._read(keyword)[0]

    def text(self, keyword: str | int) -> str | None:
        """Return a value as text without padding; several values are joined by a backslash."""
        return self._read(keyword)[1]

    def _read(self, keyword: str | int) -> tuple[Any, str | None]:
        tag = _tag_of(keyword) if isinstance(keyword, str) else keyword
        for layer in self.layers:
            element = layer.get(tag)
            if element is None:
                continue
            try:
                value, text = _converted(tag, element, self.encodings)
            except MALFORMED:
                continue
            if value is not None and value != "":
                return value, text
        return None, None

    def number(self, keyword: str | int) -> float | None:
        """Return a finite number, or None."""
        numbers = self.numbers(keyword)
        return numbers[0] if numbers else None

    def numbers(self, keyword: str | int) -> tuple[float, ...] | None:
        """Return finite numbers, or None if any is not."""
        text = self.text(keyword)
        return None if text is None else _numbers(text)

    def whole(self, keyword: str) -> int | None:
        """Return a whole number, or None."""
        value = self.number(keyword)
        return int(value) if value is not None and value == int(value) else None

    def item(self, keyword: str) -> SeriesHeader:
        """Return the first item of a sequence; empty where there is none."""
        first = self._first(keyword)
        return SeriesHeader((_layer(first),) if first is not None else (), self.syntax, self.encodings)

    def _first(self, keyword: str) -> Dataset | None:
        try:
            first = (self.get(keyword) or (None,))[0]
        except MALFORMED:
            return None
        return first if isinstance(first, Dataset) else None

    def frames(self) -> list[SeriesHeader] | None:
        """Return the header of each frame of a multi-frame image; None where it is none.

        Raises
        ------
        RefusedScan
            ``"no-geometry"``.
        """
        per_frame = self.get("PerFrameFunctionalGroupsSequence")
        if per_frame is None:
            return None
        shared = self._first("SharedFunctionalGroupsSequence")
        try:
            common = () if shared is None else _first_items(shared)
            own = [_first_items(groups) for groups in per_frame]
        except MALFORMED as error:
            raise no_geometry("functional groups that cannot be read") from error
        return [SeriesHeader((*layers, *common, *self.layers), self.syntax, self.encodings) for layers in own]

    def first_frame(self) -> SeriesHeader:
        """Return the header with the groups of its first frame in front, where it is a multi-frame image."""
        frames = self.frames()
        return frames[0] if frames else self


def meta_of(dataset: Dataset) -> SeriesHeader:
    """Return the file meta information of a data set; empty where there is none."""
    return SeriesHeader((_layer(getattr(dataset, "file_meta", None) or Dataset()),))


def _layer(dataset: Dataset) -> Layer:
    return {
        int(tag): Encoded(e.VR, e.value, e.is_implicit_VR, e.is_little_endian)
        if isinstance(e, RawDataElement)
        else e
        for tag, e in dataset.items()
    }


def _first_items(groups: Dataset) -> tuple[Layer, ...]:
    return tuple(_layer(element.value[0]) for element in groups if element.VR == "SQ" and element.value)


def encodings_of(layer: Layer) -> tuple[str, ...]:
    """Return the encodings of the texts of a data set, by its Specific Character Set (0008,0005)."""
    try:
        element = layer.get(_CHARACTER_SET)
        written = None if element is None else _converted(_CHARACTER_SET, element, _DEFAULT)[1]
        return _DEFAULT if written is None else _encodings(written)
    except MALFORMED:
        return _DEFAULT


@lru_cache(64)
def _encodings(written: str) -> tuple[str, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(convert_encodings(written.split("\\")))


def _converted(
    tag: int, element: Encoded | DataElement, encodings: tuple[str, ...]
) -> tuple[Any, str | None]:
    """Return a value, and as text; None for the text of many bytes."""
    if isinstance(element, DataElement):
        return element.value, _as_text(element.value)
    if element.value is None or len(element.value) <= _SHORT:
        return _short(tag, element, encodings)
    value = _convert(tag, element, encodings)
    return value, None if isinstance(value, bytes) else _as_text(value)


@lru_cache(4096)
def _short(tag: int, element: Encoded, encodings: tuple[str, ...]) -> tuple[Any, str | None]:
    value = _convert(tag, element, encodings)
    return value, _as_text(value)


def _convert(tag: int, element: Encoded, encodings: tuple[str, ...]) -> Any:
    length = 0 if element.value is None else len(element.value)
    raw = RawDataElement(BaseTag(tag), element.vr, length, element.value, 0, element.implicit, element.little)
    with warnings.catch_warnings():
        # Odd values in private or unused elements are the scanner's affair.
        warnings.simplefilter("ignore")
        return convert_raw_data_element(raw, encoding=list(encodings)).value


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, Dataset):
        return None
    if isinstance(value, bytes):
        value = value.decode("ascii", errors="replace")
    if not isinstance(value, str) and isinstance(value, Sequence):
        value = "\\".join(str(part) for part in value)
    return str(value).strip(" \0") or None


@lru_cache(4096)
def _numbers(text: str) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(part) for part in text.split("\\"))
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def private_text(header: SeriesHeader, group: int, creator: str, offset: int) -> str | None:
    """Return a private element as text: under its creator's block, or where the vendor always puts it."""
    for block in range(0x10, 0x20):
        owner = header.text(group << 16 | block)
        if owner and creator.lower() in owner.lower():
            return header.text(group << 16 | block << 8 | offset)
    # Exports drop the creator and keep its elements; under another creator's name they are that one's.
    unowned = header.text(group << 16 | 0x10) is None
    return header.text(group << 16 | 0x1000 | offset) if unowned else None


def philips_scale(header: SeriesHeader, offset: int) -> float | None:
    """Return a Philips factor for counts, to SUV at offset 0x00 or to Bq/mL at 0x09; None without one."""
    text = private_text(header, 0x7053, "Philips PET Private Group", offset)
    try:
        scale = float(text or 0)
    except ValueError:
        return None
    return scale if math.isfinite(scale) and scale > 0 else None


def no_geometry(seen: str) -> RefusedScan:
    """Return the refusal of slices whose place is not known."""
    return RefusedScan(
        "no-geometry",
        f"The place of a slice is not known: {seen}",
        hint="Export the original series",
        measured=seen,
    )
