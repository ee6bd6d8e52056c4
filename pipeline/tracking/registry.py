"""Which registered version answers: aliases that move in one step, and loading by name."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

from models.classifier import BundleError as StoredBundleError
from models.classifier import CalibratedClassifier
from pipeline.errors import BundleError, InputError
from pipeline.tracking.store import Store

CHAMPION = "champion"
PREVIOUS = "previous"


def champion_version(store: Store, alias: str = CHAMPION) -> int | None:
    """Return the version an alias points to, or None."""
    try:
        return int(store.client().get_model_version_by_alias(store.model_name, alias).version)
    except MlflowException:
        return None


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
    if before == version:
        return
    if before is not None:
        _set_alias(store, PREVIOUS, before)
    _set_alias(store, CHAMPION, version)


def rollback(store: Store) -> int:
    """Swap champion and previous; return the version that is champion now.

    Raises
    ------
    InputError
        If there is no previous champion.
    """
    now, before = champion_version(store), champion_version(store, PREVIOUS)
    if now is None or before is None:
        raise InputError(
            "A rollback needs a previous champion, got none",
            culprit=store.model_name,
            mend="promote a second version first",
        )
    _set_alias(store, CHAMPION, before)
    _set_alias(store, PREVIOUS, now)
    return before


def _set_alias(store: Store, alias: str, version: int, tries: int = 5) -> None:
    # Two processes that set an alias at once can fail once on SQLite.
    for left in reversed(range(tries)):
        try:
            store.client().set_registered_model_alias(store.model_name, alias, str(version))
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
        return _load(Path(name))
    uri = f"models:/{store.model_name}{name}" if name.startswith("@") else name
    store.be_default()
    try:
        with tempfile.TemporaryDirectory(prefix="taucal-") as place:
            local = mlflow.artifacts.download_artifacts(
                artifact_uri=uri, dst_path=place, tracking_uri=store.uri
            )
            return _load(Path(local) / "artifacts" / "bundle")
    except MlflowException as error:
        raise InputError(
            f"A registered model must exist, got {str(error).splitlines()[0]}",
            culprit=f"{uri} at {store.address}",
            mend="run `taucal train` or `taucal demo` first, or name another with --model and --output",
        ) from error


def _load(folder: Path) -> CalibratedClassifier:
    try:
        return CalibratedClassifier.load(folder)
    except StoredBundleError as error:
        raise BundleError(str(error), mend="register the classifier again from its study") from error
