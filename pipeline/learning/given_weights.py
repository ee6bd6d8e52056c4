"""Weights that training starts from: another study's network, or one that was trained on other images."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.networks import Network
from pipeline.config import NetworkSettings
from pipeline.errors import ConfigError
from pipeline.files import sha256_of_file

_log = logging.getLogger(__name__)
_BODY, _HEAD = "body.", "head."


def load_given(network: Network, settings: NetworkSettings) -> None:
    """Put given weights into a network; a head that is missing or of another shape keeps its random ones.

    Names are those of `models.networks.Network`, ``body.*`` and ``head.*``, as a study writes them to
    ``network.safetensors``; names of the body alone may lack their ``body.``.

    Raises
    ------
    ConfigError
        If the file is not there, is not what `weights_sha256` states, or its names and shapes are not those
        of the network's body, which are listed.
    """
    own, given = network.state_dict(), check_given(network, settings)
    head = {name for name in own if name.startswith(_HEAD)}
    taken = all(name in given and given[name].shape == own[name].shape for name in head)
    if not taken:
        _log.warning(
            "network.weights (%s): the head keeps its random weights, its shape is another", settings.weights
        )
    network.load_state_dict({n: given[n] for n in own if n not in head or taken}, strict=False)


def check_given(network: Network, settings: NetworkSettings) -> dict[str, Tensor]:
    """Return given weights by their names in a network, whose values are not looked at.

    Raises
    ------
    ConfigError
        As `load_given`.
    """
    path = settings.weights_file()
    seen = sha256_of_file(path)
    if settings.weights_sha256 not in (None, seen):
        raise ConfigError(
            f"The file's SHA-256 is {seen}, expected {settings.weights_sha256}",
            where=f"network.weights_sha256 ({path})",
            hint="name the file that was meant, or correct the digest",
        )
    try:
        given = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            f"The weights cannot be read as safetensors ({error})",
            where=f"network.weights ({path})",
            hint="save them with safetensors.torch.save_file",
        ) from error
    if not any(name.startswith(_BODY) for name in given):
        given = {name if name.startswith(_HEAD) else _BODY + name: value for name, value in given.items()}
    _check(network.state_dict(), given, f"network.weights ({path})", settings.name)
    return given


def _check(own: dict[str, Tensor], given: dict[str, Tensor], where: str, name: str) -> None:
    body = {n for n in own if n.startswith(_BODY)}
    missing = sorted(body - given.keys())
    unknown = sorted(n for n in given if n not in own)
    shaped = [
        f"{n} {tuple(given[n].shape)} for {tuple(own[n].shape)}"
        for n in sorted(body & given.keys())
        if given[n].shape != own[n].shape
    ]
    found = [
        f"{len(names)} {what}: {_few(names)}"
        for what, names in (
            ("missing", missing), ("unknown", unknown), ("of another shape", shaped),
        )
        if names
    ]  # fmt: skip
    if found:
        raise ConfigError(
            f"The weights are not of {name} with these options; {'; '.join(found)}",
            where=where,
            hint="name the network and network.options that the weights were trained with",
        )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (" ..." if len(names) > 4 else "")
