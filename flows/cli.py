"""The command `taucal`. Exit codes: 0 done, 1 some of the work failed, 2 the call or its input is wrong.

Nothing slow is imported here: a wrong file, key or option is answered at once.
"""

from __future__ import annotations

import signal
import sys
import traceback
from typing import Annotated

import typer

from flows.commands import agree, centaur, first_steps, operation, reading, scans, studies
from flows.commands.options import Command, Quiet, Verbose, choose, command
from flows.commands.unquoted import quotes_advice
from flows.running import hangup
from flows.running.console import chosen, warn
from flows.running.environment import set_quiet_defaults
from flows.running.garbage import end_without_search_for_garbage
from pipeline.errors import TaucalError

set_quiet_defaults()
app = typer.Typer(
    name="taucal",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 120},
)

_INTERRUPTED = 130
"""What typer returns after Ctrl-C."""
COMMANDS = (
    (studies.demo, "taucal demo --out data/demo"),
    (studies.phantom, "taucal phantom data/phantom/adni --subjects 8 --scans 10"),
    (first_steps.init, "taucal init data/mine --source data/phantom/adni"),
    (studies.ingest, "taucal ingest data/phantom/adni --out data/phantom/bids"),
    (studies.train, "taucal train configs/demo.yaml --set training.patience=5"),
    (studies.compare, "taucal compare configs/demo.yaml --set compare.seeds='[0, 1]'"),
    (studies.curve, "taucal curve configs/demo.yaml --set curve.shares='[0.5, 1]'"),
    (
        scans.predict,
        "taucal predict data/phantom/adni/002_S_4002 --study data/demo",
    ),
    (scans.report, "taucal report data/phantom/adni/002_S_4002 --out reports --study data/demo"),
    (scans.who, "taucal who sub-PFOK6S6T74PU --study data/demo"),
    (scans.reports, "taucal reports --since 2026-01-31 --study data/demo"),
    (scans.label, "taucal label sub-PFOK6S6T74PU AD --study data/demo"),
    (reading.read, "taucal read sub-PFOK6S6T74PU AB accept --tau negative --study data/demo"),
    (operation.retrain, "taucal retrain configs/demo.yaml --who 'Dr. A'"),
    (operation.shift, "taucal shift configs/demo.yaml --json"),
    (operation.week, "taucal week configs/demo.yaml"),
    (first_steps.status, "taucal status --study data/demo"),
    (operation.promote, "taucal promote 2 --study data/demo"),
    (operation.rollback, "taucal rollback --study data/demo"),
    (operation.audit, "taucal audit --study data/demo"),
    (operation.serve, "taucal serve configs/demo.yaml --set serve.ingest=null"),
    (operation.deploy, "taucal deploy configs/demo.yaml --pool hospital"),
    (operation.doctor, "taucal doctor --study data/demo"),
)
"""Each command with the example its ``--help`` shows; typed in this order, after `taucal demo`, all work."""

_OF_COHORTS = (
    (agree.agree, "taucal agree UCBERKELEY_TAU_6MM.csv configs/adni.yaml"),
    (agree.retest, "taucal retest configs/adni.yaml --diagnosis CN"),
)
"""They need a cohort, or a table of one, that the demo does not make."""

for function, example in (*COMMANDS, *_OF_COHORTS):
    app.command(cls=Command, epilog=f"\b\nExample:\n  {example}")(command(function))


_centaur = typer.Typer(no_args_is_help=True, help="CenTauRz in the reports of a study.")
_centaur.command(cls=Command, epilog="\b\nExample:\n  taucal centaur fit published.csv configs/adni.yaml")(
    command(centaur.fit)
)
app.add_typer(_centaur, name="centaur")


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - as typer calls it
    if wanted:
        from importlib.metadata import version

        typer.echo(f"taucal {version('taucal')}")
        raise typer.Exit


@app.callback(epilog="`taucal COMMAND --help` explains a command and shows an example.")
def taucal(
    *,
    quiet: Quiet = False,
    verbose: Verbose = False,
    version: Annotated[  # noqa: ARG001 - answered by its callback
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Tau PET scans (AV1451) to calibrated diagnostic probabilities. Research use only."""
    chosen.quiet = chosen.verbose = chosen.json = False
    choose(quiet=quiet, verbose=verbose)


def main() -> None:
    """Run the command line; an error a user can act on is printed in one screen, without a traceback."""
    # A polite kill unwinds like Ctrl-C: worker processes and the embedded server go with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if hangup.ends_this_process():
        signal.signal(signal.SIGHUP, hangup.interrupt)
    end_without_search_for_garbage()
    try:
        code = app(standalone_mode=False)
    except TaucalError as error:
        if chosen.verbose:
            traceback.print_exc()
        warn(f"taucal: {_with_quotes(_ended(str(error)))}")
        code = error.exit_code
    except typer.TyperException as error:
        code = _explain(error)
    if code == _INTERRUPTED:
        warn("taucal: Interrupted. The same command again continues where this one stopped.")
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _ended(text: str) -> str:
    """Return a text of one line with a full stop at its end."""
    return text if "\n" in text or text.endswith((".", "?", "!")) else f"{text}."


def _explain(error: typer.TyperException) -> int:
    """Print what is wrong with the call in the style of every other error."""
    context = getattr(error, "ctx", None)
    where = context.command_path if context else "taucal"
    text = error.format_message().strip()
    if context and (not text or text.startswith("Usage:")):  # `taucal` alone: its help
        typer.echo(context.get_help(), err=True)
    else:
        warn(f"{where}: {_with_quotes(_ended(text))} `{where} --help` lists what it takes.")
    return error.exit_code


def _with_quotes(text: str) -> str:
    """Return an error with the advice that a path needs quotes, where that may have led to it."""
    advice = quotes_advice(sys.argv[1:], text)
    return f"{text} {advice}" if advice else text


if __name__ == "__main__":
    main()
