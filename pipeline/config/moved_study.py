"""A study whose folder was moved: its ``study.yaml`` still names the old place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.config.study import Study

_PLACES = (
    "cohort.path",
    "cohort.labels.file",
    "ingest.source",
    "ingest.more_sources",
    "ingest.key_file",
    "imaging.centaur_masks",
    "network.weights",
    "phantom.anatomies",
    "tracking.uri",
    "tracking.artifacts",
)
"""Settings that hold a path or an address of files."""
_SCHEMES = ("sqlite:///", "file://")


def follow_move(tree: dict[str, Any], folder: Path) -> None:
    """Let the settings in an output folder name that folder, and what was below the old one below it.

    Parameters
    ----------
    tree : dict
        What ``study.yaml`` holds; changed in place. What lay elsewhere stays.
    folder : Path
        Where the file is now.
    """
    before = Path(str(tree.get("output")))
    if folder.resolve().is_relative_to(before.resolve()):
        return
    tree["output"] = str(folder)
    for place in _PLACES:
        *sections, key = place.split(".")
        node: Any = tree
        for section in sections:
            node = node.get(section) if isinstance(node, dict) else None
        if isinstance(node, dict) and key in node:
            node[key] = _moved(node[key], before, folder)


def _moved(value: Any, before: Path, folder: Path) -> Any:
    if isinstance(value, list):
        return [_moved(one, before, folder) for one in value]
    if not isinstance(value, str):
        return value
    scheme = next((scheme for scheme in _SCHEMES if value.startswith(scheme)), "")
    path = Path(value.removeprefix(scheme))
    if not path.is_relative_to(before):
        return value
    return f"{scheme}{(folder.resolve() if scheme else folder) / path.relative_to(before)}"


def dataset_hint(study: Study, file: Path) -> str:
    """Return what to change in a study's file whose dataset is not at its place.

    Parameters
    ----------
    file : Path
        The study file that names the dataset.
    """
    beside = (study.output.parent / study.cohort.path.name).resolve()
    if beside.is_dir():
        return f"it may have been moved with the study: correct cohort.path in {file} to {beside}"
    return f"if it was moved, correct cohort.path in {file}"


def check_not_moved(study: Study, file: Path) -> None:
    """Refuse a study file that was moved together with its output or dataset, and still names the old places.

    A run would begin a second study there, and a second dataset with other pseudonyms.

    Parameters
    ----------
    file : Path
        The study file.

    Raises
    ------
    ConfigError
        Naming the keys to correct, and what is beside the file.
    """
    places = {"output": (study.output, "study.yaml")}
    if study.cohort.kind == "bids":
        places["cohort.path"] = (study.cohort.path, "dataset_description.json")
    moved = {
        key: file.parent / place.name
        for key, (place, mark) in places.items()
        if not place.exists() and (file.parent / place.name / mark).is_file()
    }
    if moved:
        key, beside = next(iter(moved.items()))
        raise ConfigError(
            f"The {key} it names, {places[key][0]}, does not exist, but {beside} does",
            where=str(file),
            hint=f"if the study was moved, correct {' and '.join(moved)} in this file; relative paths count "
            "from the folder in which you type `taucal`",
        )
