"""The way back from a pseudonym: a private map beside the key."""

from __future__ import annotations

import json

import pytest
from ingested import cohort, tree

from pipeline.errors import InputError
from pipeline.ingest.source_map import map_beside, who


def test_the_way_back_from_a_pseudonym_is_private(put, run, tmp_path):
    image = put(tmp_path / "a", "01")
    run(tmp_path / "a", tmp_path / "bids")
    (scan,) = cohort(tmp_path / "bids")
    subject = scan.partition("_ses-")[0]
    for name in (scan, subject, subject.removeprefix("sub-")):
        (found,) = who(name, tmp_path / "key").values()
        assert (found["subject"], found["paths"]) == ("01", [str(image)])
    path = map_beside(tmp_path / "key")
    assert path.stat().st_mode & 0o777 == 0o600
    assert not path.is_relative_to(tmp_path / "bids")
    assert not [n for n, content in tree(tmp_path / "bids").items() if str(tmp_path).encode() in content]
    with pytest.raises(InputError, match="does not hold sub-NOBODY"):
        who("NOBODY", tmp_path / "key")


def test_a_map_that_is_absent_or_broken_is_named(tmp_path):
    with pytest.raises(InputError, match="There is no map") as error:
        who("X", tmp_path / "key")
    assert error.value.where == str(map_beside(tmp_path / "key"))
    map_beside(tmp_path / "key").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        who("X", tmp_path / "key")


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("Smith", "is a str, expected a JSON object"), (None, "is a NoneType"), (["a"], "is a list"),
        ({}, "has no usable subject, date, series, paths"), ({"paths": []}, "series, paths"),
        ({"paths": [1]}, "paths"), ({"paths": ["/a"], "subject": 7}, "has no usable subject, date"),
    ],
)  # fmt: skip
def test_a_map_with_a_strange_entry_is_an_error_that_names_it(tmp_path, entry, problem):
    path = map_beside(tmp_path / "key")
    whole = {"subject": "01", "date": "", "session": "", "series": "", "paths": ["/x"]}
    path.write_text(json.dumps({"sub-A_ses-1": whole, "sub-B_ses-1": entry}))
    with pytest.raises(
        InputError, match=f"Entry 'sub-B_ses-1' of the map of the pseudonyms .*{problem}"
    ) as error:
        who("A", tmp_path / "key")
    assert error.value.where == str(path)
    assert "ingest the sources again" in (error.value.hint or "")
