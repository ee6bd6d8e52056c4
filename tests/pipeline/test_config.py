"""A study file says what it means or is refused with a hint."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import DecisionSettings, Study, load_study
from pipeline.config.moved_study import follow_move
from pipeline.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
MINIMAL = {"name": "x", "output": "out", "cohort": {"path": "bids"}}


def write(folder: Path, tree: object) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_study_is_valid(path):
    assert load_study(path).name


def test_a_misspelt_key_is_refused_with_file_key_and_nearest(tmp_path):
    path = write(tmp_path, {**MINIMAL, "training": {"epoch": 3}})
    with pytest.raises(ConfigError, match=r"training\.epoch: no such key\. Did you mean 'epochs'\?") as error:
        load_study(path)
    assert "study.yaml" in str(error.value)
    assert error.value.exit_code == 2


def test_a_misspelt_key_deep_in_a_list_is_found(tmp_path):
    path = write(tmp_path, {**MINIMAL, "compare": {"losses": [{"name": "ce"}, {"nam": "gce"}]}})
    with pytest.raises(ConfigError, match=r"compare\.losses\.1\.nam: no such key\. Did you mean 'name'\?"):
        load_study(path)


def test_a_value_of_the_wrong_type_says_what_it_must_be(tmp_path):
    path = write(tmp_path, {**MINIMAL, "training": {"epochs": "many"}})
    with pytest.raises(ConfigError, match=r"training\.epochs: .*integer.*found 'many'"):
        load_study(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "keys and values, this one holds a list"),
        ("Subject,Diagnosis\nA,CN\n", "keys and values, this one holds a single value"),
        ("a: [1,\n", "not YAML: line 2, column 1"),
        ("a: b: c\n", "not YAML: line 1, column 5: mapping values are not allowed here"),
        ("\x00\x01", "not YAML"),
        ("name: x\na: 1\nname: y\n", "line 3, column 1: the key 'name' is already in line 1"),
        ("a:\n  b: {c: 1, d: 2}\n  b: 3\n", "line 3, column 3: the key 'b' is already in line 2"),
        ("", "keys and values"),
    ],
)
def test_what_is_no_study_is_refused(tmp_path, text, message):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_study(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml.*No such file.*demo\.yaml"):
        load_study(tmp_path / "nowhere.yaml")


def test_a_key_outside_its_section_is_sent_there(tmp_path):
    with pytest.raises(ConfigError, match=r"epochs: no such key\. Did you mean training\.epochs\?"):
        load_study(write(tmp_path, {**MINIMAL, "epochs": 3}))


def test_a_tab_is_named(tmp_path):
    (tmp_path / "s.yaml").write_text("name: x\n\toutput: y\n")
    with pytest.raises(ConfigError, match=r"line 2, column 1: a tab; indent with spaces"):
        load_study(tmp_path / "s.yaml")


def test_an_override_wins_and_reaches_any_depth(tmp_path):
    study = load_study(write(tmp_path, MINIMAL), ("training.loss.name=ce", "seed=7", "split.test=.3"))
    assert (study.training.loss.name, study.seed, study.split.test) == ("ce", 7, 0.3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training", "look like KEY=VALUE"),
        ("=3", "look like"),
        ("a..b=3", "look like"),
        ("name.a=3", "key name holds a value, no section. Set the whole of name"),
        ("seed=[1", "YAML"),
        ("seed=-1", "seed: Input should be greater than or equal to 0, found -1"),
        ("name=", "name: Input should be a valid string"),
        ("training.learning_rate=inf", "training.learning_rate: Input should be a finite number"),
        ("training=5", "training: Input should be a section of keys and values, found 5"),
        ("training.loss=ce", r"training\.loss: .*, found 'ce'; write \{name: ce\}"),
        ("compare.losses=[ce]", r"compare\.losses\.0: .*, found 'ce'; write \{name: ce\}"),
        ("decision.coverage=0,9", r"found '0,9'; with a decimal point it is 0\.9$"),
        ("decision.coverage=90", r"Input should be less than 1, found 90; 90 % is 0\.9$"),
        ("decision.coverage='90'", r"Input should be less than 1, found '90'; 90 % is 0\.9$"),
        ("cohort.classes=[[CN], MCI]", r"cohort\.classes\.0: .*, found \['CN'\]"),
        ("cohort.classes=CN", r"cohort.classes: Input should be a list, as \[a, b\], found 'CN'"),
    ],
)
def test_a_bad_override_is_refused(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        load_study(write(tmp_path, MINIMAL), (override,))


def test_several_sources_in_the_place_of_one_are_led_to_their_key(tmp_path):
    tree = MINIMAL | {"ingest": {"source": ["scans/old", "scans/new"]}}
    with pytest.raises(ConfigError, match=r"ingest\.source: .* the others in ingest\.more_sources$"):
        load_study(write(tmp_path, tree))


@pytest.mark.parametrize(
    "text",
    ["data/Study #1", "~/study", "a: b", "12:30", "2026", "007", "1e3", "true", "[x", "study - 2", "1.10"],
)
def test_a_text_survives_as_it_was_typed(tmp_path, text):
    asked = f"'{text}'" if text.startswith("[") else text
    study = load_study(write(tmp_path, MINIMAL), (f"output={asked}", f"name={asked}"))
    assert (study.output, study.name) == (Path(text), text)


def test_a_value_in_brackets_quotes_or_of_a_number_is_one(tmp_path):
    asked = (
        "cohort.classes=[CN, AD]",
        "training.loss.options={weight: .5}",
        "training.loss.options.warmup_epochs=.25",
    )
    study = load_study(write(tmp_path, MINIMAL), (*asked, "preprocessing.spacing_mm=8", "training.patience="))
    assert study.cohort.classes == ("CN", "AD")
    assert study.training.loss.options == {"weight": 0.5, "warmup_epochs": 0.25}
    assert (study.preprocessing.spacing_mm, study.training.patience) == (8, None)


def test_a_setting_given_twice_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"--set seed: Two values, 1 and 2\. Remove one"):
        load_study(write(tmp_path, MINIMAL), ("seed=1", "seed=2"))


def test_a_place_is_taken_as_it_is_and_an_override_wins(tmp_path):
    path, places = write(tmp_path, MINIMAL), {"output": Path("runs/Study #1"), "cohort.path": Path("b: c")}
    assert load_study(path, (), places).output == Path("runs/Study #1")
    study = load_study(path, ("output=there",), places)
    assert (study.output, study.cohort.path) == (Path("there"), Path("b: c"))


def test_a_split_must_leave_scans_to_train_on(tmp_path):
    path = write(tmp_path, {**MINIMAL, "split": {"validation": 0.3, "calibration": 0.3, "test": 0.35}})
    with pytest.raises(
        ConfigError, match=r"is 0\.95, but must be less than 0\.9 to leave enough scans for training"
    ):
        load_study(path)


def test_the_resolved_study_reads_back_as_itself(tmp_path):
    study = load_study(CONFIGS / "demo.yaml")
    path = tmp_path / "resolved.yaml"
    path.write_text(study.to_yaml())
    assert load_study(path) == study


@given(
    st.dictionaries(
        st.text(max_size=12), st.one_of(st.none(), st.integers(), st.text(max_size=9)), max_size=4
    )
)
def test_no_section_of_any_content_does_anything_but_load_or_be_refused(tmp_path_factory, section):
    path = write(tmp_path_factory.mktemp("fuzz"), {**MINIMAL, "training": section})
    try:
        study, refusal = load_study(path), "training"
    except ConfigError as error:
        study, refusal = None, str(error)
    assert "training" in refusal
    assert study is None or isinstance(study, Study)


@pytest.mark.parametrize("absolute", [True, False])
def test_the_study_in_an_output_folder_follows_it_when_it_is_moved(tmp_path, monkeypatch, absolute):
    monkeypatch.chdir(tmp_path)
    old = (tmp_path if absolute else Path()) / "old"
    places = {
        "cohort": {"path": old / "bids"},
        "ingest": {"source": tmp_path / "disk", "key_file": old / "k"},
    }
    written = Study(name="x", output=old, **places)
    (tmp_path / "old" / ".records").mkdir(parents=True)
    (tmp_path / "old" / "study.yaml").write_text(written.to_yaml())
    assert load_study(old / "study.yaml") == written
    new = (tmp_path / "old").rename(tmp_path / "new")
    moved = load_study(new / "study.yaml")
    assert (moved.output, moved.cohort.path, moved.ingest.key_file) == (new, new / "bids", new / "k")
    assert moved.ingest.source == tmp_path / "disk", "what lay elsewhere stays"
    assert load_study(new / "study.yaml", ("output=other",)).output == Path("other")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "study.yaml").write_text(written.to_yaml())
    assert load_study(tmp_path / "plain" / "study.yaml").output == old, "no study has run here"


def test_every_place_in_an_output_folder_follows_it(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    tree = {
        "output": str(old),
        "cohort": {"path": str(old / "bids"), "labels": {"file": str(old / "l.csv")}},
        "ingest": {"source": None, "more_sources": [str(old / "a"), str(tmp_path / "b")]},
        "imaging": {"centaur_masks": str(tmp_path / "older" / "masks")},
        "network": {"weights": str(old / "w.safetensors")},
        "tracking": {"uri": f"sqlite:///{old}/runs.db", "artifacts": f"file://{old}/files"},
    }
    follow_move(tree, new)
    assert tree == {
        "output": str(new),
        "cohort": {"path": str(new / "bids"), "labels": {"file": str(new / "l.csv")}},
        "ingest": {"source": None, "more_sources": [str(new / "a"), str(tmp_path / "b")]},
        "imaging": {"centaur_masks": str(tmp_path / "older" / "masks")},
        "network": {"weights": str(new / "w.safetensors")},
        "tracking": {"uri": f"sqlite:///{new}/runs.db", "artifacts": f"file://{new}/files"},
    }
    server = {
        "output": str(old),
        "cohort": {"path": "b", "labels": None},
        "tracking": {"uri": "https://x/old"},
    }
    follow_move(server, new)
    assert (server["tracking"], server["cohort"]) == ({"uri": "https://x/old"}, {"path": "b", "labels": None})


def test_a_study_of_an_older_version_loads_and_its_removed_setting_is_named(tmp_path, caplog):
    path = tmp_path / "old.yaml"
    path.write_text("{name: old, output: out, cohort: {path: bids}, decision: {coverage: 0.8, refits: 200}}")
    study = load_study(path)
    assert study.decision.coverage == 0.8
    assert "decision.refits: this setting has no effect any more" in caplog.text
    assert "decision.range_factor" in caplog.text
    assert "refits" not in study.to_yaml()


def test_a_set_of_two_is_an_answer_of_three_classes_and_more():
    assert [DecisionSettings().set_limit(k) for k in (2, 3, 10)] == [1, 2, 2]
    assert DecisionSettings(largest_set=1).set_limit(3) == 1
