"""Names in a study that stand for code: refused before hours of work, not after."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from models.calibrators import CALIBRATORS
from models.losses import LOSSES
from models.networks import IMAGE_NETWORKS, NETWORKS
from pipeline.config import Study
from pipeline.errors import ConfigError


def check_names(study: Study) -> None:
    """Refuse a study that names a network, loss or calibrator that does not exist.

    Raises
    ------
    ConfigError
        Naming the key, the nearest name and all names.
    """
    networks = IMAGE_NETWORKS if study.network.spatial_dims == 2 else NETWORKS
    _check("network.name", [study.network.name], networks)
    _check("training.loss.name", [study.training.loss.name], LOSSES)
    _check("compare.losses", [loss.name for loss in study.compare.losses], LOSSES)
    _check("compare.calibrators", study.compare.calibrators, CALIBRATORS)
    _check("calibration.candidates", study.calibration.candidates, CALIBRATORS)


def _check(key: str, asked: Iterable[str], known: Iterable[str]) -> None:
    names = sorted(known)
    for name in asked:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(
                f"{key} must name what there is, got {name!r}",
                where="the study",
                hint=f"{hint}Known: {', '.join(names)}",
            )
