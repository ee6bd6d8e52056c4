"""Files of a published archive, from its unpacked folder or from the archive as it was downloaded."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pipeline.errors import CohortError

WHERE_FROM = "see data/README.md for where to get it"


def folder_below(path: Path, name: str) -> Path:
    """Return `path` if it is the folder called `name` or stands for it, else the folder `name` in it.

    Raises
    ------
    CohortError
        If there is nothing at `path`.
    """
    if not path.exists():
        raise CohortError(
            "The cohort must be where the study says, got no such file or folder",
            where=str(path),
            hint=f"{WHERE_FROM}, and set cohort.path",
        )
    inside = path / name
    return inside if inside.is_dir() else path


def read_members(path: Path, folder: str, names: Sequence[str]) -> dict[str, bytes]:
    """Return the bytes of the named files of a folder or of a tar archive.

    An archive is read in memory; nothing of it is written anywhere.

    Parameters
    ----------
    path : Path
        The folder, the one it stands in, or the archive.
    folder : str
        How the authors call the folder.
    names : sequence of str

    Raises
    ------
    CohortError
        If the archive cannot be read to its end or a file is missing.
    """
    place = folder_below(path, folder)
    if place.is_dir():
        found = {name: (place / name).read_bytes() for name in names if (place / name).is_file()}
        others = sorted(p.name for p in place.iterdir() if p.name not in names)
    else:
        found, others = _from_tar(place, names)
    lacking = [name for name in names if name not in found]
    if lacking:
        beside = f", got {', '.join([*sorted(found), *others][:6])}" if found or others else ""
        raise CohortError(
            f"{folder} must hold {', '.join(names)}; it lacks {', '.join(lacking)}{beside}",
            where=str(path),
            hint="get the binary version, not the one for Python or MATLAB, and unpack it whole; "
            + WHERE_FROM,
        )
    return found


def _from_tar(path: Path, names: Sequence[str]) -> tuple[dict[str, bytes], list[str]]:
    found: dict[str, bytes] = {}
    others = []
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is None:
                    continue
                if name in names and name not in found:
                    found[name] = stream.read()
                else:
                    others.append(name)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        told = str(error).partition("\n")[0].rstrip(":")  # tarfile lists every format it has tried
        raise CohortError(
            f"An archive must be readable to its end: {told}",
            where=str(path),
            hint="download it again, the copy is not whole or is something else",
        ) from error
    return found, sorted(others)
