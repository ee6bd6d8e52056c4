"""Scan, Cohort, Split, and with them Volume and Frame: valid once constructed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import CohortError, LeakageError
from pipeline.files import fingerprint, written_whole
from pipeline.volume import Fact, FloatArray, Frame, Unit, Volume

__all__ = [
    "PARTS", "STATED", "Cohort", "Fact", "FloatArray", "Frame", "Scan", "Split", "Unit", "Volume",
    "scanner_of", "subject_of_scan_id",
]  # fmt: skip


@dataclass(frozen=True)
class Scan:
    """One scan ready to be learned from or reported on.

    Parameters
    ----------
    subject, session : str
        Pseudonyms without the BIDS prefixes ``sub-`` and ``ses-``.
    path : Path
        SUVR in template space, NIfTI.
    tracer : str
        Canonical tracer name, ``"AV1451"``.
    diagnosis : str or None
        One of the cohort's class names; None where unknown.
    facts : mapping
        Age, sex, site, scanner, quality verdict: what slices of a cohort are made by.
    posterior : tuple of float or None
        The true class probabilities, known for phantoms only.
    """

    subject: str
    session: str
    path: Path
    tracer: str = "AV1451"
    diagnosis: str | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)
    posterior: tuple[float, ...] | None = None

    @property
    def scan_id(self) -> str:
        """``sub-<subject>_ses-<session>``, unique within a cohort."""
        return f"sub-{self.subject}_ses-{self.session}"


def subject_of_scan_id(scan_id: str) -> str:
    """Return the subject a scan id names.

    Examples
    --------
    >>> subject_of_scan_id("sub-07_ses-2021")
    '07'
    """
    return scan_id.removeprefix("sub-").rpartition("_ses-")[0]


def scanner_of(facts: Mapping[str, object]) -> str:
    """Return manufacturer and model, which name a scanner."""
    return f"{facts.get('manufacturer')} {facts.get('model')}"


def says_synthetic(facts: Mapping[str, object]) -> bool:
    """Return whether the facts of a scan say that it is a computed phantom."""
    flag = any(k.lower() == "synthetic" and str(v).lower() in ("true", "1", "yes") for k, v in facts.items())
    return flag or any(isinstance(v, str) and "SYNTHETIC" in v for v in facts.values())


_FIXED_COLUMNS = ("scan_id", "subject", "session", "tracer", "diagnosis", "path")
_POSTERIOR_PREFIX = "posterior_"
STATED = "stated_diagnosis"
"""Fact and column: the diagnosis in the words of the source, where it has words."""


@dataclass(frozen=True)
class Cohort:
    """Scans and the ordered class names their diagnoses come from.

    Raises
    ------
    CohortError
        If two scans share an id or a diagnosis is not among the class names.
    """

    scans: tuple[Scan, ...]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        twice = [name for name, n in Counter(s.scan_id for s in self.scans).items() if n > 1]
        if twice:
            raise CohortError(
                "Two scans have the same id", where=", ".join(twice[:5]), hint="rename one of the sessions"
            )
        unlisted = {s.diagnosis for s in self.scans} - set(self.class_names) - {None}
        if unlisted:
            raise CohortError(
                f"Scans have the diagnosis {', '.join(sorted(map(str, unlisted)))}, but the classes are "
                f"{', '.join(self.class_names)}",
                hint="add the diagnosis to cohort.classes, or leave these scans out",
            )

    def __len__(self) -> int:
        return len(self.scans)

    @property
    def scan_ids(self) -> tuple[str, ...]:
        """Ids in order."""
        return tuple(s.scan_id for s in self.scans)

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subject of each scan, in order of the scans."""
        return tuple(s.subject for s in self.scans)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class index of each scan.

        Raises
        ------
        CohortError
            If a scan has no diagnosis.
        """
        missing = [s.scan_id for s in self.scans if s.diagnosis is None]
        if missing:
            raise CohortError(
                f"Training needs a diagnosis of every scan; {len(missing)} of {len(self.scans)} have none",
                where=", ".join(missing[:5]),
                hint="add the visit to the diagnosis table or drop the scans with Cohort.labelled()",
            )
        index = {name: k for k, name in enumerate(self.class_names)}
        return np.array([index[s.diagnosis] for s in self.scans if s.diagnosis is not None], dtype=np.int64)

    @property
    def posterior(self) -> NDArray[np.float64] | None:
        """True probabilities, shape (scans, classes), where every scan has them."""
        rows = [s.posterior for s in self.scans]
        if not rows or any(row is None for row in rows):
            return None
        return np.array(rows, dtype=np.float64)

    def labelled(self) -> Cohort:
        """Return the scans that have a diagnosis."""
        return replace(self, scans=tuple(s for s in self.scans if s.diagnosis is not None))

    def subset(self, scan_ids: list[str] | tuple[str, ...]) -> Cohort:
        """Return the named scans, in the order named."""
        by_id = {s.scan_id: s for s in self.scans}
        return replace(self, scans=tuple(by_id[i] for i in scan_ids))

    def write_tsv(self, path: Path) -> Path:
        """Write one row a scan; paths become relative to the file where they can."""
        rows = []
        for scan in self.scans:
            place = scan.path
            if place.is_absolute() and place.is_relative_to(path.parent.resolve()):
                place = place.relative_to(path.parent.resolve())
            row: dict[str, Fact] = {
                "scan_id": scan.scan_id,
                "subject": scan.subject,
                "session": scan.session,
                "tracer": scan.tracer,
                "diagnosis": scan.diagnosis,
                "path": place.as_posix(),
                **scan.facts,
            }
            for name, p in zip(self.class_names, scan.posterior or (), strict=False):
                row[_POSTERIOR_PREFIX + name] = p
            rows.append(row)
        table = pd.DataFrame(rows, columns=None if rows else list(_FIXED_COLUMNS))
        with written_whole(path) as beside:
            table.to_csv(beside, sep="\t", index=False, na_rep="n/a")
        return path

    @classmethod
    def read_tsv(cls, path: Path, class_names: tuple[str, ...] | None = None) -> Cohort:
        """Read what `write_tsv` wrote; without class names, those that the table has.

        Raises
        ------
        CohortError
            If the file is missing or lacks a column.
        """
        if not path.is_file():
            raise CohortError(
                "There is no cohort table",
                where=str(path),
                hint="run `taucal ingest` first, or correct cohort.path",
            )
        texts = dict.fromkeys(("subject", "session", "diagnosis", STATED), str)
        table = pd.read_csv(path, sep="\t", na_values=["n/a"], keep_default_na=False, dtype=texts)
        lacking = [c for c in _FIXED_COLUMNS if c not in table.columns]
        if lacking:
            raise CohortError(
                f"The cohort table lacks the columns {', '.join(lacking)}",
                where=str(path),
            )
        if class_names is None:
            true = [
                c.removeprefix(_POSTERIOR_PREFIX) for c in table.columns if c.startswith(_POSTERIOR_PREFIX)
            ]
            class_names = tuple(dict.fromkeys([*true, *sorted(table["diagnosis"].dropna().unique())]))
        return cls(
            tuple(_scan_of_row(row, path.parent, class_names) for row in table.to_dict("records")),
            class_names,
        )

    def digest(self) -> str:
        """Fingerprint of ids, diagnoses and posteriors."""
        return fingerprint([(s.scan_id, s.diagnosis, s.posterior) for s in self.scans], self.class_names)


def _scan_of_row(row: dict[str, Fact], folder: Path, class_names: tuple[str, ...]) -> Scan:
    known = {str(k): v for k, v in row.items() if not (isinstance(v, float) and np.isnan(v))}
    posterior = tuple(float(known.get(_POSTERIOR_PREFIX + n) or 0.0) for n in class_names)
    has_posterior = any(_POSTERIOR_PREFIX + n in known for n in class_names)
    facts = {
        k: v for k, v in known.items() if k not in _FIXED_COLUMNS and not k.startswith(_POSTERIOR_PREFIX)
    }
    diagnosis = known.get("diagnosis")
    return Scan(
        subject=str(known["subject"]),
        session=str(known["session"]),
        path=folder / str(known["path"]),
        tracer=str(known["tracer"]),
        diagnosis=None if diagnosis is None else str(diagnosis),
        facts=facts,
        posterior=posterior if has_posterior else None,
    )


PARTS = ("train", "validation", "calibration", "test")


@dataclass(frozen=True)
class Split:
    """Scan ids of the four parts; no subject is in two of them.

    Parameters
    ----------
    train, validation, calibration, test : tuple of str
        Scan ids.
    subject_of : mapping of str to str
        The subject of every scan id.

    Raises
    ------
    LeakageError
        If a subject is in two parts.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    calibration: tuple[str, ...]
    test: tuple[str, ...]
    subject_of: Mapping[str, str] = field(repr=False)

    def __post_init__(self) -> None:
        subjects = {part: {self.subject_of[i] for i in getattr(self, part)} for part in PARTS}
        for n, first in enumerate(PARTS):
            for second in PARTS[n + 1 :]:
                shared = subjects[first] & subjects[second]
                if shared:
                    raise LeakageError(sorted(shared), first, second)

    @property
    def cross_fitted(self) -> bool:
        """Whether all scans outside the test part are in ``train``, to be divided into folds."""
        return bool(self.train) and not self.validation and not self.calibration

    def part(self, name: str) -> tuple[str, ...]:
        """Scan ids of one of `PARTS`."""
        return tuple(getattr(self, name))

    def to_dict(self) -> dict[str, list[str]]:
        """Return part name -> scan ids, and nothing else."""
        return {part: list(self.part(part)) for part in PARTS}

    @classmethod
    def from_dict(cls, value: Mapping[str, list[str]]) -> Split:
        """Read what `to_dict` gave; a scan id contains its subject."""
        subject_of = {i: subject_of_scan_id(i) for part in PARTS for i in value[part]}
        return cls(**{part: tuple(value[part]) for part in PARTS}, subject_of=subject_of)

    def digest(self) -> str:
        """Fingerprint of who is where."""
        return fingerprint({part: sorted(self.part(part)) for part in PARTS})
