"""The first study file is read as it was meant, whatever folders and classes are called."""

from __future__ import annotations

from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import check_purpose, load_study
from pipeline.config.new_study import new_study_text

NAMES = st.text(
    st.characters(exclude_categories=("C", "Zl", "Zp"), exclude_characters="/"), min_size=1
).filter(lambda text: text.strip(". ") == text)


def test_every_purpose_of_scans_is_served(tmp_path):
    path = tmp_path / "taucal.yaml"
    path.write_text(new_study_text(path, Path("scans"), ["CN", "impaired"], Path("labels.csv")))
    study = load_study(path)
    for purpose in ("train", "compare", "retrain"):
        check_purpose(study, purpose)
    assert study.cohort.classes == ("CN", "impaired")
    assert study.cohort.labels is not None
    assert study.cohort.labels.file == Path("labels.csv")
    assert (study.cohort.path, study.output) == (tmp_path / "bids", tmp_path / "study")
    assert study.name == tmp_path.name


def test_it_is_commented_and_names_no_table_that_was_not_given():
    text = new_study_text(Path("mine/taucal.yaml"), Path("scans"), ["CN", "MCI", "AD"])
    assert text.count("#") > 10
    assert max(map(len, text.splitlines())) <= 115
    assert "labels" not in yaml.safe_load(text)["cohort"]


@given(source=NAMES, folder=NAMES, name=NAMES)
def test_names_are_read_as_they_were_written(source, folder, name):
    tree = yaml.safe_load(new_study_text(Path(folder) / "taucal.yaml", Path(source), [name, "AD"]))
    assert tree["ingest"]["source"] == source
    assert tree["output"] == f"{folder}/study"
    assert tree["cohort"]["classes"][0] == name
