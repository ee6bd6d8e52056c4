"""Every setting of a study as a table, made from the models that read it.

Run as ``python tests/helpers/settings_table.py``, it writes configs/README.md.

The text after a field is its meaning, in the README of `configs` as in the code.
"""

from __future__ import annotations

import ast
import inspect
import re
import types
import typing
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from pipeline.config import Study
from pipeline.config.section import Section

README = Path(__file__).resolve().parents[2] / "configs" / "README.md"
HIDDEN = ("asked",)
"""Keys that a command sets for itself."""
UNITS = {
    "_mm": "mm", "_min": "min", "_deg": "degrees", "_days": "days", "_months": "months", "_pixels": "pixels",
    "max_days_to_diagnosis": "days", "suvr_max": "SUVR", "uncertain_from": "SUVR", "positive_from": "SUVR",
    "noise_sd": "SUVR", "intensity_shift": "SUVR", "image_size": "pixels", "epochs": "epochs",
    "patience": "epochs", "warmup_epochs": "epochs", "region_z": "SD", "negative_log_likelihood": "nats",
}  # fmt: skip
"""End of a key, or the key, and its unit."""
HEAD = """\
# Settings

One YAML file is one study. Only `name`, `output` and `cohort.path` are required; `taucal init` writes a first
file, and the files here are complete studies:

| file | what |
|---|---|
{files}
A wrong key or value is refused with its place, the value and the nearest right one, before anything runs.
`--set training.epochs=5` changes a setting for one call. Relative paths count from the folder in which
`taucal` is started. `study.yaml` in an output folder is the study that was run, with every default in it.

In YAML a section is an indented block or `{{key: value}}`, a list is `[a, b]`, and "none" is `null`.
This page is made from the models of `pipeline/config/` by `python tests/helpers/settings_table.py`; a test
holds them equal.
"""


def text() -> str:
    """Return the README of `configs`."""
    files = "".join(
        f"| [{p.name}]({p.name}) | {_purpose(p)} |\n" for p in sorted(README.parent.glob("*.yaml"))
    )
    parts = [HEAD.format(files=files), _section("", Study, _own(Study))]
    for name, field in Study.model_fields.items():
        if name not in HIDDEN and (inner := _model(field.annotation)):
            parts.append(_section(name, inner, _own(inner)))
            parts += [
                _section(f"{name}.{key}", below, _own(below))
                for key, nested in inner.model_fields.items()
                if (below := _model(nested.annotation))
            ]
    return "\n".join(parts)


def undocumented() -> list[str]:
    """Return the fields whose meaning is not written down."""
    found = []
    for model in _models(Study):
        meanings = _meanings(model)
        found += [
            f"{model.__name__}.{key}"
            for key in _own(model)
            if key not in meanings and not _is_part(model, key)
        ]
    return found


def _models(model: type[BaseModel]) -> list[type[BaseModel]]:
    inner = [m for key, f in model.model_fields.items() if key not in HIDDEN and (m := _model(f.annotation))]
    return [model, *(found for part in inner for found in _models(part))]


def _is_part(model: type[BaseModel], key: str) -> bool:
    return model is Study and _model(model.model_fields[key].annotation) is not None


def _own(model: type[BaseModel]) -> list[str]:
    """Return the keys of a table: a section of the study has a table of its own."""
    return [key for key in model.model_fields if key not in HIDDEN and not _is_part(model, key)]


def _section(name: str, model: type[BaseModel], keys: list[str]) -> str:
    title = f"## {name}" if name else "## The study itself"
    first = " ".join((inspect.getdoc(model) or "").partition("\n\n")[0].split()) if name else ""
    rows = [_row(name, model, key) for key in keys]
    lead = f"\n{first}\n" if first else ""
    return f"{title}\n{lead}\n| key | type | default | unit | meaning |\n|---|---|---|---|---|\n" + "".join(
        rows
    )


def _row(section: str, model: type[BaseModel], key: str) -> str:
    field = model.model_fields[key]
    meaning = _meanings(model).get(key, "")
    if inner := _model(field.annotation):
        meaning = f"{meaning} See the keys of [{section}.{key}](#{section}{key})."
        if typing.get_origin(field.annotation) is tuple:
            meaning += " A list of such sections."
    default = field.get_default(call_default_factory=True)
    cells = [
        f"`{key}`",
        _type(field.annotation, field.metadata),
        _default(default, nested=inner is not None),
        _unit(key),
        meaning,
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _unit(key: str) -> str:
    if key in UNITS:
        return UNITS[key]
    return next((unit for end, unit in UNITS.items() if end.startswith("_") and key.endswith(end)), "")


def _default(value: Any, *, nested: bool) -> str:
    if value is PydanticUndefined:
        return "**required**"
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        return "its keys'"
    if nested and value and isinstance(value, tuple):
        return ", ".join(f"`{getattr(v, 'title', v)}`" for v in value)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value if value != {} else '{}'}`"


def _type(annotation: Any, metadata: typing.Sequence[Any] = ()) -> str:
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        found = [m for part in parts[1:] for m in getattr(part, "metadata", [part])]
        return _type(parts[0], found)
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(part, metadata) for part in parts if part is not type(None)) + " or none"
    if origin is tuple:
        return f"list of {_type(parts[0])}"
    if origin is dict:
        return "keys and values"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    names = {str: "text", Path: "path", int: "whole number", float: "number", bool: "`true` or `false`"}
    limits = ", ".join(_limits(metadata))
    return names[annotation] + (f", {limits}" if limits else "")


def _limits(metadata: typing.Sequence[Any]) -> list[str]:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    return [
        f"{sign} {getattr(m, key):.12g}" for m in metadata for key, sign in signs.items() if hasattr(m, key)
    ]


def _model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((m for part in typing.get_args(annotation) if (m := _model(part))), None)


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return the text after each field."""
    (tree,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, after in zip(tree.body, tree.body[1:], strict=False):
        named = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if named and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[field.target.id] = re.sub(r"``", "`", " ".join(str(after.value.value).split()))
    return found


def _purpose(path: Path) -> str:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    return first.removeprefix("#").strip().partition(". ")[0].rstrip(".:")


if __name__ == "__main__":
    README.write_text(text(), encoding="utf-8")
