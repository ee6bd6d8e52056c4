"""Names that a study may give to losses, calibrators and networks; light, so that a typo is found at once.

Importing this imports neither torch nor scipy. A test holds the names equal to the tables that build from
them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LOSS_NAMES = (
    "ce",
    "weighted_ce",
    "class_balanced",
    "balanced_softmax",
    "logit_adjusted",
    "ldam",
    "vs",
    "label_smoothing",
    "entropy_penalty",
    "mbls",
    "gamma_ce",
    "focal",
    "flsd53",
    "adafocal",
    "dual_focal",
    "poly1",
    "mmce",
    "mdca",
    "acls",
    "symmetric_ce",
    "brier",
    "gce",
    "gce_logit_adjusted",
)
CALIBRATOR_TITLES = {
    "identity": "uncalibrated",
    "temperature": "temperature scaling",
    "bias_corrected_temperature": "bias-corrected temperature scaling",
    "adaptive_temperature": "adaptive temperature scaling",
    "ensemble_temperature": "ensemble temperature scaling",
    "vector": "vector scaling",
    "dirichlet": "Dirichlet calibration",
    "isotonic": "isotonic regression",
    "histogram": "histogram binning",
}
"""What pages, sentences and the terminal call each calibrator; settings and files have its name."""
CALIBRATOR_NAMES = tuple(CALIBRATOR_TITLES)
NETWORK_NAMES = (
    "small_cnn",
    "densenet121",
    "densenet169",
    "resnet10",
    "resnet18",
    "resnet50",
    "seresnet50",
    "efficientnet_b0",
    "segresnet",
    "swinunetr",
)
IMAGE_NETWORK_NAMES = ("small_cnn", "resnet18", "resnet32", "resnet50")

LOSS_OPTIONS = {
    name: frozenset(("reduction", *options.split()))
    for name, options in {
        "class_balanced": "beta",
        "logit_adjusted": "tau",
        "ldam": "max_m s",
        "vs": "gamma tau",
        "label_smoothing": "alpha",
        "entropy_penalty": "alpha",
        "mbls": "margin alpha",
        "gamma_ce": "gamma threshold schedule",
        "focal": "gamma",
        "flsd53": "gamma gamma_hard threshold",
        "adafocal": "bins gamma lam clip switch",
        "dual_focal": "gamma",
        "poly1": "epsilon",
        "mmce": "lam width",
        "mdca": "beta",
        "acls": "alpha lam1 lam2 margin",
        "symmetric_ce": "alpha beta",
        "gce": "weight warmup_epochs",
        "gce_logit_adjusted": "tau weight warmup_epochs",
        **dict.fromkeys(("ce", "weighted_ce", "balanced_softmax", "brier"), ""),
    }.items()
}
"""Options of each loss."""
_RESNET = (
    "conv1_t_size conv1_t_stride no_max_pool shortcut_type widen_factor bias_downsample act norm pretrained "
    "progress"
)
_DENSENET = "init_features growth_rate block_config bn_size act norm dropout_prob pretrained progress"
NETWORK_OPTIONS = {
    name: frozenset(options.split())
    for name, options in {
        "small_cnn": "width dropout pooling",
        "resnet32": "",
        **dict.fromkeys(("densenet121", "densenet169"), _DENSENET),
        **dict.fromkeys(("resnet10", "resnet18", "resnet50"), _RESNET),
        "seresnet50": "layers groups reduction dropout_prob dropout_dim inplanes downsample_kernel_size "
        "input_3x3 pretrained progress",
        "efficientnet_b0": "norm pretrained progress adv_prop",
        "segresnet": "init_filters act norm blocks_down anisotropic_scales",
        "swinunetr": "patch_size depths num_heads window_size qkv_bias mlp_ratio feature_size drop_rate "
        "attn_drop_rate dropout_path_rate normalize patch_norm use_checkpoint downsample use_v2",
    }.items()
}
"""Options of each network."""
_TRUTHS = """adv_prop bias_downsample input_3x3 no_max_pool normalize patch_norm pretrained progress qkv_bias
use_checkpoint use_v2"""
TRUTHS = frozenset(_TRUTHS.split())
"""Options that are true or false; to the others that would be 1 or 0."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint for a name that is not known: the nearest known one, or all of them.

    Examples
    --------
    >>> nearest("focall", LOSS_NAMES)
    "Did you mean 'focal'?"
    >>> nearest("xyz", ["mean", "sum"])
    'Known: mean, sum.'
    """
    names = {word.lower(): word for word in known}
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    return f"Did you mean {names[near[0]]!r}?" if near else f"Known: {', '.join(names.values()) or 'none'}."
