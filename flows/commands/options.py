"""Options that several commands take, and what all commands share."""

from __future__ import annotations

import functools
import inspect
import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from flows.running.console import chosen, emit_json, say
from flows.running.environment import log_to_console
from pipeline.errors import ConfigError, InputError

if TYPE_CHECKING:  # pydantic is imported once the arguments are parsed: help and usage errors need none
    from pipeline.config import Purpose, Study

S = TypeVar("S")
Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the study.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, as training.epochs=5; repeatable."),
]
StudyOption = Annotated[
    Path | None,
    typer.Option(
        "--study",
        metavar="CONFIG_OR_FOLDER",
        help="YAML file or output folder of the trained study; default: the only study below this folder.",
        show_default=False,
    ),
]


def key_option(default: str) -> Any:
    """Return the option that names the key of the pseudonyms; `default` states which is taken without it."""
    return typer.Option(
        metavar="FILE", help=f"Secret key of the pseudonyms; default: {default}.", show_default=False
    )


_Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors, warnings and the result.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Print log messages, and the traceback of an error.")
]


_SHARED = {"json": _Json, "quiet": Quiet, "verbose": Verbose}


class Command(TyperCommand):
    """A command whose help gives arguments plain names, and lists last what all commands take."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line, without braces round what is required."""
        return [str(piece).translate({123: None, 125: None}) for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, own options and shared options, each under its title."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], "In every command": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            if parameter.param_type_name == "argument":
                sections["Arguments"].append((str(parameter.metavar), record[1]))
            elif parameter.name in {*_SHARED, "help"}:
                sections["In every command"].append(record)
            else:
                sections["Options"].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


@dataclass(frozen=True)
class PartFailed:
    """The result of a command of which some part failed: it is printed, and the exit code is 1."""

    result: Any


def choose(*, quiet: bool, verbose: bool) -> None:
    """Remember what the user wants to see beside the result."""
    chosen.quiet, chosen.verbose = chosen.quiet or quiet, chosen.verbose or verbose
    if chosen.verbose:
        log_to_console()


def command(function: Callable[..., Any]) -> Callable[..., None]:
    """Add `--json`, `--quiet` and `--verbose` to a command, whose return value is its result."""

    @functools.wraps(function)
    def run(*, json: bool, quiet: bool, verbose: bool, **given: Any) -> None:
        choose(quiet=quiet, verbose=verbose)
        chosen.json = json
        result = function(**given)
        if json:
            emit_json(result.result if isinstance(result, PartFailed) else result)
        if isinstance(result, PartFailed):
            raise typer.Exit(1)

    named = inspect.Parameter.KEYWORD_ONLY
    signature = inspect.signature(function, eval_str=True)
    parameters = [p.replace(kind=named) for p in signature.parameters.values()]
    parameters += [inspect.Parameter(n, named, default=False, annotation=a) for n, a in _SHARED.items()]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def study_of(
    config: Path,
    overrides: list[str] | None,
    purpose: Purpose | None = None,
    places: Mapping[str, Path | str] = MappingProxyType({}),
    *,
    writes: bool = True,
) -> Study:
    """Read the study of a command, and print where it writes to.

    Parameters
    ----------
    config : Path
        Its YAML file.
    overrides : list of str or None
        What ``--set`` changes.
    purpose : str, optional
        What the study is used for, see `pipeline.config.check_purpose`.
    places : mapping of str to Path or str
        Settings that another option decides; ``--set`` wins.
    writes : bool
        Whether the command writes to the study's output folder.
    """
    from pipeline.config import check_not_moved, check_purpose, load_study

    study = load_study(config, tuple(overrides or ()), places)
    check_not_moved(study, config)
    if purpose is not None:
        check_purpose(study, purpose)
    if writes:
        check_output(study.output)
    say(f"Study {study.name} ({config}), output in {study.output}.")
    return study


def section_of(section: type[S], **given: Any) -> S:
    """Build a section of the settings from options.

    Raises
    ------
    ConfigError
        If the section refuses a value, naming the option.
    """
    from pydantic import ValidationError

    try:
        return section(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = "--" + str(first["loc"][-1]).replace("_", "-") if first["loc"] else "the options"
        raise ConfigError(f"{first['msg']}, found {first.get('input')!r}", where=option) from error


def check_output(folder: Path, option: str = "output") -> None:
    """Refuse a folder that cannot be written to, before anything slow is imported.

    Raises
    ------
    InputError
        Naming the file that is in the way, or the folder that this user may not write to.
    """
    found = next(place for place in (folder, *folder.parents) if os.path.exists(place))  # noqa: PTH110 - answers False where it may not look
    if not found.is_dir():
        raise InputError(
            f"A file, {found}, is where the output folder should be",
            where=f"{option} {folder}",
            hint="choose another folder",
        )
    if not os.access(found, os.W_OK | os.X_OK):
        raise InputError(
            f"The folder {found} cannot be written to",
            where=f"{option} {folder}",
            hint="choose another folder or change its permissions",
        )


def check_apart(sources: Iterable[Path], dataset: Path) -> None:
    """Refuse a dataset inside a source, or around it: an ingest would read what it has written.

    Raises
    ------
    InputError
        Naming both folders.
    """
    place = dataset.resolve()
    for source in sources:
        folder = source.resolve()
        if place.is_relative_to(folder) or folder.is_relative_to(place):
            raise InputError(
                f"The source {source} and the dataset {dataset} overlap",
                where="--out",
                hint="choose a dataset folder beside the source",
            )


def check_outside_dataset(out: Path) -> None:
    """Refuse reports inside a BIDS dataset, which travels to others, and whose tools read all of it.

    Raises
    ------
    InputError
        Naming the dataset.
    """
    place = out.resolve()
    for folder in (place, *place.parents):
        if (folder / "dataset_description.json").is_file():
            raise InputError(
                f"The folder of the reports is inside the dataset {folder}",
                where=f"--out {out}",
                hint="choose a folder outside of it",
            )


def check_cohort(study: Study, config: Path) -> None:
    """Refuse a study whose cohort does not exist, before anything slow is imported.

    Raises
    ------
    ConfigError
        Naming the path and what makes it.
    """
    path = study.cohort.path
    if path.exists():
        return
    if study.cohort.kind == "bids":
        from pipeline.config import dataset_hint

        written = shlex.quote(str(path))
        hint = f"{dataset_hint(study, config)}; `taucal ingest SOURCE --out {written}` makes a new one"
    else:
        hint = "data/README.md says where to get this data set; set cohort.path to its file or folder"
    raise ConfigError(f"cohort.path {path} does not exist", where=study.name, hint=hint)
