"""What an earlier ingest asked of the headers of files that are unchanged: they are not opened again.

A night brings a few scans to a folder of a hundred thousand DICOM files. The answers lie beside the key, in a
private file: they hold what headers state of people.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from time import time_ns
from typing import Any

from pydicom.dataelem import DataElement

from pipeline.errors import RefusedScan
from pipeline.ingest.found import SAFE_NS
from pipeline.ingest.headers import Encoded, Layer, SeriesHeader
from pipeline.ingest.instances import read_file

_FORMAT = 1
_LONGEST = 4096
"""A file with a longer element that is asked for, as of a multi-frame image, is opened every time."""
Stamp = tuple[int, int, int]
Answers = dict[int, Encoded | DataElement | None]


class _AskedLayer(Mapping[int, Encoded | DataElement]):
    """The elements of a file: those that were asked for before, and the file itself for all others."""

    def __init__(self, answers: Answers, read: Callable[[], Layer]) -> None:
        self.answers, self._read = answers, read
        self._layer: Layer | None = None

    @property
    def _file(self) -> Layer:
        if self._layer is None:
            self._layer = self._read()
        return self._layer

    def get(self, tag: int, default: Any = None) -> Any:
        if tag not in self.answers:
            self.answers[tag] = self._file.get(tag)
        found = self.answers[tag]
        return default if found is None else found

    def __contains__(self, tag: object) -> bool:
        return isinstance(tag, int) and self.get(tag) is not None

    def __getitem__(self, tag: int) -> Encoded | DataElement:
        return self._file[tag]

    def __iter__(self) -> Iterator[int]:
        return iter(self._file)

    def __len__(self) -> int:
        return len(self._file)


class KnownHeaders:
    """The answers of one private file; what cannot be read of it counts as unknown."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._before = _stored(file)
        self._seen: dict[str, tuple[Stamp, SeriesHeader | None]] = {}

    def read(self, path: Path) -> SeriesHeader | None:
        """Return what `read_file` returns of a file, which is opened only for what is not known of it."""
        stamp = _stamp(path)
        known = self._seen.get(str(path)) or self._before.get(str(path))
        if stamp is not None and known is not None and known[0] == stamp:
            header = known[1]
        else:
            found = read_file(path)
            header = None if found is None else _asked(found, {}, lambda: found.layers[0])
        if stamp is not None:
            self._seen[str(path)] = (stamp, header)
        return header

    def save(self) -> None:
        """Write the answers about all files that were seen, whole; where that fails they are asked again."""
        values: dict[str, int] = {}
        for path, one in self._before.items():  # of another source of the dataset
            if path not in self._seen and Path(path).is_file():
                self._seen[path] = one
        rows = {path: row for path, one in self._seen.items() if (row := _row(*one, values)) is not None}
        content = {"format": _FORMAT, "values": list(values), "files": rows}
        beside = self._file.with_name(f".{self._file.name}.{secrets.token_hex(4)}")
        with contextlib.suppress(OSError):
            try:
                handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "wb") as stream:
                    stream.write(gzip.compress(json.dumps(content).encode(), 1, mtime=0))
                beside.replace(self._file)
            finally:
                beside.unlink(missing_ok=True)


_current: ContextVar[KnownHeaders | None] = ContextVar("known_headers", default=None)


@contextlib.contextmanager
def remembered_headers(key_file: Path) -> Iterator[None]:
    """Let `read_known` use and keep what was asked of headers, in a file of mode 600 beside a key."""
    known = KnownHeaders(key_file.with_name(key_file.name + ".headers.gz"))
    token = _current.set(known)
    try:
        yield
    finally:
        _current.reset(token)
    if known._seen and key_file.is_file():
        known.save()


def read_known(path: Path) -> SeriesHeader | None:
    """Return what `read_file` returns of a file, within `remembered_headers` without opening a known one."""
    known = _current.get()
    return read_file(path) if known is None else known.read(path)


def _asked(header: SeriesHeader, answers: Answers, read: Callable[[], Layer]) -> SeriesHeader:
    return SeriesHeader((_AskedLayer(answers, read),), header.syntax, header.encodings)


def _layer_of(path: Path) -> Layer:
    try:
        header = read_file(path)
    except RefusedScan:  # gone meanwhile: reading the scan reports that
        return {}
    return {} if header is None else header.layers[0]


def _stamp(path: Path) -> Stamp | None:
    """Return size and times of a file; None where another change could leave it the same times."""
    try:
        found = path.stat()
    except OSError:
        return None
    new = found.st_mtime_ns > time_ns() - SAFE_NS
    return None if new else (found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _row(stamp: Stamp, header: SeriesHeader | None, values: dict[str, int]) -> list[Any] | None:
    """Return what is stored of a file, its texts by their number in `values`; None where it cannot be."""

    def number(value: object) -> int:
        return values.setdefault(json.dumps(value), len(values))

    if header is None:
        return [*stamp]
    answers = header.layers[0].answers if isinstance(header.layers[0], _AskedLayer) else {}
    row = [*stamp, number([header.syntax, *header.encodings])]
    for tag, element in answers.items():
        if isinstance(element, DataElement) or len((element and element.value) or b"") > _LONGEST:
            return None
        if element is None:
            row.append(number([tag]))
        else:
            value = None if element.value is None else base64.b64encode(element.value).decode()
            row.append(number([tag, element.vr, value, element.implicit, element.little]))
    return row


def _stored(file: Path) -> dict[str, tuple[Stamp, SeriesHeader | None]]:
    try:
        content = json.loads(gzip.decompress(file.read_bytes()))
        if content["format"] != _FORMAT:
            return {}
        values = [_value(json.loads(text)) for text in content["values"]]
        rows = content["files"].items()
        return {path: ((row[0], row[1], row[2]), _header(Path(path), row[3:], values)) for path, row in rows}
    except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _value(stored: list[Any]) -> Any:
    if isinstance(stored[0], str):
        return stored[0], tuple(stored[1:])
    if len(stored) == 1:
        return stored[0], None
    tag, vr, value, implicit, little = stored
    return tag, Encoded(vr, None if value is None else base64.b64decode(value), implicit, little)


def _header(path: Path, numbers: list[int], values: list[Any]) -> SeriesHeader | None:
    if not numbers:
        return None
    syntax, encodings = values[numbers[0]]
    answers: Answers = dict(values[n] for n in numbers[1:])
    return _asked(SeriesHeader((), syntax, encodings), answers, lambda: _layer_of(path))
