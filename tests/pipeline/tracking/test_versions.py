"""What a registered version carries, and what it must never carry."""

from __future__ import annotations

import ast
import io
import pickletools
import sqlite3
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import mlflow
import pytest

import pipeline
from pipeline import tracking
from pipeline.errors import BundleError
from pipeline.tracking.versions import EXAMPLE, REQUIREMENTS

CHECKOUT = Path(pipeline.__path__[0]).parent
NO_IMPORT = {"mlflow", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle", "pylibjpeg"}
"""The server itself, and the decoders that pydicom finds by their entry points."""


def files_of(folder: Path) -> list[Path]:
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert len(files) > 100, "the code of two packages is among them"
    return files


def is_pickle(content: bytes) -> bool:
    if content[:2] == b"PK":
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
        return any(name.endswith(".pkl") for name in names)
    if content[:1] != b"\x80":
        return False
    try:
        return any(code.name == "STOP" for code, _, _ in pickletools.genops(content))
    except ValueError:
        return False


def test_a_pickle_would_be_found():
    import pickle

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written:
        written.writestr("network/data.pkl", b"")
    assert is_pickle(archive.getvalue())
    assert is_pickle(pickle.dumps({"weights": [1.0]}))
    assert not is_pickle(b"\x80 some other bytes")


def test_nothing_in_the_model_is_pickled(registered):
    for path in files_of(registered.folder):
        assert path.suffix not in {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".npy", ".pyc"}, path
        assert not is_pickle(path.read_bytes()), path


def test_no_file_of_the_model_tells_who_made_it_or_where(registered):
    hidden = [registered.person, f"{CHECKOUT}/", str(Path.home()) + "/", "/tmp/", str(registered.folder)]
    for path in files_of(registered.folder):
        if path.suffix == ".py" and "code" in path.parts:
            continue  # the same bytes as in the checkout, compared below
        content = path.read_bytes()
        assert not [h for h in hidden if h.encode() in content], path


def test_the_database_tells_no_person_beyond_the_place_of_the_artifacts(registered):
    database = registered.folder.parents[3] / "mlflow.db"
    with sqlite3.connect(database) as connection:
        dump = "\n".join(connection.iterdump())
    dump = dump.replace(registered.store.artifacts, "")
    assert registered.person not in dump
    assert str(CHECKOUT) not in dump


def test_the_code_that_travels_is_the_code_that_runs(registered):
    for package in ("pipeline", "models"):
        for path in (CHECKOUT / package).rglob("*.py"):
            travelled = registered.folder / "code" / path.relative_to(CHECKOUT)
            assert travelled.read_bytes() == path.read_bytes(), path


def test_the_version_says_what_it_was_made_from(registered):
    version = registered.store.client().get_model_version("taucal", str(registered.version))
    assert version.run_id == registered.run_id
    tags = version.tags
    assert (tags["data.digest"], tags["split.digest"]) == ("d1", "s1")
    for name in ("taucal.version", "git.revision", "bundle.format_version", "environment.digest"):
        assert tags[name], name
    environment = (registered.folder / "artifacts" / "environment.txt").read_text().split()
    assert f"torch=={metadata.version('torch')}" in environment
    assert not [line for line in environment if "/" in line or "@" in line]


def test_the_card_tells_use_data_metrics_and_where_it_fails(registered):
    card = (registered.folder / "artifacts" / "model_card.md").read_text()
    for needed in (
        "Research use only - not for diagnostic use.",
        "90 synthetic scans of 80 subjects",
        "30 synthetic scans of 25 subjects",
        "0.81 [0.52 to 1.14]",
        "| 80% - 90% | 20 | 11 |",
        "It had the lowest NLL.",
        "the results do not apply to patients",
        "not significantly better than chance: balanced accuracy 0.41 [",
        "It was trained on few scans of AD (10)",
        "overconfident between 80% and 90%: 11 of 20",
        "- data.digest: `d1`",
    ):
        assert needed in card, needed
    assert "overconfident between 50%" not in card, "four scans are too few"
    version = registered.store.client().get_model_version("taucal", str(registered.version))
    summary, links = version.description.rsplit("\n\n", 1)
    assert summary in card
    assert "[model card](#/experiments/" in links
    assert version.description.startswith("**Research use only")
    assert "\n#" not in version.description
    assert version.description.count("NLL 0.81") == 1


def test_signature_and_example_say_how_it_is_called_and_name_no_scan(registered):
    registered.store.be_default()
    described = mlflow.models.get_model_info("models:/taucal@champion")
    assert described.signature.inputs.to_dict() == [{"type": "string", "required": True}]
    (answer,) = described.signature.outputs.to_dict()
    assert {"decision", "reasons", "probabilities", "prediction_set"} <= set(answer["properties"])
    example = mlflow.models.Model.load(registered.folder).load_input_example(str(registered.folder))
    assert example == EXAMPLE
    assert not Path(example[0]).exists()
    assert not Path(example[0]).is_absolute()


def test_the_same_key_is_one_version_and_another_key_another(registered):
    known = tracking.register(registered.store, registered.run_id, registered.bundle, {}, "k")
    assert known == registered.version
    other = tracking.register(registered.store, registered.run_id, registered.bundle, {}, "other")
    assert other == registered.version + 1
    assert tracking.champion_version(registered.store) == registered.version


def test_the_registered_classifier_comes_back_as_it_was(registered, small_classifier):
    loaded = tracking.load_classifier(registered.store)
    assert loaded.card == small_classifier.card
    assert loaded.calibrator.to_dict() == small_classifier.calibrator.to_dict()


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_the_requirements_are_what_is_imported_no_more_no_less():
    script = "import sys, pipeline.one_scan\nprint(*(m.__file__ for n, m in sys.modules.items() if "
    script += "n.partition('.')[0] in ('pipeline', 'models') and m.__file__), sep='\\n')"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=600
    )
    imported = set().union(*(imports_of(Path(line)) for line in run.stdout.split("\n") if line))
    imported -= {*sys.stdlib_module_names, "pipeline", "models"}
    distributions = metadata.packages_distributions()
    needed = {distributions[name][0].lower() for name in imported}
    assert needed == set(REQUIREMENTS) - NO_IMPORT


def test_a_version_that_cannot_be_made_leaves_none(registered, tmp_path):
    with pytest.raises(BundleError, match=r"classifier\.json"):
        tracking.register(registered.store, registered.run_id, tmp_path, {}, "broken")
    found = registered.store.client().search_model_versions("name = 'taucal'")
    assert "broken" not in {v.tags["taucal.key"] for v in found}
