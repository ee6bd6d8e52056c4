"""The map from pseudonyms to their sources: private files beside the key, never in the dataset."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.files import exclusive, not_writable, now
from pipeline.ingest.deidentify import Pseudonymiser
from pipeline.ingest.found import FoundScan
from pipeline.ingest.people import Person

_TEXTS = ("subject", "date", "series")
_OF_PERSON = {"name", "birth", "sex", "issuer"}
_NEW_MAP = "move it to another folder, then ingest the sources again with the same key"


def map_beside(key_file: Path) -> Path:
    """Return the path of a key's map from pseudonyms to sources; mode 600."""
    return key_file.with_name(key_file.name + ".map.json")


def log_beside(key_file: Path) -> Path:
    """Return the path of a key's private log of failed scans; mode 600."""
    return key_file.with_name(key_file.name + ".log")


def place_of(scan: FoundScan) -> str:
    """Return where a scan was found: its file, or the folder of its files."""
    files = scan.files
    if scan.origin:
        return scan.origin
    return str((files[0] if len(files) == 1 else files[0].parent).absolute()) if files else ""


def remember_sources(key_file: Path, scans: Iterable[FoundScan], names: Pseudonymiser) -> None:
    """Add to the map of a key where each scan came from.

    Parameters
    ----------
    key_file : Path
        The map is written beside it.
    scans : iterable of FoundScan
        With the sessions they have in the dataset. One that has its label already is in the map.
    names : Pseudonymiser
    """
    path = map_beside(key_file)
    with exclusive(path.with_name(f".{path.name}.lock"), "map of the pseudonyms"):
        known = read_map(path) if path.exists() else {}
        before = json.dumps(known, sort_keys=True)
        for scan in (one for one in scans if not one.own_label):
            label, place = scan.label(names), place_of(scan)
            paths = [p for p in known.get(label, {}).get("paths", []) if p != place]
            people = known.get(label, {}).get("people", [])
            stated = _stated(scan, names)
            known[label] = {
                "subject": scan.subject_label,
                "date": str(scan.scan_date or ""),
                "session": scan.session_label,
                "series": scan.series_uid or scan.image_id,
                "paths": [*paths, place],
                "people": [*people, *(one for one in stated if one not in people)],
            }
        if json.dumps(known, sort_keys=True) != before or not path.exists():
            _write_private(path, json.dumps(known, indent=1, sort_keys=True) + "\n")


def _stated(scan: FoundScan, names: Pseudonymiser) -> list[dict[str, Any]]:
    """Return whom the header states, in codes; nothing where that may be another person."""
    if scan.person is None or scan.doubt is not None:
        return []
    person = coded(scan.person, names)
    return [{"name": sorted(person.name), "birth": person.birth, "sex": person.sex, "issuer": person.issuer}]


def coded(person: Person, names: Pseudonymiser) -> Person:
    """Return a person in codes: what can be compared, and neither read nor guessed without the key."""

    def code(what: str, text: str) -> str:
        return names.code(what, text) if text else ""

    return Person(
        "",
        frozenset(code("name", word) for word in person.name),
        code("birth", person.birth),
        person.sex,
        code("issuer", person.issuer),
    )


def known_subjects(key_file: Path) -> dict[str, set[Person]]:
    """Return the labels of all subjects in the map of a key, and whom their headers stated, in codes.

    Nothing where there is no map yet; maps of earlier versions do not know the headers.
    """
    path = map_beside(key_file)
    found: dict[str, set[Person]] = {}
    for entry in read_map(path).values() if path.exists() else ():
        people = found.setdefault(entry["subject"], set())
        people |= {
            Person("", frozenset(one["name"]), one["birth"], one["sex"], one["issuer"])
            for one in entry.get("people", ())
        }
    return found


def known_labels(key_file: Path) -> set[str]:
    """Return the label of every scan in the map of a key; none where there is no map yet."""
    path = map_beside(key_file)
    return set(read_map(path)) if path.exists() else set()


def read_map(path: Path) -> dict[str, dict[str, Any]]:
    """Read a map of pseudonyms.

    Returns
    -------
    dict
        By scan id: ``subject``, ``date``, ``session``, ``series``, ``paths``, the newest last, and in codes
        the ``people`` that headers stated.

    Raises
    ------
    InputError
        If there is no such map, or it cannot be read, or an entry of it is not as an ingest writes it.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            "There is no map of the pseudonyms",
            where=str(path),
            hint="an ingest writes it beside the key: ingest the source again with the same key",
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"The map of the pseudonyms cannot be read: {error}",
            where=str(path),
            hint=_NEW_MAP,
        ) from error
    if not isinstance(found, dict):
        raise InputError("The map of the pseudonyms is not a JSON object", where=str(path), hint=_NEW_MAP)
    for label, entry in found.items():
        _check_entry(label, entry, path)
    return found


def _check_entry(label: str, entry: object, path: Path) -> None:
    if not isinstance(entry, dict):
        problem = f"is a {type(entry).__name__}, expected a JSON object"
    else:
        missing = [key for key in _TEXTS if not isinstance(entry.get(key), str)]
        paths = entry.get("paths")
        if not isinstance(paths, list) or not paths or not all(isinstance(place, str) for place in paths):
            missing.append("paths")
        people = entry.get("people", [])
        if not isinstance(people, list) or not all(
            isinstance(p, dict) and p.keys() >= _OF_PERSON for p in people
        ):
            missing.append("people")
        problem = f"has no usable {', '.join(missing)}" if missing else ""
    if problem:
        raise InputError(
            f"Entry {label!r} of the map of the pseudonyms {problem}", where=str(path), hint=_NEW_MAP
        )


def who(pseudonym: str, key_file: Path) -> dict[str, dict[str, Any]]:
    """Return the scans of a pseudonym: all of a subject, or one scan.

    Parameters
    ----------
    pseudonym : str
        ``sub-<code>``, the code alone, or a scan id.
    key_file : Path
        The key of the dataset.

    Raises
    ------
    InputError
        If the map does not hold it.
    """
    wanted = pseudonym if pseudonym.startswith("sub-") else f"sub-{pseudonym}"
    path = map_beside(key_file)
    known = read_map(path)
    found = {label: entry for label, entry in known.items() if wanted in (label, label.partition("_ses-")[0])}
    if not found:
        raise InputError(
            f"The map of {len(known)} scans does not hold {wanted}",
            where=str(path),
            hint="check the pseudonym and that this is the dataset it comes from",
        )
    return found


def log_failures(key_file: Path, failures: Mapping[str, tuple[str, str]]) -> Path | None:
    """Append tracebacks to the private log of a key; return its path, None where nothing failed.

    Parameters
    ----------
    key_file : Path
    failures : mapping
        By scan id: where the scan was found, and the traceback.
    """
    if not failures:
        return None
    path = log_beside(key_file)
    text = "".join(
        f"{now()}  {label}  {place}\n{trace.rstrip()}\n\n" for label, (place, trace) in failures.items()
    )
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
    except OSError as error:
        raise not_writable(path.parent, error) from error
    return path


def _write_private(path: Path, text: str) -> None:
    """Write a file whole that its owner alone can read."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        beside.replace(path)
    except OSError as error:
        raise not_writable(path.parent, error) from error
    finally:
        beside.unlink(missing_ok=True)
