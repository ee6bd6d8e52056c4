"""Scans in archives: how they are packed, and read whole."""

from __future__ import annotations

import tarfile
import zipfile

from pipeline.ingest.archives import opened
from pipeline.ingest.convert import read_found
from pipeline.ingest.sources import find_scans


def pack_zip(folder, archive):
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, path.relative_to(folder.parent))


def pack_tar(folder, archive):
    mode = {".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}[archive.suffix]
    with tarfile.open(archive, mode) as packed:
        packed.add(folder, folder.name)


PACKERS = {"zip": pack_zip, **dict.fromkeys(("tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"), pack_tar)}


def read_all(source):
    """Return the arrays of all scans of a source, with what was left alone."""
    with opened(source) as view:
        found = find_scans(source, view=view)
        return [read_found(scan).array for scan in found.scans], found
