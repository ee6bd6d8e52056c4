"""What holds for every calibrator: shapes, round trip, refusals, and odd but lawful input."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.calibrators import CALIBRATORS, Calibrator, build_calibrator, log_softmax, softmax

every_calibrator = pytest.mark.parametrize("name", list(CALIBRATORS))
KEEP_THE_CLASS = ["identity", "temperature", "ensemble_temperature"]
SHRUNKEN = ["bias_corrected_temperature", "adaptive_temperature", "vector"]  # offsets with a prior

lawful_logits = st.integers(2, 5).flatmap(
    lambda k: st.integers(1, 40).flatmap(
        lambda n: st.tuples(
            arrays(np.float64, (n, k), elements=st.floats(-1000, 1000)),
            arrays(np.int64, n, elements=st.integers(0, k - 1)),
        )
    )
)


def assert_distributions(probabilities, shape):
    assert probabilities.shape == shape
    assert probabilities.dtype == np.float64
    assert np.all((probabilities >= 0) & (probabilities <= 1))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-12)


@every_calibrator
@given(scans=lawful_logits)
@settings(max_examples=40, deadline=None)
def test_any_lawful_input_gives_distributions_and_survives_json_bit_for_bit(name, scans):
    logits, labels = scans
    calibrator = build_calibrator(name).fit(logits, labels)
    probabilities = calibrator.transform(logits)
    assert_distributions(probabilities, logits.shape)
    stored = json.loads(json.dumps(calibrator.to_dict(), allow_nan=False))
    again = Calibrator.from_dict(stored)
    assert type(again) is type(calibrator)
    np.testing.assert_array_equal(again.transform(logits), probabilities)
    assert again.to_dict() == stored


@every_calibrator
def test_options_survive_the_round_trip(name):
    options = {
        "temperature": {"prior": (0.1, 0.4)},
        "adaptive_temperature": {"offsets": False, "min_per_piece": 20, "interpolate": False, "plain": True},
        "vector": {"ridge": 0.5},
        "dirichlet": {"off_diagonal": 0.1, "intercept": 0.0},
        "histogram": {"bins": 4, "scheme": "width"},
    }.get(name, {})  # fmt: skip
    stored = build_calibrator(name, **options).fit(np.eye(3), [0, 1, 2]).to_dict()
    again = Calibrator.from_dict(json.loads(json.dumps(stored, allow_nan=False)))
    assert {key: getattr(again, key) for key in options} == options


@every_calibrator
def test_what_says_it_keeps_the_class_does_and_what_says_it_may_not_can(name, drawn):
    logits, labels = drawn(300, 3, 1.0)
    biased = logits + np.array([2.0, 0.0, 0.0])
    calibrator = build_calibrator(name).fit(biased, labels)
    changed = calibrator.transform(biased).argmax(axis=1) != biased.argmax(axis=1)
    assert calibrator.may_change_class == (name not in KEEP_THE_CLASS) == bool(changed.any())


@every_calibrator
def test_fit_returns_itself_and_does_not_change_its_input(name, drawn):
    logits, labels = drawn(60)
    before = logits.copy()
    calibrator = build_calibrator(name)
    assert calibrator.fit(logits, labels) is calibrator
    calibrator.transform(logits)
    np.testing.assert_array_equal(logits, before)


@every_calibrator
def test_a_second_fit_forgets_the_first(name, drawn):
    first, second = drawn(120, k=4, scale=5.0), drawn(80, k=3, scale=0.5, seed=1)
    refitted = build_calibrator(name).fit(*first).fit(*second)
    assert refitted.to_dict() == build_calibrator(name).fit(*second).to_dict()


@every_calibrator
def test_float32_logits_are_taken_as_the_float64_they_are(name, drawn):
    logits, labels = drawn(60)
    narrow = logits.astype(np.float32)
    expected = build_calibrator(name).fit(narrow.astype(np.float64), labels).transform(narrow.astype(float))
    np.testing.assert_array_equal(build_calibrator(name).fit(narrow, labels).transform(narrow), expected)


@every_calibrator
def test_a_scan_is_calibrated_alike_alone_and_among_others(name, drawn):
    logits, labels = drawn(200)
    calibrator = build_calibrator(name).fit(logits, labels)
    together = calibrator.transform(logits[:20])
    alone = np.concatenate([calibrator.transform(logits[i : i + 1]) for i in range(20)])
    np.testing.assert_allclose(alone, together, rtol=1e-13)
    assert_distributions(calibrator.transform(logits[:0]), (0, 3))


@every_calibrator
def test_a_class_absent_from_the_calibration_split_keeps_a_sound_probability(name, drawn):
    logits, labels = drawn(300)
    seen = labels != 2
    calibrator = build_calibrator(name).fit(logits[seen], labels[seen])
    # A scan that the network is sure belongs to the unseen class must not be ruled out of it.
    assert calibrator.transform([[0.0, 0.0, 12.0]])[0].argmax() == 2


@every_calibrator
def test_logits_that_are_all_equal_give_finite_answers_everywhere(name):
    calibrator = build_calibrator(name).fit(np.full((30, 3), 7.0), [0] * 15 + [1] * 10 + [2] * 5)
    assert_distributions(calibrator.transform([[7.0, 7.0, 7.0], [1000.0, -1000.0, 0.0]]), (2, 3))


@every_calibrator
def test_all_equal_logits_are_answered_by_a_uniform_row_or_the_class_shares(name):
    calibrator = build_calibrator(name).fit(np.zeros((30, 3)), [0] * 15 + [1] * 10 + [2] * 5)
    answer = calibrator.transform([[0.0, 0.0, 0.0]])[0]
    expected = [1 / 3] * 3 if name in KEEP_THE_CLASS else [0.5, 1 / 3, 1 / 6]
    if name in SHRUNKEN:  # thirty scans move an offset from 0, but not the whole way
        assert 1 / 3 < answer[0] < 0.5
        assert 1 / 6 < answer[2] < 1 / 3
    else:
        np.testing.assert_allclose(answer, expected, atol=0.01)


def awkward():
    """Return logits and labels that a small or odd calibration part may hold, by what is odd about them."""
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(40, 3)) * 2
    labels = rng.integers(0, 3, 40)
    one_person = np.tile(logits[:1], (20, 1)) + rng.normal(size=(20, 3)) * 0.01
    return {
        "one scan": (logits[:1], labels[:1]),
        "one subject, twenty scans": (one_person, np.full(20, labels[0])),
        "three scans": (logits[:3], np.array([0, 1, 2])),
        "three scans of one class": (logits[:3], np.ones(3, int)),
        "all of one class": (logits, np.zeros(40, int)),
        "two classes": (logits[:, :2], labels % 2),
        "a hundred classes": (rng.normal(size=(60, 100)), rng.integers(0, 100, 60)),
        "logits of a thousand": (np.sign(logits) * 1000, labels),
        "identical rows": (np.tile(logits[:1], (40, 1)), labels),
        "identical logits": (np.full((40, 3), -4.0), labels),
    }


AWKWARD = awkward()


@every_calibrator
@pytest.mark.parametrize("case", list(AWKWARD))
def test_awkward_scans_give_finite_stored_answers_for_themselves_and_for_others(name, case):
    logits, labels = AWKWARD[case]
    calibrator = build_calibrator(name).fit(logits, labels)
    others = np.random.default_rng(6).normal(size=(200, logits.shape[1])) * 5
    stored = json.loads(json.dumps(calibrator.to_dict(), allow_nan=False))
    again = Calibrator.from_dict(stored)
    for scans in (logits, others, others * 1000):
        answer = calibrator.transform(scans)
        assert_distributions(answer, scans.shape)
        np.testing.assert_array_equal(again.transform(scans), answer)
        if not calibrator.may_change_class:
            likeliest = np.take_along_axis(answer, scans.argmax(axis=1)[:, None], axis=1)[:, 0]
            np.testing.assert_array_equal(likeliest, answer.max(axis=1))


@every_calibrator
@pytest.mark.parametrize("case", ["one scan", "one subject, twenty scans", "three scans of one class"])
def test_scans_of_one_class_do_not_rule_out_the_others(name, case):
    calibrator = build_calibrator(name).fit(*AWKWARD[case])
    assert calibrator.transform(np.eye(3) * 2).diagonal().min() > 0.05


@every_calibrator
def test_one_scan_is_enough_to_fit_and_its_neighbour_stays_possible(name):
    calibrator = build_calibrator(name).fit([[1.0, 0.0, -1.0]], [0])
    assert calibrator.transform([[0.0, 1.0, -1.0]])[0, 1] > 0.1


@every_calibrator
@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([1.0, 2.0], [0, 1], r"shape \(2,\)\. Expected \(scans, classes\)"),
        ([[1.0], [2.0]], [0, 0], r"shape \(2, 1\)\. .*at least 2 classes"),
        ([[1.0, 2.0], [np.nan, 0.0]], [0, 0], r"not finite in row 1: \[nan, 0.0\]"),
        ([[1.0, np.inf]], [0], "not finite in row 0: .*inf"),
        ([["CN", "AD"]], [0], "cannot be read as an array of real numbers: could not convert string"),
        ([[1.0, 2.0], [1.0]], [0, 0], "cannot be read as an array of real numbers: .*inhomogeneous shape"),
        ([[1.0 + 2j, 2.0]], [0], "cannot be read as an array of real numbers: Cannot cast"),
        ([[1.0, 2.0]], [0, 1], r"shape \(2,\) for 1 scans\. Expected one per scan"),
        (np.zeros((0, 2)), np.zeros(0, int), r"no scans to fit on\. .*at least one"),
        ([[1.0, 2.0]], [0.0], r"Labels are float64\. Expected integers"),
        ([[1.0, 2.0]], [2], r"from 2 to 2\. Expected classes 0 to 1"),
        ([[1.0, 2.0]], [-1], r"from -1 to -1\. Expected classes 0 to 1"),
    ],
)
def test_input_that_breaks_a_rule_is_refused_with_the_value(name, logits, labels, message):
    with pytest.raises(ValueError, match=message):
        build_calibrator(name).fit(logits, labels)


@every_calibrator
def test_another_number_of_classes_than_fitted_is_refused(name, drawn):
    calibrator = build_calibrator(name).fit(*drawn(60))
    with pytest.raises(ValueError, match=f"Logits have 2 classes, but {name} was fitted for 3"):
        calibrator.transform([[1.0, 0.0]])


@pytest.mark.parametrize("name", [name for name in CALIBRATORS if name != "identity"])
def test_transform_before_fit_is_refused(name):
    with pytest.raises(ValueError, match=rf"{name} is not fitted\. Call fit\(logits, labels\)"):
        build_calibrator(name).transform([[1.0, 0.0]])


def test_identity_is_softmax_and_needs_no_fitting(drawn):
    logits, labels = drawn(60)
    identity = build_calibrator("identity")
    np.testing.assert_array_equal(identity.transform(logits), softmax(logits))
    np.testing.assert_array_equal(identity.fit(logits, labels).transform(logits), softmax(logits))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("temperatures", {}, r"named 'temperatures'\. Did you mean 'temperature'"),
        ("zzz", {}, r"named 'zzz'\. Known: identity, temperature"),
        ("adaptive_temperature", {"offset": True}, r"no option 'offset'\. Did you mean 'offsets'"),
        ("temperature", {"temperature": 2.0}, r"no option 'temperature'\. Known: prior"),
        ("identity", {"temperature": 2.0}, r"no option 'temperature'\. Known: none"),
        (
            "temperature",
            {"prior": (0.0, 0.0)},
            r"prior=\(0.0, 0.0\) is not valid.*mean and standard deviation",
        ),
        ("temperature", {"prior": "flat"}, "prior='flat' is not valid.*'learned', None, or mean"),
        ("temperature", {"prior": (0.2,)}, r"prior=\(0.2,\) is not valid.*mean and standard deviation"),
        ("temperature", {"prior": (0.2, 0.3, 0.4)}, "prior=.* is not valid.*mean and standard deviation"),
        ("temperature", {"prior": 0.3}, "prior=0.3 is not valid.*mean and standard deviation"),
        ("adaptive_temperature", {"plain": "no"}, "plain='no' is not valid. Expected True or False"),
        ("adaptive_temperature", {"min_per_piece": 2.5}, "min_per_piece=2.5 is not valid.*whole number"),
        ("histogram", {"bins": "10"}, "bins='10' is not valid.*whole number"),
        ("vector", {"ridge": "5"}, "ridge='5' is not valid.*finite number of at least 0"),
        ("adaptive_temperature", {"min_per_piece": 0}, "min_per_piece=0 is not valid.*at least 1"),
        ("vector", {"ridge": -1.0}, "ridge=-1.0 is not valid.*finite number of at least 0"),
        ("dirichlet", {"intercept": float("inf")}, "intercept=inf is not valid.*finite number of at least 0"),
        ("histogram", {"bins": 0}, "bins=0 is not valid.*at least 1"),
        ("histogram", {"scheme": "equal"}, "scheme='equal' is not valid.*'mass' or 'width'"),
    ],
)
def test_an_unknown_name_or_option_is_refused_and_the_nearest_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_calibrator(name, **options)


def test_a_stored_calibrator_that_lacks_a_part_is_refused():
    stored = build_calibrator("temperature").fit([[1.0, 0.0]], [0]).to_dict()
    with pytest.raises(ValueError, match=r"lacks fitted\. Expected name, options and fitted"):
        Calibrator.from_dict({"name": "temperature", "options": {}})
    with pytest.raises(
        ValueError,
        match=r"has the learned values num_classes\. "
        r"Expected biases, log_temperatures, num_classes, temperature",
    ):
        Calibrator.from_dict({**stored, "fitted": {"num_classes": 2}})


@pytest.mark.parametrize("scale", [1.0, 1000.0, 1e99])
def test_softmax_and_its_logarithm_agree_and_stay_finite(rng, scale):
    logits = rng.uniform(-1, 1, size=(50, 4)) * scale
    assert np.isfinite(log_softmax(logits)).all()
    np.testing.assert_allclose(np.exp(log_softmax(logits)), softmax(logits), rtol=1e-12)
