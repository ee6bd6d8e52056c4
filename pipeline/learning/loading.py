"""Labelled volumes and images for training, prepared once and mapped from disk."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from models.arrays import Ints
from models.preprocessing import AnyPreprocessing, ImagePreprocessing, Preprocessing
from pipeline.config import PreprocessingSettings
from pipeline.errors import CohortError
from pipeline.files import exclusive, fingerprint, known_sha256, read_json, write_json
from pipeline.learning.row_files import (
    Lock,
    MappedRows,
    abandoned,
    remove_abandoned,
    tidy,
    whole_rows,
    write_rows,
)
from pipeline.scan import Cohort, Scan

Progress = Callable[[int, int], None]
LARGEST_COPY = 2**30
"""Bytes of volumes that a subset copies into memory; more are read batch by batch from the mapped file."""


@dataclass(frozen=True, eq=False)
class LabelledVolumes:
    """Preprocessed volumes, or images as bytes, with their labels.

    Parameters
    ----------
    scan_ids, subjects : tuple of str, length N
    volumes : ndarray, memmap or MappedRows of float32, shape (N, X, Y, Z), or of uint8, shape (N, C, H, W)
        Preprocessed volumes, in [0, 1]; images as bytes, normalised batch by batch.
    labels : ndarray of int64, shape (N,)
    preprocessing : Preprocessing or ImagePreprocessing
        How volumes were made and how images are normalised; stored with the classifier.
    content : str
        Fingerprint of voxels, labels and preprocessing; `digest` returns it.

    Raises
    ------
    CohortError
        If lengths differ, ids repeat, or type and shape do not fit the preprocessing.
    """

    scan_ids: tuple[str, ...]
    subjects: tuple[str, ...]
    volumes: NDArray[np.float32] | NDArray[np.uint8] | MappedRows
    labels: Ints
    class_names: tuple[str, ...]
    preprocessing: AnyPreprocessing
    content: str

    def __post_init__(self) -> None:
        lengths = {len(self.scan_ids), len(self.subjects), len(self.volumes), len(self.labels)}
        if len(lengths) != 1 or len(set(self.scan_ids)) != len(self.scan_ids):
            raise CohortError(
                f"There are {len(set(self.scan_ids))} different ids, {len(self.subjects)} subjects, "
                f"{len(self.volumes)} volumes and {len(self.labels)} labels. Expected one of each per scan"
            )
        dtype = np.uint8 if isinstance(self.preprocessing, ImagePreprocessing) else np.float32
        if self.volumes.shape[1:] != self.preprocessing.in_shape or self.volumes.dtype != dtype:
            raise CohortError(
                f"Volumes are {self.volumes.dtype} of shape {self.volumes.shape[1:]}. "
                f"Expected {np.dtype(dtype)} of shape {self.preprocessing.in_shape}"
            )

    def __len__(self) -> int:
        return len(self.scan_ids)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one volume."""
        return self.preprocessing.in_shape

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Scans of each class."""
        return tuple(np.bincount(self.labels, minlength=len(self.class_names)).tolist())

    def __getstate__(self) -> dict[str, Any]:
        """Leave out voxels that are mapped from a file: another process of this machine maps them again."""
        state = dict(self.__dict__)
        if isinstance(self.volumes, np.memmap):
            state["volumes"] = Path(str(self.volumes.filename))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the voxels."""
        if isinstance(state["volumes"], Path):
            state["volumes"] = np.load(state["volumes"], mmap_mode="r")
        self.__dict__.update(state)

    def digest(self) -> str:
        """Fingerprint of voxels, labels and preprocessing."""
        return self.content

    def subset(self, scan_ids: Sequence[str]) -> LabelledVolumes:
        """Return the given scans in the given order.

        Voxels are copied into memory up to `LARGEST_COPY` bytes. Beyond, those of scans stay in the file they
        are mapped from, so that memory does not grow with the cohort.
        """
        row_of = {name: row for row, name in enumerate(self.scan_ids)}
        rows = np.array([row_of[name] for name in scan_ids], dtype=np.int64)
        known: Any = self.volumes
        large = len(rows) * int(np.prod(self.in_shape)) * known.dtype.itemsize > LARGEST_COPY
        if large and isinstance(known, np.memmap) and known.dtype == np.float32:
            known = MappedRows(known, np.arange(len(known)))
        chosen = known.subset(rows) if large and isinstance(known, MappedRows) else np.asarray(known[rows])
        return replace(
            self,
            scan_ids=tuple(scan_ids),
            subjects=tuple(self.subjects[r] for r in rows),
            volumes=chosen,
            labels=self.labels[rows],
            content=fingerprint(self.content, list(scan_ids)),
        )


