"""Tests of models.names: the same names as the tables that build, without importing torch."""

import inspect
import subprocess
import sys

import pytest
from monai.networks import nets
from monai.networks.nets.segresnet_ds import SegResEncoder

from models import names
from models.calibrators import CALIBRATORS, calibrator
from models.losses import LOSSES, option
from models.networks import IMAGE_NETWORKS, NETWORKS


def test_names_are_those_of_the_tables():
    assert tuple(LOSSES) == names.LOSS_NAMES
    assert tuple(CALIBRATORS) == names.CALIBRATOR_NAMES
    assert tuple(NETWORKS) == names.NETWORK_NAMES
    assert tuple(IMAGE_NETWORKS) == names.IMAGE_NETWORK_NAMES


def test_options_are_those_of_the_losses():
    assert {name: frozenset(loss.options()) for name, loss in LOSSES.items()} == names.LOSS_OPTIONS
    truths = {
        o
        for loss in LOSSES.values()
        for o, option in loss.options().items()
        if isinstance(option.default, bool)
    }
    assert truths == names.TRUTHS & {o for options in names.LOSS_OPTIONS.values() for o in options}


def parameters(*built: object) -> set[str]:
    """Return the names of what can be passed to any of some callables."""
    return {name for one in built for name in inspect.signature(one).parameters}


def test_options_are_those_of_the_networks():
    assert set(names.NETWORK_OPTIONS) == {*names.NETWORK_NAMES, *names.IMAGE_NETWORK_NAMES}
    given = {
        "num_classes", "n_input_channels", "in_channels", "out_channels", "spatial_dims", "channels", "grid",
        "_grid", "kwargs", "block", "block_inplanes", "model_name",
        "feed_forward",  # without it there is no head
    }  # fmt: skip
    accepted = {
        "small_cnn": parameters(NETWORKS["small_cnn"]),
        "resnet32": parameters(IMAGE_NETWORKS["resnet32"]),
        "densenet121": parameters(nets.DenseNet121, nets.DenseNet),
        "resnet18": parameters(nets.resnet18, nets.ResNet) - {"layers"},
        "seresnet50": parameters(nets.SEResNet50, nets.SENet),
        "efficientnet_b0": parameters(nets.EfficientNetBN),
        "segresnet": parameters(SegResEncoder) - {"head_module"},
        # Of its decoder, a class, or of another kind of layer.
        "swinunetr": {
            name
            for name in parameters(nets.SwinUNETR) - {"norm_name", "norm_layer", "use_flash_attention"}
            if "hyena" not in name
        },
    }
    for name, found in accepted.items():
        assert found - given == names.NETWORK_OPTIONS[name], name


def test_names_are_imported_without_anything_heavy():
    code = "import sys, models.names; print(*[m for m in ('torch', 'numpy', 'scipy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_nearest_ignores_case_and_lists_all_where_nothing_is_near():
    assert names.nearest("GCE", names.LOSS_NAMES) == "Did you mean 'gce'?"
    assert names.nearest("xyz", ["mean", "sum"]) == "Known: mean, sum."
    assert names.nearest("xyz", []) == "Known: none."


@pytest.mark.parametrize("word", ["GCE", "focall", "temperatur", "xyz"])
def test_folders_that_stand_alone_give_the_same_hint(word):
    for known in (names.LOSS_NAMES, names.CALIBRATOR_NAMES, ()):
        hint = names.nearest(word, known)
        assert calibrator.nearest(word, known) == option.nearest(word, known) == hint
