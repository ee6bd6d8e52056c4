"""Read a study; a key or value that does not belong there is refused with its place and its fix."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Hashable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import ValidationError

from models.names import nearest
from pipeline.config.moved_study import follow_move
from pipeline.config.study import Study
from pipeline.errors import ConfigError

_HERE = Path(__file__).resolve()
SHIPPED = next(
    (p for p in (_HERE.with_name("shipped"), _HERE.parents[2] / "configs") if p.is_dir()), Path("configs")
)
"""Folder of the studies that come with this program: beside this file in a wheel, `configs` in a checkout."""


def shipped_study(name: str) -> Path:
    """Return the file of a study that comes with this program, as ``demo``."""
    return SHIPPED / f"{name}.yaml"


def load_study(
    path: Path, overrides: tuple[str, ...] = (), places: Mapping[str, object] = MappingProxyType({})
) -> Study:
    """Read a study from YAML and change some of its settings.

    The ``study.yaml`` that training writes follows its folder: where that was moved or copied, the output
    folder is the one it is in now, and so is what was below it.

    Parameters
    ----------
    path : Path
        YAML file.
    overrides : tuple of str
        ``"training.epochs=5"``. A value in brackets, braces or quotes is read as YAML, a number, true, false
        or null as such, and anything else as the text it is.
    places : mapping of str to object
        Settings that change before the overrides do, by dotted key.

    Raises
    ------
    ConfigError
        If the file is missing, is not YAML, or holds a key or value that is wrong or does not fit others; the
        message names the file, the line or key, what is expected and the nearest valid key.
    """
    tree = _read(path)
    if path.name == "study.yaml" and (path.parent / ".records").is_dir():
        follow_move(tree, path.parent)
    for key, value in places.items():
        _put(tree, key, str(value) if isinstance(value, Path) else value, where=key)
    texts = _by_key(overrides)
    for key, text in texts.items():
        _put(tree, key, _value(key, text), where=f"--set {key}={text}")
    try:
        return Study.model_validate(tree)
    except ValidationError as error:
        # A text that looks like a number, as a folder named 2026, is tried again as the text it is.
        wrong = {".".join(map(str, problem["loc"])) for problem in error.errors()} & set(texts)
        for key in wrong:
            _put(tree, key, texts[key], where=key)
        try:
            return Study.model_validate(tree)
        except ValidationError:
            raise _explain(error, path) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"Byte {error.start + 1} is not UTF-8 text", where=str(path), hint="save the file as UTF-8"
        ) from error
    except OSError as error:
        shipped = ", ".join(sorted(p.name for p in SHIPPED.glob("*.yaml")))
        inside = [str(path / name) for name in ("taucal.yaml", "study.yaml") if (path / name).is_file()]
        if inside:
            raise ConfigError(
                "This is a folder, expected a study file", where=str(path), hint=f"name {inside[0]}"
            ) from error
        raise ConfigError(
            f"The study file cannot be read: {error.strerror}",
            where=str(path),
            hint=f"check the path; `taucal init` writes a first one; {shipped} are in {SHIPPED}",
        ) from error
    try:
        tree = yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 - a subclass of the safe loader
    except yaml.YAMLError as error:
        raise ConfigError(f"This is not YAML: {_where_in_yaml(error)}", where=str(path)) from error
    if not isinstance(tree, dict):
        found = {type(None): "nothing", list: "a list"}.get(type(tree), "a single value")
        raise ConfigError(
            f"A study file holds keys and values, this one holds {found}",
            where=str(path),
            hint="it needs the keys name, output and cohort.path; `taucal init` writes a first one",
        )
    return tree


class _UniqueKeys(yaml.SafeLoader):
    """The safe loader, which lets the last of two equal keys win; this one refuses the second."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - as in yaml
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and lines.setdefault(key.value, line) != line:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key.value!r} is already in line {lines[key.value]}; remove one",
                    problem_mark=key.start_mark,
                )
        return super().construct_mapping(node, deep=deep)


