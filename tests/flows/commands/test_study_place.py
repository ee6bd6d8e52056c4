"""Which study a command is about: the one that was named, else the only one, never the demo's unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.commands.options import study_of
from flows.commands.study_place import find_studies, locate
from pipeline.config import load_study
from pipeline.errors import ConfigError, InputError


def make_study(folder: Path, name: str = "x") -> Path:
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(f"name: {name}\noutput: elsewhere\ncohort: {{path: bids}}\n")
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_is_the_study_wherever_it_was_written(here):
    place = locate(make_study(here / "moved"))
    assert place.named == place.output == here / "moved"


def test_a_yaml_file_names_the_folder_it_writes_to(here, capsys):
    path = make_study(here / "configs") / "study.yaml"
    assert (locate(path).named, locate(path).output) == (path, Path("elsewhere"))
    assert "Study in elsewhere." in capsys.readouterr().err


def test_the_folder_that_init_wrote_to_is_its_study(here):
    make_study(here / "mine")
    (here / "mine" / "study.yaml").rename(here / "mine" / "taucal.yaml")
    place = locate(Path("mine"))
    assert (place.named, place.output) == (Path("mine/taucal.yaml"), Path("elsewhere"))
    with pytest.raises(ConfigError, match=r"^mine: This is a folder, .*\. Name mine/taucal"):
        load_study(Path("mine"))


@pytest.mark.parametrize("folder", ["data/adni/study", "study", "."])
def test_the_only_study_below_needs_no_name(here, folder):
    (here / folder).mkdir(parents=True, exist_ok=True)
    (here / folder / "mlflow.db").touch()
    assert locate(None, changes=True).output == Path(folder)


def test_of_several_none_is_chosen_and_all_are_listed(here):
    for folder in ("data/demo", "data/adni/study"):
        make_study(here / folder)
    with pytest.raises(
        InputError, match=r"--study: Several studies.*data/adni/study, data/demo, as in --study data/adni"
    ):
        locate(None)


def test_a_name_with_a_space_is_printed_as_it_must_be_typed(here):
    for folder in ("my study", "other"):
        make_study(here / folder)
    with pytest.raises(InputError, match="as in --study 'my study'"):
        locate(None)


def test_where_there_is_none_it_says_how_to_name_one(here):
    with pytest.raises(InputError, match=r"--study: No study is below.*as in --study data/adni/study"):
        locate(None)


def test_the_demo_is_read_unasked_but_changed_only_when_it_is_named(here):
    make_study(here / "data" / "demo", "demo")
    assert locate(None).output == Path("data/demo")
    with pytest.raises(InputError, match=r"changes only if you name it\. Add --study data/demo"):
        locate(None, changes=True)
    assert locate(Path("data/demo"), changes=True).output == Path("data/demo")


def test_a_name_that_is_none_is_refused_with_what_there_is(here):
    make_study(here / "data" / "adni" / "study")
    with pytest.raises(InputError, match=r"--study nowhere: There is no such.*data/adni/study"):
        locate(Path("nowhere"))
    with pytest.raises(
        InputError, match=r"--study data/adni: This is not the output folder.*data/adni/study"
    ):
        locate(Path("data/adni"))
    (here / "bad.yaml").write_text("- no study\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        locate(Path("bad.yaml"))


def test_the_search_enters_neither_datasets_nor_hidden_folders_nor_deeper_than_three(here):
    make_study(here / "bids" / "derivatives")
    (here / "bids" / "dataset_description.json").touch()
    make_study(here / "study" / ".serve")
    make_study(here / "a" / "b" / "c" / "d")
    make_study(here / "out" / "run")
    make_study(here / "out" / "run" / "inner")
    assert find_studies(Path()) == [Path("out/run")]


@pytest.mark.parametrize(
    ("made", "keys"),
    [
        (("study/study.yaml", "bids/dataset_description.json"), "output and cohort.path"),
        (("study/study.yaml",), "output"),
        (("bids/dataset_description.json",), "cohort.path"),
    ],
    ids=["all", "the output", "the dataset"],
)
def test_a_folder_that_was_renamed_with_its_study_file_begins_no_second_study(here, made, keys):
    for place in ("old/taucal.yaml", *(f"old/{file}" for file in made)):
        (here / place).parent.mkdir(parents=True, exist_ok=True)
        (here / place).write_text("name: x\noutput: old/study\ncohort: {path: old/bids}\n")
    file = Path("old/taucal.yaml")
    assert study_of(file, None).output == locate(file).output == Path("old/study")
    (here / "old").rename(here / "new")
    for read in (lambda: study_of(Path("new/taucal.yaml"), None), lambda: locate(Path("new"))):
        with pytest.raises(
            ConfigError, match=rf"^new/taucal\.yaml: .*but new/\w+ does.*correct {keys} in this"
        ):
            read()
