"""Read a study; a key or value that does not belong is refused with its mend."""

from __future__ import annotations

import difflib
import types
import typing
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.config.study import Study
from pipeline.errors import ConfigError


def load_study(path: Path, overrides: tuple[str, ...] = ()) -> Study:
    """Read a study from YAML and apply ``a.b=c`` overrides.

    Parameters
    ----------
    path : Path
        YAML file.
    overrides : tuple of str
        ``"training.epochs=5"``; values are read as YAML.

    Raises
    ------
    ConfigError
        If the file is missing, is not YAML, or holds a key or value that does not belong; the message
        names the file, the key, what it must be and the nearest valid key.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"A study file must be readable, got {error}", where=str(path)) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"A study file must be YAML: {error}", where=str(path)) from error
    if not isinstance(tree, dict):
        raise ConfigError(
            f"A study file must hold keys and values, got {type(tree).__name__}", where=str(path)
        )
    for text in overrides:
        _override(tree, text)
    try:
        return Study.model_validate(tree)
    except ValidationError as error:
        raise _explain(error, path) from error


def _override(tree: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"An override must look like a.b=c, got {text!r}", where="--set")
    *parents, last = key.split(".")
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"{parent} is a value, not a section", where=f"--set {text}")
    try:
        node[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"The value must be YAML: {error}", where=f"--set {text}") from error


def _explain(error: ValidationError, path: Path) -> ConfigError:
    lines = []
    for problem in error.errors(include_url=False):
        place = [str(part) for part in problem["loc"]]
        key = ".".join(place)
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(place[-1], _valid_keys(place[:-1]), n=1, cutoff=0.4)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(_valid_keys(place[:-1]))}"
            )
            lines.append(f"{key}: no such key; {hint}")
        else:
            lines.append(f"{key or 'study'}: {problem['msg']}, got {problem.get('input')!r:.80}")
    return ConfigError(
        "A study must hold known keys with values of their type:\n  " + "\n  ".join(lines) + "\n",
        where=str(path),
    )


def _valid_keys(place: list[str]) -> list[str]:
    model: Any = Study
    for part in place:
        if part.isdigit():
            continue
        model = _section_of(model.model_fields[part].annotation)
    return list(model.model_fields)


def _section_of(annotation: Any) -> Any:
    origin = typing.get_origin(annotation)
    if origin in (tuple, typing.Union, types.UnionType):
        return next(_section_of(a) for a in typing.get_args(annotation) if a not in (..., type(None)))
    return annotation
