"""Which cells are trained first, which are compared, and which of them have scans to calibrate on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.comparison import cells
from flows.comparison.cells import Cell, plan, results_of, tuned_options
from pipeline.config import LossSettings, Study
from pipeline.files import write_json


class Digested:
    """Something with a digest, and no calibration part."""

    calibration = ()

    def digest(self) -> str:
        return "digest"


@pytest.fixture
def material() -> SimpleNamespace:
    return SimpleNamespace(volumes=Digested(), splits=(Digested(), Digested()), cross_fitted=True)


def test_values_are_tried_with_the_first_seed_and_the_chosen_one_is_compared(material, tmp_path):
    study = Study(
        name="x",
        output=tmp_path,
        cohort={"path": "b"},
        compare={"losses": [{"name": "ce"}, {"name": "focal"}], "seeds": [4, 5], "folds": 2},
    )
    first = plan(study, material)
    assert [cell.title for cell in first if cell.fold == 0] == [
        "ce, seed 4, fold 0",
        *(f"focal (gamma={value}), seed 4, fold 0" for value in (1, 2, 3)),
        "ce, seed 5, fold 0",
    ]
    for cell in first:
        best = 0.4 if cell.tried == f"gamma={2 + cell.fold}" else 0.5
        epoch = {"validation_nll": 0.1, "validation_nll_at_best_temperature": best}
        write_json(cell.folder / "training" / "training.json", {"history": [epoch], "best_epoch": 0})
    tuned = tuned_options(first, ["focal (gamma=1), seed 4, fold 0"])
    assert [one.chosen for one in tuned] == ["gamma=2", "gamma=3"]
    assert tuned[0].nll == (None, 0.4, 0.5)
    compared = plan(study, material, tuned)
    assert [cell.title for cell in compared if cell.loss.name == "focal"] == [
        f"focal (gamma={2 + fold}), seed {seed}, fold {fold}" for fold in (0, 1) for seed in (4, 5)
    ]
    known = {cell.folder: cell.key for cell in first}
    assert all(known.get(cell.folder, cell.key) == cell.key for cell in compared)


def test_a_fold_is_calibrated_on_the_others_and_left_out_where_there_is_none(material, monkeypatch):
    class Result:
        def __init__(self, cell: Cell) -> None:
            self.cell, self.others = cell, []

        def calibrated_on(self, others):
            self.others = [other.cell.title for other in others]
            return self

    monkeypatch.setattr(cells, "result_of", lambda _, cell: Result(cell))
    trained = [
        Cell(LossSettings(name="ce"), seed, fold, Path(f"ce-seed{seed}-fold{fold}"), "")
        for seed, fold in ((0, 0), (0, 1), (1, 0))
    ]
    found = results_of(material, trained)
    assert [(result.cell.title, result.others) for result in found] == [
        ("ce, seed 0, fold 0", ["ce, seed 0, fold 1"]),
        ("ce, seed 0, fold 1", ["ce, seed 0, fold 0"]),
    ]
