"""Words of tables: what they mean, and which class of a study they belong to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.diagnoses import ClassWords, classes_of, diagnosis_in, status_in

CN = (
    "CN",
    "HC",
    "Control",
    "controls",
    "CU",
    "NC",
    "NL",
    "Normal",
    "healthy control",
    "Healthy Controls",
    "Cognitively normal",
    "cognitively unimpaired",
    "Normal cognition",
    "No cognitive impairment",
    "Non-demented",
    "no dementia",
    "unimpaired",
    "no impairment",
    "healthy ageing",
    "1: CN",
    "Cognitively Normal (CN)",
    "healthy elderly volunteers",
)
SMC = ("SMC", "SCD", "significant memory concern", "Subjective Cognitive Decline")
MCI = (
    "MCI",
    "mild cognitive impairment",
    "MCI due to AD",
    "aMCI",
    "amnestic MCI",
    "MCI (amnestic)",
    "Mild Cognitive Impairment due to Alzheimer's disease",
    "Conversion: NL to MCI",
)
AD = (
    "AD",
    "AD dementia",
    "Alzheimer's disease",
    "ALZHEIMER’S DISEASE (AD)",
    "Dementia",
    "DAT",
    "probable AD",
    "3 = AD",
    "EOAD",
    "patient with AD",
    "mild AD",
    "Dementia of the Alzheimer type",
    "dementia due to Alzheimer's disease",
    "MCI to Dementia",
)
NOTHING = (
    "FTD",
    "Frontotemporal dementia",
    "non-AD dementia",
    "vascular dementia",
    "dementia with Lewy bodies",
    "control/AD family",
    "uncertain dementia",
    "patient",
    "MCI or AD",
    "control/AD",
    "not AD",
    "possible AD",
    "impaired",
    "",
    "1",
    "n/a",
    "PSP",
    "CN-",
)


@pytest.mark.parametrize(
    ("words", "meaning"),
    [(CN, ("CN", "CN")), (SMC, ("CN", "SMC")), (MCI, ("MCI", "MCI")), (AD, ("AD", "AD")), (NOTHING, None)],
    ids=["CN", "SMC", "MCI", "AD", "nothing"],
)
def test_words_of_one_meaning(words, meaning):
    assert {word: diagnosis_in(word) for word in words} == dict.fromkeys(words, meaning)


@pytest.mark.parametrize(("word", "detail"), [("EMCI", "EMCI"), ("late MCI", "LMCI"), ("Early-MCI", "EMCI")])
def test_early_and_late_mci_are_mci(word, detail):
    assert diagnosis_in(word) == ("MCI", detail)


@given(st.text())
def test_any_text_means_one_of_three_or_nothing(text):
    assert (diagnosis_in(text) or ("CN",))[0] in ("CN", "MCI", "AD")
    assert status_in(text) in ("negative", "positive", None)


@given(
    st.sampled_from(CN + MCI + AD), st.sampled_from([str.upper, str.lower, str.title, lambda t: f" {t}  "])
)
def test_case_and_blanks_mean_nothing(word, spell):
    assert diagnosis_in(spell(word)) == diagnosis_in(word)


def test_merged_words_follow_their_class_in_every_spelling():
    words = ClassWords(("CN", "impaired"), {"CN": ("CN", "SMC"), "impaired": ("MCI", "AD")})
    assert [words.class_of(t) for t in ("Healthy control", "SMC", "EMCI", "Alzheimer's disease", "FTD")] == [
        "CN", "CN", "impaired", "impaired", None,
    ]  # fmt: skip
    assert words.class_of("", "AD") == "impaired"


def test_a_class_of_its_own_takes_its_words_from_the_general_one():
    words = ClassWords(("CN", "SMC", "MCI", "AD"))
    assert [words.class_of(t) for t in ("SMC", "CU", "LMCI")] == ["SMC", "CN", "MCI"]
    assert ClassWords(("CN", "MCI")).class_of("SMC", "CN") == "CN"


def test_a_word_that_is_listed_counts_whatever_it_means():
    words = ClassWords(("CN", "other"), {"other": ("FTD", "PSP", "MCI or AD")})
    assert [words.class_of(t) for t in ("ftd", "PSP", "MCI or AD", "MCI")] == ["other"] * 3 + [None]


def test_classes_named_as_a_site_names_them_take_other_spellings():
    assert [ClassWords(("Control", "Dementia")).class_of(t) for t in ("HC", "AD", "MCI")] == [
        "Control", "Dementia", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given_classes", "merge", "target", "expected"),
    [
        ((), {}, "diagnosis", ("CN", "MCI", "AD")),
        ((), {"CN": ("CN", "SMC"), "impaired": ("MCI", "AD")}, "diagnosis", ("CN", "impaired")),
        ((), {"FTD": ("FTD", "bvFTD")}, "diagnosis", ("CN", "MCI", "AD", "FTD")),
        (("CN", "MCI"), {}, "diagnosis", ("CN", "MCI")),
        ((), {}, "visual_read", ("negative", "positive")),
        ((), {"low": ("0", "1"), "high": ("2",)}, "braak", ("low", "high")),
    ],
)
def test_the_classes_of_a_study(given_classes, merge, target, expected):
    assert classes_of(given_classes, merge, target) == expected


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("Negative", "negative"),
        ("pos", "positive"),
        ("A+", "positive"),
        ("Aβ-", "negative"),
        ("T−", "negative"),
        ("amyloid positive", "positive"),
        ("not positive", None),
        ("equivocal", None),
        ("1", None),
    ],
)
def test_reads_and_status_of_markers(text, status):
    assert status_in(text) == status
