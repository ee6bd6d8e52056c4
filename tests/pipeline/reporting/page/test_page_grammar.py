"""The check of every page finds what it is for."""

import pytest
from page_grammar import slips


@pytest.mark.parametrize(
    ("html", "words"),
    [
        ("<p>1 test scans of 3 subjects</p>", "one is no plural: 1 test scans"),
        ("<p>21 scans, 0.1 scans</p>", ""),
        ('<td class="n">-0.5 to 1</td>', "hyphen for a minus: -0.5 to 1"),
        ('<td class="n">\u22120.5, sub-01</td>', ""),
        ('<img src="a" alt="x">', ""),
        ('<img src="a" alt="">', "a picture has no name"),
    ],
)
def test_a_slip_is_found(html, words):
    found = slips(html)
    assert len(found) == bool(words)
    assert all(words in line for line in found)
