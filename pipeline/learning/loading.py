"""Labelled volumes as the network sees them, prepared once and mapped from disk."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from models.preprocessing import AnyPreprocessing, Preprocessing
from pipeline.config import PreprocessingSettings
from pipeline.errors import CohortError
from pipeline.files import fingerprint, sha256_of_file, written_whole
from pipeline.learning.split import assign_parts
from pipeline.scan import Cohort, Scan, Split


@dataclass(frozen=True, eq=False)
class LabelledVolumes:
    """Preprocessed volumes with their labels.

    Parameters
    ----------
    scan_ids, subjects : tuple of str, length N
    volumes : ndarray or memmap
        Float32, shape (N, X, Y, Z): volumes as the network sees them, in [0, 1]. Or uint8, shape (N, C, H, W):
        images, normalised batch by batch.
    labels : ndarray of int64, shape (N,)
    class_names : tuple of str
    preprocessing : Preprocessing or ImagePreprocessing
        How volumes were made, how images are normalised; travels on into the classifier.
    content : str
        Fingerprint of voxels, labels and preprocessing; `digest` returns it.

    Raises
    ------
    CohortError
        If the lengths do not agree, ids repeat, or a shape is not the one preprocessing makes.
    """

    scan_ids: tuple[str, ...]
    subjects: tuple[str, ...]
    volumes: NDArray[np.float32] | NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    preprocessing: AnyPreprocessing
    content: str

    def __post_init__(self) -> None:
        lengths = {len(self.scan_ids), len(self.subjects), len(self.volumes), len(self.labels)}
        if len(lengths) != 1 or len(set(self.scan_ids)) != len(self.scan_ids):
            raise CohortError(
                f"Volumes, labels and distinct ids must agree in number, got "
                f"{len(set(self.scan_ids))} distinct ids, {len(self.subjects)} subjects, "
                f"{len(self.volumes)} volumes, {len(self.labels)} labels"
            )
        if self.volumes.shape[1:] != self.preprocessing.in_shape:
            raise CohortError(
                f"Volumes must have the shape {self.preprocessing.in_shape}, got {self.volumes.shape[1:]}"
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

    def digest(self) -> str:
        """Fingerprint of voxels, labels and preprocessing."""
        return self.content

    def subset(self, scan_ids: Sequence[str]) -> LabelledVolumes:
        """Return the named scans in the order named; the voxels are copied into memory."""
        row_of = {name: row for row, name in enumerate(self.scan_ids)}
        rows = np.array([row_of[name] for name in scan_ids], dtype=np.int64)
        return replace(
            self,
            scan_ids=tuple(scan_ids),
            subjects=tuple(self.subjects[r] for r in rows),
            volumes=np.asarray(self.volumes[rows]),
            labels=self.labels[rows],
            content=fingerprint(self.content, list(scan_ids)),
        )


def load_volumes(cohort: Cohort, settings: PreprocessingSettings, cache: Path) -> LabelledVolumes:
    """Prepare every scan of a cohort once, and map the result from disk afterwards.

    The cache is one ``.npy`` a cohort, named by the bytes of its scans and the preprocessing: a changed scan
    or setting makes another file, a cohort that is the same in both is only mapped.

    Parameters
    ----------
    cohort : Cohort
        SUVR volumes on the template grid, every one with a diagnosis.
    settings : PreprocessingSettings
    cache : Path
        Folder of the prepared volumes.

    Raises
    ------
    CohortError
        If the cohort is empty, a scan's file is missing, unreadable, or not SUVR on the template grid.
    """
    if not len(cohort):
        raise CohortError("A cohort to load must hold scans, got none", mend="run `taucal ingest` first")
    labels = cohort.labels
    preprocessing = Preprocessing(spacing_mm=settings.spacing_mm, suvr_max=settings.suvr_max)
    made_of = fingerprint([(s.scan_id, _bytes_of(s)) for s in cohort.scans], preprocessing.to_dict())
    path = cache / f"volumes-{made_of}.npy"
    if not path.is_file():
        with written_whole(path) as beside:
            shape = (len(cohort), *preprocessing.in_shape)
            stack = np.lib.format.open_memmap(beside, mode="w+", dtype=np.float32, shape=shape)
            for row, scan in enumerate(cohort.scans):
                stack[row] = _prepare(scan, preprocessing)
            stack.flush()
            del stack
    return LabelledVolumes(
        cohort.scan_ids,
        cohort.subjects,
        np.load(path, mmap_mode="r"),
        labels,
        cohort.class_names,
        preprocessing,
        content=fingerprint(made_of, labels.tolist(), cohort.class_names),
    )


def _bytes_of(scan: Scan) -> str:
    if not scan.path.is_file():
        raise CohortError(
            f"The volume of every scan must exist, got no file {scan.path.name}",
            culprit=scan.scan_id,
            mend="run `taucal ingest` again, or drop the row from the cohort table",
        )
    return sha256_of_file(scan.path)


def _prepare(scan: Scan, preprocessing: Preprocessing) -> NDArray[np.float32]:
    try:
        image: Any = nib.load(scan.path)
        return preprocessing(np.asarray(image.dataobj, dtype=np.float32))
    except (OSError, EOFError, ValueError, ImageFileError) as error:
        raise CohortError(
            f"A scan must be a readable SUVR volume on the template grid: {error}",
            culprit=scan.scan_id,
            mend="run `taucal ingest` again for this scan",
        ) from error


ADRENAL_CLASSES = ("normal", "hyperplasia")
_ADRENAL_CROP_MM = 64.0


def load_medmnist(
    path: Path,
    class_names: tuple[str, ...] = ADRENAL_CLASSES,
    *,
    validation: float = 0.12,
    seed: int = 0,
) -> tuple[LabelledVolumes, Split]:
    """Read AdrenalMNIST3D with its official split.

    The official test part is the test part. The official validation part is the calibration part: what
    calibrates must be independent of what chose the weights. Early stopping needs scans too, so a stratified
    share of the official training part is held out as validation. The official parts were cut by patient, but
    the file does not say which two glands belong to one: every gland counts as a subject, and this last cut
    alone may part the two glands of a patient.

    Parameters
    ----------
    path : Path
        ``adrenalmnist3d.npz``: ``{train,val,test}_images`` uint8 (N, 28, 28, 28), ``{...}_labels`` (N, 1).
    class_names : tuple of str
    validation : float
        Share of the official training part held out for early stopping.
    seed : int
        Decides which.

    Raises
    ------
    CohortError
        If the file is missing, is no such archive, or holds a label without a class name.

    References
    ----------
    Yang et al., MedMNIST v2, Scientific Data 10, 41 (2023).
    """
    arrays = _read_medmnist(path)
    images = np.concatenate([arrays[f"{part}_images"] for part in _OFFICIAL])
    labels = np.concatenate([arrays[f"{part}_labels"] for part in _OFFICIAL]).reshape(-1).astype(np.int64)
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise CohortError(
            f"Every label needs a class name, got labels {labels.min()} to {labels.max()} "
            f"and {len(class_names)} names",
            culprit=str(path.name),
            mend=f"set cohort.classes to {list(ADRENAL_CLASSES)}",
        )
    ids = tuple(f"{part}-{n:04d}" for part in _OFFICIAL for n in range(len(arrays[f"{part}_images"])))
    spacing = _ADRENAL_CROP_MM / images.shape[1]
    volumes = LabelledVolumes(
        ids,
        ids,
        images.astype(np.float32) / np.float32(255),
        labels,
        class_names,
        Preprocessing(spacing, suvr_max=1.0, grid_shape=images.shape[1:], grid_spacing_mm=spacing),
        content=fingerprint(sha256_of_file(path), class_names),
    )
    return volumes, _official_split(ids, labels, validation, seed)


_OFFICIAL = ("train", "val", "test")


def _read_medmnist(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise CohortError(
            "The cohort's file must exist, got no such file",
            culprit=str(path),
            mend="see data/README.md for where to get it, and set cohort.path",
        )
    wanted = [f"{part}_{what}" for part in _OFFICIAL for what in ("images", "labels")]
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in wanted}
    except (KeyError, OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise CohortError(
            f"A MedMNIST archive must hold {', '.join(wanted)}: {error}",
            culprit=str(path.name),
            mend="download it again, see data/README.md",
        ) from error
    if any(arrays[f"{part}_images"].ndim != 4 for part in _OFFICIAL):
        raise CohortError("MedMNIST volumes must be (N, X, Y, Z)", culprit=path.name, mend="use a 3D set")
    return arrays


def _official_split(ids: tuple[str, ...], labels: NDArray[np.int64], validation: float, seed: int) -> Split:
    official = {part: tuple(i for i in ids if i.startswith(part)) for part in _OFFICIAL}
    class_of = {i: str(k) for i, k in zip(ids, labels, strict=True) if i.startswith("train")}
    held_out = assign_parts(class_of, {"validation": validation}, seed=seed)
    return Split(
        train=tuple(i for i in official["train"] if held_out[i] == "train"),
        validation=tuple(i for i in official["train"] if held_out[i] == "validation"),
        calibration=official["val"],
        test=official["test"],
        subject_of={i: i for i in ids},
    )
