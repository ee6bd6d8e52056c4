"""Which registered version answers: aliases that move in one step, and loading by name."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import mlflow
from mlflow.exceptions import MlflowException

from models.bundle import BundleFormatError, check_bundle
from pipeline.config import without_password
from pipeline.errors import BundleError, InputError
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
_ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
"""MLflow's codes of a model, version or alias that does not exist; other codes are failures."""


def champion_version(store: Store, alias: str = CHAMPION) -> int | None:
    """Return the version an alias points to, or None."""
    if store.is_new():
        return None  # looking makes no store
    try:
        return int(store.client().get_model_version_by_alias(store.model_name, alias).version)
    except MlflowException as error:
        if error.error_code not in _ABSENT:
            raise
        return None


def registered_ms(store: Store, version: int) -> int | None:
    """Return when a version was registered, in milliseconds since 1970; None where it is not."""
    if store.is_new():
        return None
    try:
        found = store.client().get_model_version(store.model_name, str(version))
    except MlflowException as error:
        if error.error_code not in _ABSENT:
            raise
        return None
    return int(found.creation_timestamp)


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
        raise _no_model(f"models:/{store.model_name}@{alias}", store, "no version has this alias")
    return f"models:/{store.model_name}/{version}"


def origin(store: Store, name: str) -> tuple[str, str]:
    """Return version and run id of a model named as in `load_classifier`, as reports print them."""
    if Path(name).is_dir():
        return "unregistered", "none"
    client, place = store.client(), name.removeprefix("models:/").removeprefix(store.model_name)
    if place.startswith("@"):
        found = client.get_model_version_by_alias(store.model_name, place[1:])
    else:
        found = client.get_model_version(store.model_name, place.strip("/"))
    return str(found.version), str(found.run_id)


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
            hint="promote a second version first: `taucal audit` lists what was promoted",
        )
    return now, before


def point(store: Store, champion: int, previous: int | None) -> None:
    """Set the aliases of a move; done again after a crash it ends in the same state.

    The champion's alias is last: until it moves, the one before answers.
    """
    if previous is not None:
        _set_alias(store, PREVIOUS, previous)
    _set_alias(store, CHAMPION, champion)
    if champion_version(store, CHALLENGER) == champion:
        _patiently(lambda: store.client().delete_registered_model_alias(store.model_name, CHALLENGER))


def challenge(store: Store, version: int) -> None:
    """Name a version the challenger."""
    _set_alias(store, CHALLENGER, version)


def decision_of(store: Store, version: int) -> str | None:
    """Return the hash of the audit's entry by which a version last became champion, or None."""
    tags: dict[str, str] = store.client().get_model_version(store.model_name, str(version)).tags
    return tags.get(_DECISION)


def set_decision(store: Store, version: int, sha256: str) -> None:
    """Leave the hash of the audit's entry at the version that it made champion: the move is complete."""
    client = store.client()
    _patiently(lambda: client.set_model_version_tag(store.model_name, str(version), _DECISION, sha256))


def _set_alias(store: Store, alias: str, version: int) -> None:
    _patiently(lambda: store.client().set_registered_model_alias(store.model_name, alias, str(version)))


def _patiently(write: Callable[[], object], tries: int = 5) -> None:
    # Two processes that write to the registry at once can fail once on SQLite.
    for left in reversed(range(tries)):
        try:
            write()
        except MlflowException:
            if not left:
                raise
            time.sleep(0.2)
        else:
            return


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
    if Path(name).is_dir():
        return load_bundle(Path(name))
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
        hint="check the version and the study; `taucal train` or `taucal demo` makes a first one",
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
