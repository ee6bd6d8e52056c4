"""Send DICOM files to a PACS by C-STORE."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE

from pipeline.errors import ConfigError, TaucalError

CALLING_TITLE = "TAUCAL"
TIMEOUT_S = 30.0
_DESTINATION = re.compile(r"(?P<title>[^@\\\s]{1,16})@(?P<host>[^@\s]+):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class Destination:
    """A DICOM node: its application entity title and address."""

    title: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.title}@{self.host}:{self.port}"


def parse_destination(text: str) -> Destination:
    """Return the node that ``AET@HOST:PORT`` names.

    Raises
    ------
    ConfigError
        If the text is no such address.

    Examples
    --------
    >>> parse_destination("ORTHANC@localhost:4242").port
    4242
    >>> parse_destination("localhost:4242")
    Traceback (most recent call last):
    pipeline.errors.ConfigError: --send: 'localhost:4242' is no DICOM node. Write it as AET@HOST:PORT.
    """
    found = _DESTINATION.fullmatch(text.strip())
    if found is None or not 0 < int(found["port"]) < 65536:
        raise ConfigError(f"{text!r} is no DICOM node", where="--send", hint="write it as AET@HOST:PORT")
    return Destination(found["title"], found["host"].strip("[]"), int(found["port"]))


def send(files: Sequence[Path], destination: Destination) -> None:
    """Store files on a node, all over one association; each is known there when this returns.

    Raises
    ------
    TaucalError
        If the node can't be reached, accepts no such objects, or doesn't store one.
    """
    datasets = [pydicom.dcmread(path) for path in files]
    entity = AE(ae_title=CALLING_TITLE)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = TIMEOUT_S
    entity.connection_timeout = TIMEOUT_S
    for sop_class in sorted({str(dataset.SOPClassUID) for dataset in datasets}):
        entity.add_requested_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    association = entity.associate(destination.host, destination.port, ae_title=destination.title)
    if not association.is_established:
        raise _failed(
            destination,
            f"it accepts no association from {CALLING_TITLE}",
            f"check title, host and port, and that the node lists {CALLING_TITLE} as a sender",
        )
    try:
        for dataset in datasets:
            _store(association, dataset, destination)
    finally:
        if association.is_established:
            association.release()


def _store(association: Any, dataset: pydicom.Dataset, destination: Destination) -> None:
    kind = dataset.SOPClassUID.name
    try:
        status = association.send_c_store(dataset)
    except ValueError as error:  # no presentation context was accepted for it
        raise _failed(
            destination, f"it does not accept {kind}", "allow this SOP class on the node"
        ) from error
    code = status.get("Status")
    if code is None:
        raise _failed(
            destination,
            f"no answer to {kind} within {TIMEOUT_S:.0f} s",
            "read the node's log, then send again",
        )
    if code != 0 and code >> 12 != 0xB:  # 0xBxxx: stored, with a remark
        raise _failed(destination, f"status 0x{code:04X} for {kind}", "read the node's log")


def _failed(destination: Destination, seen: str, hint: str) -> TaucalError:
    return TaucalError(f"The node did not store the report: {seen}", where=str(destination), hint=hint)
