"""A trained network and its files, also those of earlier versions."""

from __future__ import annotations

import json

import numpy as np

from pipeline.learning.inference import predict
from pipeline.learning.trained import RECORD, WEIGHTS, TrainedNetwork
from pipeline.learning.training import train


def test_a_trained_network_comes_back_from_its_files(volumes, split, study, tmp_path):
    trained = train(volumes, split, study(), tmp_path)
    loaded = TrainedNetwork.load(tmp_path)
    one, two = (predict(t.network, volumes) for t in (trained, loaded))
    np.testing.assert_array_equal(one.logits, two.logits)
    assert loaded.history == trained.history
    assert loaded.preprocessing == trained.preprocessing
    assert sorted(p.name for p in tmp_path.iterdir()) == [WEIGHTS, RECORD]


def test_a_record_with_the_older_name_of_the_prior_correction_loads(volumes, split, study, tmp_path):
    trained = train(volumes, split, study(loss={"name": "weighted_ce"}, epochs=1), tmp_path)
    record = json.loads((tmp_path / RECORD).read_text())
    record["undone"] = record.pop("prior_correction")
    (tmp_path / RECORD).write_text(json.dumps(record))
    loaded = TrainedNetwork.load(tmp_path)
    assert loaded.prior_correction.to_dict() == trained.prior_correction.to_dict()
    assert (loaded.prior_correction.offset != 0).any()