def load_volumes(
    cohort: Cohort,
    settings: PreprocessingSettings,
    cache: Path,
    progress: Progress | None = None,
    lock: Lock = exclusive,
) -> LabelledVolumes:
    """Preprocess every scan of a cohort once, and map the result from disk afterwards.

    The cache is one ``.npy`` per cohort, named by the bytes of its scans and the preprocessing: a changed
    scan or setting makes another file. Only scans are preprocessed that no file of the cache has, finished or
    left by a killed process.

    Parameters
    ----------
    cohort : Cohort
        SUVR volumes on the template grid, every one with a diagnosis.
    cache : Path
        Folder of the preprocessed volumes.
    progress : callable, optional
        Called as ``progress(done, total)`` in scans, if one has to be preprocessed.
    lock : callable
        Waits for another process that writes to the cache.

    Raises
    ------
    CohortError
        If the cohort is empty, a scan's file is missing, unreadable, or not SUVR on the template grid.
    OutputError
        If the cache cannot be written to, or the disk is full.
    """
    if not len(cohort):
        raise CohortError("The cohort has no scans", hint="Run `taucal ingest` first")
    labels = cohort.labels
    preprocessing = Preprocessing(spacing_mm=settings.spacing_mm, suvr_max=settings.suvr_max)
    contents = [_bytes_of(s) for s in cohort.scans]
    made_of = fingerprint(list(zip(cohort.scan_ids, contents, strict=True)), preprocessing.to_dict())
    path = cache / f"volumes-{made_of}.npy"
    rows = functools.partial(_rows, path, cohort, contents, preprocessing, progress)
    write_rows(path, (len(cohort), *preprocessing.in_shape), np.float32, rows, lock)
    tidy(cache, path)
    return LabelledVolumes(
        cohort.scan_ids,
        cohort.subjects,
        np.load(path, mmap_mode="r"),
        labels,
        cohort.class_names,
        preprocessing,
        content=fingerprint(made_of, labels.tolist(), cohort.class_names),
    )


def _rows(
    path: Path,
    cohort: Cohort,
    contents: Sequence[str],
    preprocessing: Preprocessing,
    progress: Progress | None,
    missing: list[int],
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the missing rows: first those that another file has, then those that must be prepared."""
    made_by = fingerprint(preprocessing.to_dict())
    # Before any row: without it, those of a killed process could not be used for another cohort.
    write_json(_index_of(path), {"preprocessing": made_by, "contents": contents})
    known = _abandoned_before(path, made_by, preprocessing) | _prepared_before(path.parent, made_by)
    copied = [n for n in missing if contents[n] in known]
    yield from ((n, known[contents[n]]) for n in copied)
    known.clear()
    remove_abandoned(path.parent, path)  # now, so that no row is on disk twice for long
    to_prepare = sorted({*missing} - {*copied})
    done = len(cohort) - len(to_prepare)
    for number in to_prepare:
        if progress is not None:
            progress(done, len(cohort))
        scan = cohort.scans[number]
        row = _prepare(scan, preprocessing)
        if _bytes_of(scan) != contents[number]:  # else it would be taken for what was there before
            raise CohortError(
                "The SUVR volume was changed while it was read",
                where=scan.scan_id,
                hint="run the same command again when nothing ingests into this dataset",
            )
        yield number, row
        done += 1
    if progress is not None and to_prepare:
        progress(done, len(cohort))


def _index_of(path: Path) -> Path:
    """Return the file that lists the scan, by its bytes, of each row of preprocessed volumes."""
    return path.with_suffix(".json")


def _prepared_before(cache: Path, made_by: str) -> dict[str, NDArray[np.float32]]:
    """Return the volumes of other cohorts in a cache, mapped, by the bytes of their scans."""
    known: dict[str, NDArray[np.float32]] = {}
    for path in sorted(cache.glob("volumes-*.npy")):
        contents = _contents_of(path, made_by)
        if contents:
            known |= zip(contents, np.load(path, mmap_mode="r"), strict=True)
    return known


def _abandoned_before(path: Path, made_by: str, how: Preprocessing) -> dict[str, NDArray[np.float32]]:
    """Return the volumes that killed processes prepared for other cohorts than that of `path`."""
    known: dict[str, NDArray[np.float32]] = {}
    for other in abandoned(path.parent, path):
        contents = _contents_of(other, made_by)
        if contents:
            rows = whole_rows(other, (len(contents), *how.in_shape), np.float32)
            known |= {contents[n]: row for n, row in rows.items()}
    return known


def _contents_of(path: Path, made_by: str) -> list[str]:
    """Return the scans, by their bytes, of preprocessed volumes; none of another preprocessing."""
    index = _index_of(path)
    listed = read_json(index) if index.is_file() else {}
    return list(listed["contents"]) if listed.get("preprocessing") == made_by else []


def prepare_scans(cohort: Cohort, preprocessing: Preprocessing, cache: Path) -> NDArray[np.float32]:
    """Return the preprocessed volumes of a few scans, shape (N, X, Y, Z); diagnoses are not needed.

    Volumes that `load_volumes` has stored in the same cache are reused; none are added.

    Raises
    ------
    CohortError
        If there is no scan, or a scan's file is unreadable or not SUVR on the template grid.
    """
    if not len(cohort):
        raise CohortError("The cohort has no scans", hint="Run `taucal ingest` first")
    known = _prepared_before(cache, fingerprint(preprocessing.to_dict()))
    contents = ((scan, _bytes_of(scan)) for scan in cohort.scans)
    return np.stack([known[c] if c in known else _prepare(scan, preprocessing) for scan, c in contents])


def _bytes_of(scan: Scan) -> str:
    if not scan.path.is_file():
        raise CohortError(
            f"The volume {scan.path.name} is missing",
            where=scan.scan_id,
            hint="Run `taucal ingest` again, or remove the row from the cohort table",
        )
    return known_sha256(scan.path)


def _prepare(scan: Scan, preprocessing: Preprocessing) -> NDArray[np.float32]:
    try:
        image: Any = nib.load(scan.path)
        return preprocessing(np.asarray(image.dataobj, dtype=np.float32))
    except (OSError, EOFError, ValueError, ImageFileError) as error:
        raise CohortError(
            f"The SUVR volume cannot be used ({str(error).rstrip('.')})",
            where=scan.scan_id,
            hint="Run `taucal ingest` again for this scan",
        ) from error