def _where_in_yaml(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error).partition("\n")[0]
    problem = getattr(error, "problem", None) or "it cannot be read"
    if r"'\t'" in problem:
        problem = "a tab; indent with spaces"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def _by_key(overrides: tuple[str, ...]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(
                f"{text!r} does not look like KEY=VALUE", where="--set", hint="write training.epochs=5"
            )
        if key in texts:
            raise ConfigError(
                f"two values, {texts[key]} and {value}", where=f"--set {key}", hint="remove one"
            )
        texts[key] = value
    return texts


def _value(key: str, text: str) -> Any:
    """Return the value of an override: YAML where it must be, else number, constant or text.

    Examples
    --------
    >>> [_value("key", text) for text in ("[CN, AD]", ".5", "null", "runs/Study #1", "~/runs: new")]
    [['CN', 'AD'], 0.5, None, 'runs/Study #1', '~/runs: new']
    """
    if text[:1] in tuple("[{\"'"):
        try:
            return yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 - a subclass of the safe loader
        except yaml.YAMLError as error:
            raise ConfigError(
                f"This is not YAML: {_where_in_yaml(error)}",
                where=f"--set {key}={text}",
                hint="close every bracket and quote",
            ) from error
    constants = {"": None, "~": None, "null": None, "true": True, "false": False}
    if text.lower() in constants:
        return constants[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _put(tree: dict[str, Any], key: str, value: Any, where: str) -> None:
    *parents, last = key.split(".")
    node = tree
    for parent in parents:
        if node.get(parent) is None:
            node[parent] = {}
        node = node[parent]
        if not isinstance(node, dict):
            kind = "a list" if isinstance(node, list) else "a value"
            raise ConfigError(
                f"The key {parent} holds {kind}, no section", where=where, hint=f"set the whole of {parent}"
            )
    node[last] = value


def _explain(error: ValidationError, path: Path) -> ConfigError:
    lines = []
    for problem in error.errors(include_url=False):
        place = [str(part) for part in problem["loc"]]
        key = ".".join(place)
        if problem["type"] == "extra_forbidden":
            homes = [] if place[1:] else [f"{s}.{key}" for s in _sections() if key in _valid_keys([s])]
            hint = f"Did you mean {' or '.join(homes)}?" if homes else ""
            lines.append(f"{key}: no such key. {hint or nearest(place[-1], _valid_keys(place[:-1]))}")
        elif problem["type"] == "missing":
            lines.append(f"{key}: this key is missing")
        elif problem["type"] == "value_error":
            texts = problem["msg"].removeprefix("Value error, ").splitlines()
            lines += [f"{key}: {text}" if key else text for text in texts]
        else:
            text = f"{key or 'study'}: {_expected(problem['msg'])}, found {problem.get('input')!r:.80}"
            lines.append(text + _advice(problem, place))
    return ConfigError("These settings are wrong:\n  " + "\n  ".join(lines), where=str(path))


def _expected(text: str) -> str:
    """Return what pydantic expects in the words of YAML."""
    text = re.sub(
        "a valid dictionary or instance of .*|a valid dictionary", "a section of keys and values", text
    )
    return text.replace("a valid tuple", "a list, as [a, b]")


def _advice(problem: Mapping[str, Any], place: list[str]) -> str:
    """Return how to write the value that was meant, where that can be seen."""
    given: Any = problem.get("input")
    kind = problem["type"]
    if kind == "float_parsing" and re.fullmatch(r"-?\d+,\d+", str(given)):
        return f"; with a decimal point it is {given.replace(',', '.')}"
    if kind.startswith("less_than") and 1 in problem["ctx"].values() and 1 < (value := float(given)) <= 100:
        return f"; {value:g} % is {value / 100:g}"
    if kind == "model_type" and isinstance(given, str) and "name" in _valid_keys(place):
        return f"; write {{name: {given}}}"
    if isinstance(given, list) and place == ["ingest", "source"]:
        return "; name one here, the others in ingest.more_sources"
    return ""


def _valid_keys(place: list[str]) -> list[str]:
    model: Any = Study
    for part in place:
        if part.isdigit():
            continue
        model = _section_of(model.model_fields[part].annotation)
    return list(model.model_fields)


def _sections() -> list[str]:
    return [name for name, field in Study.model_fields.items() if hasattr(field.annotation, "model_fields")]


def _section_of(annotation: Any) -> Any:
    origin = typing.get_origin(annotation)
    if origin in (tuple, typing.Union, types.UnionType):
        return next(_section_of(a) for a in typing.get_args(annotation) if a not in (..., type(None)))
    return annotation
