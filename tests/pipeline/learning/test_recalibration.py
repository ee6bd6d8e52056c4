"""A classifier's networks, moved to other class shares, are the same networks."""

import numpy as np
import pytest
from scipy.special import softmax

from models.ensemble import together
from models.networks import build_network, run
from pipeline.errors import InputError
from pipeline.learning.recalibration import recalibrate

SHAPE = (24, 28, 24)


class _Classifier:
    """What `recalibrate` reads of a classifier."""

    network_name, network_options, preprocessing, class_names = "small_cnn", {}, None, ("CN", "MCI", "AD")
    prevalence = (0.5, 0.3, 0.2)

    def __init__(self, members: int) -> None:
        self.network = together([build_network("small_cnn", 3, SHAPE) for _ in range(members)])


@pytest.mark.parametrize("members", [1, 3])
def test_every_member_answers_at_the_new_shares(members, rng):
    classifier = _Classifier(members)
    volumes = rng.random((4, *SHAPE)).astype(np.float32)
    before, _ = run(classifier.network, volumes)
    kept = recalibrate(classifier, (20, 20, 60), "version 1")
    assert len(kept) == members
    np.testing.assert_allclose(kept.prevalence, [0.2, 0.2, 0.6])
    odds = np.log([0.2, 0.2, 0.6]) - np.log(classifier.prevalence)
    if members == 1:
        after, _ = run(kept.network, volumes)
        np.testing.assert_allclose(softmax(after, axis=1), softmax(before + odds, axis=1), atol=1e-6)
    unchanged, _ = run(classifier.network, volumes)
    np.testing.assert_array_equal(unchanged, before)


def test_a_class_without_scans_is_named():
    with pytest.raises(InputError, match="There are no scans of MCI"):
        recalibrate(_Classifier(1), (5, 0, 5), "version 1")
