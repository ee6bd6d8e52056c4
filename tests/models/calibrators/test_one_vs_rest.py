"""Isotonic and histogram: scikit-learn as a witness, bins by hand."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibrators import build_calibrator, softmax


@pytest.mark.parametrize(("n", "k"), [(300, 2), (500, 4)])
def test_isotonic_equals_scikit_learns_one_vs_rest(drawn, n, k):
    from sklearn.isotonic import IsotonicRegression

    logits, labels = drawn(n, k, 3.0)
    held_out, _ = drawn(1000, k, 4.0, seed=1)
    raw, raw_held_out = softmax(logits), softmax(held_out)
    columns = [
        IsotonicRegression(out_of_bounds="clip").fit(raw[:, c], labels == c).predict(raw_held_out[:, c])
        for c in range(k)
    ]
    expected = np.stack(columns, axis=1)
    expected = np.where(expected.sum(1, keepdims=True) > 0, expected, 1.0)
    expected /= expected.sum(axis=1, keepdims=True)
    ours = build_calibrator("isotonic").fit(logits, labels).transform(held_out)
    np.testing.assert_allclose(ours, expected, atol=1e-9)


def test_isotonic_gives_scans_of_equal_probability_their_frequency():
    logits = np.log([[0.6, 0.4]] * 4 + [[0.8, 0.2]] * 5)
    calibrated = build_calibrator("isotonic").fit(logits, [0, 0, 1, 1, 0, 0, 0, 0, 1]).transform(logits)
    np.testing.assert_allclose(calibrated[[0, -1], 0], [0.5, 0.8])


def test_histogram_answers_with_the_frequency_in_the_bin_and_the_centre_of_an_empty_one():
    logits = np.log([[0.1, 0.9], [0.2, 0.8], [0.9, 0.1], [0.95, 0.05], [0.8, 0.2]])
    histogram = build_calibrator("histogram", bins=4, scheme="width").fit(logits, [1, 0, 0, 0, 1])
    np.testing.assert_allclose(
        histogram.outputs, [[1 / 2, 3 / 8, 5 / 8, 2 / 3], [1 / 3, 3 / 8, 5 / 8, 1 / 2]]
    )
    # 0.75 belongs to the third bin, (0.5, 0.75].
    answer = histogram.transform(np.log([[0.75, 0.25]]))
    np.testing.assert_allclose(answer, [[0.625 / (0.625 + 1 / 3), 1 / 3 / (0.625 + 1 / 3)]])


def test_histogram_bins_of_equal_mass_keep_equal_values_together(drawn):
    logits, labels = drawn(200, 3)
    logits[:50] = logits[0]
    histogram = build_calibrator("histogram", bins=5).fit(logits, labels)
    raw = softmax(logits)[:, 0]
    counts = np.histogram(raw, [-1, *np.nextafter(histogram.edges[0, 1:-1], 2), 2])[0]
    assert counts.sum() == 200
    assert counts.max() >= 50
    untied = build_calibrator("histogram", bins=5).fit(*drawn(200, 3))
    raw = softmax(drawn(200, 3)[0])[:, 0]
    assert np.histogram(raw, [-1, *np.nextafter(untied.edges[0, 1:-1], 2), 2])[0].tolist() == [40] * 5


def test_a_row_that_every_class_finds_impossible_becomes_uniform():
    logits = np.array([[4.0, 0.0], [0.0, 4.0]] * 20)
    calibrator = build_calibrator("isotonic").fit(logits, [0, 1] * 20)
    calibrator.outputs[:] = 0.0
    np.testing.assert_array_equal(calibrator.transform(logits[:1]), [[0.5, 0.5]])


@pytest.mark.parametrize("name", ["isotonic", "histogram"])
def test_calibrates_where_no_temperature_can(name, rng, nll):
    # The network's odds are squared for class 0 only: the map must differ between the classes.
    truth = rng.uniform(0.05, 0.95, 5000)
    labels = (rng.random(5000) > truth).astype(int)
    logits = np.stack([np.where(truth > 0.5, 5, 1) * np.log(truth / (1 - truth)), np.zeros(5000)], axis=1)
    calibrated = build_calibrator(name).fit(logits, labels).transform(logits)
    tempered = build_calibrator("temperature", prior=None).fit(logits, labels).transform(logits)
    assert nll(calibrated, labels) < nll(tempered, labels) - 0.01
    assert np.abs(calibrated[:, 0] - truth).mean() < 0.05
