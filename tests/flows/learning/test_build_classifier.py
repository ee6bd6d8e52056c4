"""What one step of a study stores is read back by the next."""

from __future__ import annotations

import numpy as np
import pytest

from flows.learning import build_classifier
from flows.learning.build_classifier import read_selection
from flows.learning.study_files import StudyFiles
from pipeline.config import Study
from pipeline.evaluation.classifier.selection import select_calibrator
from pipeline.files import write_json
from pipeline.learning.predictions import Predictions
from pipeline.scan import Split


@pytest.fixture
def trained(tmp_path, rng):
    """A study's folder with its predictions, and the selection they lead to."""
    labels = np.arange(40) % 2
    logits = rng.normal(size=(40, 2)) + 3.0 * np.eye(2)[labels]
    ids = tuple(f"sub-{n:02}_ses-a" for n in range(40))
    names = tuple(f"{n:02}" for n in range(40))
    files = StudyFiles(tmp_path)
    found = Predictions(ids, names, logits, labels, np.zeros((40, 3), np.float32), ("CN", "AD"))
    for part in ("calibration", "test"):
        found.save(files.predictions(part))
    study = Study(name="x", output=tmp_path, cohort={"path": tmp_path, "classes": ("CN", "AD")})
    return study, files, select_calibrator(found, study.calibration, study.seed)


def test_a_stored_selection_is_read_and_not_made_again(trained, monkeypatch):
    study, files, selection = trained
    write_json(files.selection, selection.to_dict())
    monkeypatch.setattr(build_classifier, "select_calibrator", None)
    assert read_selection(study, files).to_dict() == selection.to_dict()


def test_a_study_trained_before_selections_were_stored_selects_the_same(trained):
    study, files, selection = trained
    assert read_selection(study, files).to_dict() == selection.to_dict()
    assert not files.selection.exists()


def test_the_split_is_the_one_the_classifier_was_made_with(trained):
    _, files, _ = trained
    parts = {
        part: (f"sub-{n}_ses-a",) for n, part in enumerate(("train", "validation", "calibration", "test"))
    }
    split = Split(**parts, subject_of={ids[0]: ids[0][4:5] for ids in parts.values()})
    write_json(files.split, split.to_dict())
    assert files.read_split() == split
