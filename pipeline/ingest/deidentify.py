"""Pseudonyms and shifted dates under a secret key that never lies inside the dataset.

A plain hash of a patient number can be guessed by hashing all numbers; under HMAC-SHA-256 with 32 secret
bytes it cannot. The same key gives the same pseudonym, so that later scans of a person join the earlier ones.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

from pipeline.config import Study, load_study
from pipeline.errors import InputError

KEY_BYTES = 32
_BASE_SHIFT_DAYS = 40_177  # 110 years: BIDS marks dates as shifted by writing years before 1925
_SHIFT_SPAN_DAYS = 3_653


@dataclass(frozen=True)
class Pseudonymiser:
    """Names and dates that only the holder of the key can join to a person.

    Parameters
    ----------
    key : bytes
        At least 32 secret bytes; never shown.

    Raises
    ------
    InputError
        If the key is shorter.

    Examples
    --------
    >>> here = Pseudonymiser(bytes(32))
    >>> here.subject("011_S_4321") == here.subject("011_S_4321"), len(here.subject("011_S_4321"))
    (True, 12)
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) < KEY_BYTES:
            raise InputError(
                f"The key has {len(self.key)} bytes. Expected {KEY_BYTES}",
                hint="restore the key file; a new one gives everybody another pseudonym",
            )

    def _digest(self, purpose: str, text: str) -> bytes:
        # Bytes in a file name that are not UTF-8 are lone surrogates in its text.
        message = f"{purpose}\0{text}".encode("utf-8", "surrogatepass")
        return hmac.new(self.key, message, hashlib.sha256).digest()

    def code(self, purpose: str, text: str, length: int = 12) -> str:
        """Return capital letters and digits that stand for a text, 5 bits a character.

        Different purposes give unrelated codes for one text.
        """
        return base64.b32encode(self._digest(purpose, text)).decode()[:length]

    def subject(self, label: str) -> str:
        """Return the pseudonym of a subject: 12 characters; in 10^5 people two clash with chance 4e-9."""
        return self.code("subject", label.strip())

    def shift_days(self, label: str) -> int:
        """Return how many days a subject's dates go back: 110 to 120 years, fixed by the key."""
        drawn = int.from_bytes(self._digest("dates", label.strip())[:8], "big")
        return _BASE_SHIFT_DAYS + drawn % _SHIFT_SPAN_DAYS

    def shift_date(self, label: str, day: date) -> date:
        """Return a date that keeps every interval within the subject and gives no true date away.

        Parameters
        ----------
        label : str
            The subject.
        day : date
            Of the year 122 or later; nobody was scanned before, and a shifted date must have a year.

        Examples
        --------
        >>> here = Pseudonymiser(bytes(32))
        >>> (here.shift_date("a", date(2016, 3, 1)) - here.shift_date("a", date(2015, 3, 1))).days
        366
        """
        return day - timedelta(days=self.shift_days(label))

    def uid(self, text: str) -> str:
        """Return a DICOM UID that replaces another one, under the 2.25 root.

        Examples
        --------
        >>> Pseudonymiser(bytes(32)).uid("1.2.3").startswith("2.25.")
        True
        """
        return f"2.25.{int.from_bytes(self._digest('uid', text)[:16], 'big')}"


def key_beside(folder: Path) -> Path:
    """Return where the key of a dataset, or of a folder of reports, is when no other place was named."""
    place = folder if folder.name not in ("", "..") else folder.resolve()  # `.` has no name to add to
    return place.with_name(place.name + ".key")


def key_of_study(place: Path) -> Path | None:
    """Return the key of a study's dataset; None where there is none yet.

    Parameters
    ----------
    place : Path
        The study's YAML file or its output folder.
    """
    study = _study_at(place)
    if study is None:
        return None
    key = study.ingest.key_file or key_beside(study.cohort.path)
    return key if key.is_file() else None


def pseudonym_of(bids: Path, key_file: Path | None) -> Callable[[str], str]:
    """Return the function from a subject ID of the source to ``sub-<pseudonym>``; no change without a key.

    Parameters
    ----------
    key_file : Path or None
        The key beside the dataset where not given.
    """
    key = key_file or key_beside(bids)
    if not key.is_file():
        return lambda label: label
    names = Pseudonymiser(load_or_make_key(key, bids))
    return lambda label: f"sub-{names.subject(label)}"


def dataset_of_study(place: Path) -> Path | None:
    """Return the dataset of a study, named as in `key_of_study`; None where there is no such study."""
    study = _study_at(place)
    return None if study is None else study.cohort.path


def _study_at(place: Path) -> Study | None:
    path = place if place.is_file() else place / "study.yaml"
    return load_study(path) if path.is_file() else None


def load_or_make_key(path: Path, dataset: Path) -> bytes:
    """Return the secret key of a dataset; made on first use, mode 600.

    Parameters
    ----------
    path : Path
        The key file.
    dataset : Path
        The dataset, or the folder of reports; the key must not lie inside, or it would travel with what it
        protects.

    Raises
    ------
    InputError
        If the path lies inside the dataset, others may read the file, or it is no key.

    Examples
    --------
    >>> load_or_make_key(Path("bids/key"), Path("bids"))
    Traceback (most recent call last):
    pipeline.errors.InputError: bids/key: The key file is inside the folder bids. Choose another --key-file.
    """
    if path.resolve().is_relative_to(dataset.resolve()):
        raise InputError(
            f"The key file is inside the folder {dataset}",
            where=str(path),
            hint="choose another --key-file",
        )
    try:
        if not path.exists():
            _make_key(path)
        mode = path.stat().st_mode & 0o777
        text = path.read_text(encoding="ascii").strip()
        key = bytes.fromhex(text)
    except OSError as error:
        raise InputError(
            f"The key file cannot be read or written ({error.strerror})",
            where=str(path),
            hint="correct its permissions, or choose another --key-file",
        ) from error
    except ValueError as error:
        raise InputError(
            "This is not a key file: it holds something else than hexadecimal digits",
            where=str(path),
            hint="name the key file that an ingest wrote",
        ) from error
    if mode & 0o077:
        raise InputError(
            f"The key file has mode {mode:o}. Expected 600, so that only its owner can read it",
            where=str(path),
            hint=f"run `chmod 600 {path}`",
        )
    return Pseudonymiser(key).key


def make_known_key(path: Path, seed: int) -> None:
    """Write the key of a synthetic dataset, unless there is one.

    Anyone can compute it, and it protects nobody: there is nobody to protect. With it, two runs of one seed
    give the same pseudonyms and so the same split.

    Parameters
    ----------
    path : Path
        The key file.
    seed : int
        Of the synthetic cohort.
    """
    if not path.exists():
        _make_key(path, hashlib.sha256(f"synthetic {seed}".encode()).hexdigest()[: 2 * KEY_BYTES])


def _make_key(path: Path, key: str | None = None) -> None:
    """Write a key whole, a new one where none is given; where another process was faster, its key is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write((key or secrets.token_hex(KEY_BYTES)) + "\n")
        if not path.exists():
            # A link fails where the name is taken, which a rename would not.
            try:
                os.link(beside, path)
            except FileExistsError:
                return
    finally:
        beside.unlink(missing_ok=True)
