"""Which registered version answers: aliases that move in one step, and loading by name."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from models.bundle import BundleFormatError, check_bundle
from pipeline.config import without_password
from pipeline.errors import BundleError, InputError
from pipeline.tracking.registered import RegisteredVersion, registry_of
from pipeline.tracking.store import Store

if TYPE_CHECKING:  # torch takes seconds: which version is the champion is asked without it
    from models.classifier import CalibratedClassifier

_Result = TypeVar("_Result")
CHAMPION = "champion"
PREVIOUS = "previous"
CHALLENGER = "challenger"
"""The newest version that was made to replace the champion and has not."""

_DECISION = "taucal.decision"
"""Tag of a version: the hash of the audit's entry by which it became champion."""


def champion_version(store: Store, alias: str = CHAMPION) -> int | None:
    """Return the version an alias points to, or None."""
    return None if store.is_new() else registry_of(store).aliased(alias)  # looking makes no store


def registered_ms(store: Store, version: int) -> int | None:
    """Return when a version was registered, in milliseconds since 1970; None where it is not."""
    found = None if store.is_new() else registry_of(store).version(version)
    return None if found is None else found.registered_ms


def pinned(store: Store, name: str) -> str:
    """Return a model's name with the version its alias points to now: a later promotion does not change it.

    Parameters
    ----------
    name : str
        As in `load_classifier`.

    Raises
    ------
    InputError
        If no version has the alias.
    """
    model, _, alias = name.removeprefix("models:/").partition("@")
    if not alias or model not in ("", store.model_name) or Path(name).is_dir():
        return name
    version = champion_version(store, alias)
    if version is None:
        seen = "the store does not exist yet" if store.is_new() else "no version has this alias"
        raise _no_model(f"models:/{store.model_name}@{alias}", store, seen)
    return f"models:/{store.model_name}/{version}"


def origin(store: Store, name: str) -> tuple[str, str]:
    """Return version and run id of a model named as in `load_classifier`, as reports print them."""
    if Path(name).is_dir():
        return "unregistered", "none"
    number, found = _version_of(store, name) or (None, None)
    if found is None:
        raise _no_model(name, store, "no such version")
    return str(number), found.run_id


def _version_of(store: Store, name: str) -> tuple[int, RegisteredVersion] | None:
    """Return number and record of the version a name stands for, or None where there is none."""
    model, _, place = name.removeprefix("models:/").replace("@", "/@").strip("/").rpartition("/")
    if store.is_new():
        return None
    registry = registry_of(replace(store, model_name=model or store.model_name))
    number = int(place) if place.isdecimal() else None
    number = registry.aliased(place[1:]) if place.startswith("@") else number
    found = None if number is None else registry.version(number)
    return None if number is None or found is None else (number, found)


def promote(store: Store, version: int) -> None:
    """Make a version the champion; the champion before becomes `previous`."""
    before = champion_version(store)
    point(store, version, None if before == version else before)


def champion_and_previous(store: Store) -> tuple[int, int]:
    """Return the versions a rollback swaps.

    Raises
    ------
    InputError
        If there is no previous champion.
    """
    now, before = champion_version(store), champion_version(store, PREVIOUS)
    if now is None or before is None or now == before:
        raise InputError(
            "There is no previous champion to roll back to",
            where=f"model {store.model_name}",
            hint="train first: `taucal train CONFIG`"
            if now is None
            else "promote a second version first: `taucal audit` lists what was promoted",
        )
    return now, before


def point(store: Store, champion: int, previous: int | None) -> None:
    """Set the aliases of a move; done again after a crash it ends in the same state.

    The champion's alias is last: until it moves, the one before answers.
    """
    if previous is not None:
        registry_of(store).set_alias(PREVIOUS, previous)
    registry_of(store).set_alias(CHAMPION, champion)
    if champion_version(store, CHALLENGER) == champion:
        registry_of(store).delete_alias(CHALLENGER)


def challenge(store: Store, version: int) -> None:
    """Name a version the challenger."""
    registry_of(store).set_alias(CHALLENGER, version)


