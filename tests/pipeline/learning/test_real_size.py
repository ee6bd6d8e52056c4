"""Networks of real size take a step on volumes of 2 mm, compiled ones end where others do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.preprocessing import Preprocessing
from pipeline.learning.loading import LabelledVolumes
from pipeline.learning.trained import WEIGHTS
from pipeline.learning.training import train
from pipeline.learning.training_state import initial_state
from pipeline.scan import Split

PREPROCESSING = Preprocessing(spacing_mm=2, suvr_max=4)
CLASSES = ("CN", "AD")


def three_scans() -> LabelledVolumes:
    """Noise of the size of three scans at 2 mm."""
    ids, labels = ("a", "b", "c"), np.array([0, 1, 0])
    voxels = np.random.default_rng(0).random((3, *PREPROCESSING.in_shape), dtype=np.float32)
    return LabelledVolumes(ids, ids, voxels, labels, CLASSES, PREPROCESSING, content="noise")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("densenet121", {"norm": "instance"}),
        ("resnet18", {}),
        ("resnet50", {}),
        ("swinunetr", {}),
        ("segresnet", {}),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_a_network_takes_a_step_at_2_mm(name, options, study, tmp_path):
    volumes = three_scans()
    assert volumes.in_shape == (96, 112, 96)
    settings = study(loss={"name": "gce"}, epochs=1, batch_size=2, warmup_epochs=0)
    network = settings.network.model_copy(update={"name": name, "options": options})
    settings = settings.model_copy(update={"network": network})
    before = initial_state(volumes.subset(("a", "b")), settings, torch.device("cpu")).network.state_dict()
    split = Split(("a", "b"), ("c",), (), (), {i: i for i in volumes.scan_ids})
    trained = train(volumes, split, settings, tmp_path / "out")
    assert all(np.isfinite(value) for value in trained.history[0].values())
    after = trained.network.state_dict()
    kernels = [name for name, value in before.items() if value.ndim == 5]
    assert all(not torch.equal(after[name], before[name]) for name in kernels)


@pytest.mark.slow
def test_a_compiled_training_ends_where_another_does_and_stores_the_same_names(
    volumes, split, study, tmp_path
):
    for name, settings in (("plain", {}), ("compiled", {"compile": True})):
        given = study(optimizer="sgd", loss={"name": "gce"}, epochs=2, micro_batch=3, dropout=0.0, **settings)
        train(volumes, split, given, tmp_path / name)
    one, two = (load_file(tmp_path / name / WEIGHTS) for name in ("plain", "compiled"))
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=1e-4)
