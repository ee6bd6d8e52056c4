"""What is an archive, by its first bytes and its name."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from pipeline.ingest.instances import starts_as_dicom

GZIP = b"\x1f\x8b"
TAR = re.compile(r"\.(tar(\.(gz|bz2|xz))?|tgz|tbz2?|txz)$", re.IGNORECASE)
SINGLE = re.compile(r"\.(dcm|dicom|dic|ima|img|hdr|v|ecat|mnc)$|^[^.]+$|\.\d+$", re.IGNORECASE)
"""Single files that are packed by gzip and mean something here; NIfTI is read packed."""


def kind_of_archive(path: Path) -> str | None:
    """Return ``"zip"``, ``"tar"``, ``"gz"`` for one packed file, or None for what is read as it is."""
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except OSError:
        return None
    name = path.name.lower()
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return None if name.endswith((".xlsx", ".docx", ".ods", ".pptx", ".npz", ".jar", ".whl")) else "zip"
    if TAR.search(name) or head[257:262] == b"ustar":
        return "tar" if any(head) else None
    if head.startswith(GZIP) and name.endswith(".gz") and SINGLE.search(name.removesuffix(".gz")):
        return "gz"
    if name.endswith(".zip"):
        return "zip"
    return "gz" if head.startswith(GZIP) and _holds_dicom(path) else None


def _holds_dicom(path: Path) -> bool:
    if path.name.lower().endswith((".nii.gz", ".nii")):
        return False
    try:
        with gzip.open(path) as stream:
            return starts_as_dicom(stream.read(132))
    except (OSError, EOFError, ValueError):
        return False


def may_be_packed(name: str) -> bool:
    """Return whether a name is worth a look: a source has many files, and few are archives."""
    low = name.lower()
    return (low.endswith((".zip", ".gz")) and not low.endswith(".nii.gz")) or bool(TAR.search(low))