def decision_of(store: Store, version: int) -> str | None:
    """Return the hash of the audit's entry by which a version last became champion, or None."""
    found = registry_of(store).version(version)
    return None if found is None else found.tags.get(_DECISION)


def set_decision(store: Store, version: int, sha256: str) -> None:
    """Leave the hash of the audit's entry at the version that it made champion: the move is complete."""
    registry_of(store).set_tag(version, _DECISION, sha256)


def load_classifier(store: Store, name: str = f"@{CHAMPION}") -> CalibratedClassifier:
    """Load a registered classifier by the code of this program.

    Parameters
    ----------
    name : str
        ``"models:/taucal@champion"``, ``"models:/taucal/3"``, ``"@champion"``, or a bundle's folder.

    Raises
    ------
    InputError
        If there is no such model.
    """
    folder = Path(name)
    if folder.is_dir():
        inner = folder / "classifier"
        if inner.is_dir() and not (folder / "classifier.json").exists():
            raise InputError("This is no classifier, but a study's folder", where=name, hint=f"name {inner}")
        return load_bundle(folder)
    if not name.startswith(("@", "models:/", "runs:/")):
        nearest = f"@{name if name.isalnum() else CHAMPION}"
        if name.isdecimal():
            nearest = f"models:/{store.model_name}/{name}"
        raise InputError(
            f"{name} is neither a folder nor the name of a registered model",
            where="--model",
            hint=f"check the path of a stored classifier, or name {nearest}",
        )
    return _with_bundle(store, name, load_bundle)


def check_stored(store: Store, version: int) -> None:
    """Check that the files of a registered version are whole and readable, without loading the network.

    Raises
    ------
    InputError
        If there is no such version, or its files are damaged.
    """
    _with_bundle(store, f"models:/{store.model_name}/{version}", _check)


def _with_bundle(store: Store, name: str, use: Callable[[Path], _Result]) -> _Result:
    uri = f"models:/{store.model_name}{name}" if name.startswith("@") else name
    if store.is_new():
        raise _no_model(uri, store, "the store does not exist yet")  # asking MLflow would make one
    _, version = _version_of(store, uri) or (None, None)
    if version is not None and version.files is not None and version.files.startswith("file://"):
        bundle = Path(url2pathname(urlsplit(version.files).path), "artifacts", "bundle")
        if not bundle.is_dir():
            raise _no_model(uri, store, f"{bundle} is missing")
        return use(bundle)
    return _downloaded(store, uri, use)


def _downloaded(store: Store, uri: str, use: Callable[[Path], _Result]) -> _Result:
    import mlflow
    from mlflow.exceptions import MlflowException

    store.be_default()
    try:
        with tempfile.TemporaryDirectory(prefix="taucal-") as place:
            # The bundle alone: the code that is stored beside it is for servers, and two hundred files.
            bundle = mlflow.artifacts.download_artifacts(
                artifact_uri=f"{uri.rstrip('/')}/artifacts/bundle", dst_path=place, tracking_uri=store.uri
            )
            return use(Path(bundle))
    except MlflowException as error:
        raise _no_model(uri, store, without_password(str(error).partition("\n")[0])) from error


def _no_model(uri: str, store: Store, seen: str) -> InputError:
    return InputError(
        f"The registered model was not found ({seen})",
        where=f"{uri} at {store.address}",
        hint="check the version and the study; `taucal train` or `taucal demo` makes a first one"
        + ("; if the study was moved, correct output in its file" if store.is_new() else ""),
    )


def load_bundle(folder: Path) -> CalibratedClassifier:
    """Load a classifier from its folder.

    Raises
    ------
    BundleError
        If it is not whole or not ours.
    """
    from models.classifier import CalibratedClassifier

    with _explained():
        return CalibratedClassifier.load(folder)


def _check(folder: Path) -> None:
    with _explained():
        check_bundle(folder)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except BundleFormatError as error:
        raise BundleError(str(error), hint="register the classifier again from its study") from error
