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
CALIBRATOR_NAMES = (
    "identity",
    "temperature",
    "adaptive_temperature",
    "ensemble_temperature",
    "vector",
    "dirichlet",
    "isotonic",
    "histogram",
)
NETWORK_NAMES = (
    "small_cnn",
    "densenet121",
    "densenet169",
    "resnet10",
    "resnet18",
    "resnet50",
    "seresnet50",
    "efficientnet_b0",
)
IMAGE_NETWORK_NAMES = ("small_cnn", "resnet18", "resnet32", "resnet50")


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
