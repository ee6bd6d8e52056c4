"""The examples of the README of `pipeline` run as they are printed, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "pipeline" / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def ran(pet_scans, small_classifier, tmp_path, monkeypatch, capsys):
    """What the examples define and print, in a folder with a scan and a classifier."""
    (tmp_path / "scan").symlink_to(pet_scans["dicom"])
    small_classifier.save(tmp_path / "classifier")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, example in enumerate(EXAMPLES):
        exec(compile(example, f"example {number}", "exec"), names)
    return names, capsys.readouterr().out


def test_the_examples_run_and_state_what_the_text_says(ran):
    names, printed = ran
    assert len(EXAMPLES) == 5
    assert names["volume"].unit == "Bq/mL"
    assert names["normalised"].suvr.affine[0, 0] == 2
    assert 0.8 < names["normalised"].composites["meta_roi"] < 3
    assert sum(names["prediction"].probabilities) == pytest.approx(1)
    assert "refused" not in printed
    assert names["probabilities"].sum(axis=1) == pytest.approx(1)
