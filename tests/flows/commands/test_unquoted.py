"""A path with a space that was typed without quotes: what the command line advises."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from flows import cli

_NEEDED = "A path that contains a space needs quotes."


def _typed(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Type a line that the command line refuses; return what is printed."""
    monkeypatch.setattr(sys, "argv", ["taucal", *shlex.split(line)])
    with pytest.raises(SystemExit, match=r"^2$"):
        cli.main()
    return capsys.readouterr().err


@pytest.fixture
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my study.yaml").write_text("name: x\noutput: y\ncohort: {path: z}\n", encoding="utf-8")
    for name in ("pet/my scans", "pet/tau", "our scans of 2026"):
        (tmp_path / name).mkdir(parents=True)


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize(
    ("line", "quoted"),
    [
        ("train my study.yaml", "'my study.yaml'"),
        ("status --study my study.yaml", "'my study.yaml'"),
        ("rollback --study=my study.yaml", "'my study.yaml'"),
        # The rest of the path becomes another argument here: the study itself is not found.
        ("read sub-A AB --study my study.yaml", "'my study.yaml'"),
        ("ingest pet/my scans --out bids", "'pet/my scans'"),
        ("ingest pet/tau our scans of 2026 --out bids", "'our scans of 2026'"),
        ("report pet/my scans --study 'my study.yaml' --out reports", "'pet/my scans'"),
        ("init new --source our scans of 2026", "'our scans of 2026'"),
    ],
)
def test_an_unquoted_path_that_exists_is_named_with_its_quotes(line, quoted, monkeypatch, capsys):
    said = _typed(line, monkeypatch, capsys)
    assert f"This path contains a space: write it in quotes, {quoted}." in " ".join(said.split())


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize(
    "line",
    [
        "phantom data/my phantom",
        "init data/my study",
        "ingest pet/tau --out data/my bids",
        "train 'my study.yaml' --set output=data/my study",
    ],
)
def test_of_a_path_that_is_not_there_yet_quotes_are_advised(line, monkeypatch, capsys):
    assert _NEEDED in " ".join(_typed(line, monkeypatch, capsys).split())


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize(
    "line",
    [
        "train 'my study.yaml'",
        "ingest nowhere --out bids",
        "train x.yaml --what",
        "agree none.csv 'my study.yaml'",  # the next word is a path of its own
        "report pet/tau none --out reports",
    ],
)
def test_another_error_advises_no_quotes(line, monkeypatch, capsys):
    assert "quotes" not in _typed(line, monkeypatch, capsys)


@pytest.mark.usefixtures("_files")
def test_an_argument_too_many_that_is_a_path_of_its_own_lacks_no_quotes(monkeypatch, capsys):
    printed = _typed("reports pet/tau", monkeypatch, capsys)
    assert "unexpected extra argument" in printed
    assert _NEEDED not in " ".join(printed.split())
