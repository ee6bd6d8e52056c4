"""Which trained study a command is about."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flows.running.console import say
from pipeline.errors import InputError

_MARKS = ("study.yaml", "mlflow.db")
"""Files of an output folder."""
_DEPTH = 3
"""Levels below the current folder that are searched: data/adni/study is the third."""
_DEMO = "demo"
WRITTEN_BY_INIT = "taucal.yaml"
"""The study file of `taucal init`, in the folder that it is given."""


@dataclass(frozen=True)
class StudyPlace:
    """A trained study.

    Parameters
    ----------
    named : Path
        Its YAML file or its output folder, as `pipeline.tracking.store_at` takes it.
    output : Path
        Its output folder.
    """

    named: Path
    output: Path


def locate(named: Path | None, *, changes: bool = False) -> StudyPlace:
    """Return the study that was named, else the one study below the current folder, and print which it is.

    Parameters
    ----------
    named : Path or None
        What ``--study`` holds.
    changes : bool
        Whether the command changes the study: the demo's must then be named.

    Raises
    ------
    InputError
        If there is no such study, or none was named and there is not exactly one; the message lists all.
    """
    place = _named(named) if named is not None else _only(changes=changes)
    say(f"Study in {place.output}.")
    return place


def find_studies(root: Path) -> list[Path]:
    """Return the output folders of studies in a folder and up to three levels below it, in order."""
    return sorted(_walk(root, _DEPTH))


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    if any((folder / mark).is_file() for mark in _MARKS):
        yield folder
    elif depth and not (folder / "dataset_description.json").is_file():
        try:
            inner = [p for p in folder.iterdir() if not p.name.startswith(".") and p.is_dir()]
        except OSError:  # a folder that cannot be read holds no study of ours
            return
        for child in inner:
            yield from _walk(child, depth - 1)


def _named(named: Path) -> StudyPlace:
    if named.is_file():
        from pipeline.config import check_not_moved, load_study

        study = load_study(named)
        check_not_moved(study, named)
        return StudyPlace(named, study.output)
    if not named.is_dir():
        raise InputError(
            "There is no such file or folder", where=f"--study {named}", hint=_listing(find_studies(Path()))
        )
    if not any((named / mark).is_file() for mark in _MARKS):
        if (named / WRITTEN_BY_INIT).is_file():
            return _named(named / WRITTEN_BY_INIT)
        problem = f"This is not the output folder of a study: it holds neither {' nor '.join(_MARKS)}"
        raise InputError(
            problem, where=f"--study {named}", hint=_listing(find_studies(named) or find_studies(Path()))
        )
    return StudyPlace(named, named)


def _only(*, changes: bool) -> StudyPlace:
    found = find_studies(Path())
    if len(found) != 1:
        problem = "several studies are below this folder" if found else "no study is below this folder"
        raise InputError(problem, where="--study", hint=_listing(found))
    if changes and _is_demo(found[0]):
        raise InputError(
            "the only study below this folder is the demo, which this command changes only if you name it",
            where="--study",
            hint=f"add --study {shlex.quote(str(found[0]))}, or name another study",
        )
    return StudyPlace(found[0], found[0])


def _is_demo(folder: Path) -> bool:
    from pipeline.config import load_study

    path = folder / "study.yaml"
    return path.is_file() and load_study(path).name == _DEMO


def _listing(found: list[Path]) -> str:
    if not found:
        return "name a study's YAML file or its output folder, as in --study data/adni/study"
    return f"name one of {', '.join(map(str, found[:10]))}, as in --study {shlex.quote(str(found[0]))}"
