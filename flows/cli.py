"""The command `taucal`. Exit codes: 0 done, 1 the work failed, 2 the call or its input is wrong."""

from __future__ import annotations

import signal
import sys

from flows.running.environment import set_quiet_defaults

set_quiet_defaults()

import typer  # noqa: E402 - the defaults must stand before Prefect is imported by what follows

from flows.commands import champion_commands as operation  # noqa: E402
from flows.commands import retraining, scans, serving  # noqa: E402
from flows.commands import studies as learning  # noqa: E402
from flows.running.console import console  # noqa: E402
from pipeline.errors import TaucalError  # noqa: E402

app = typer.Typer(
    name="taucal",
    help="Tau PET scans (AV1451) to calibrated diagnostic probabilities. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

COMMANDS = (
    (learning.demo, "taucal demo --out data/demo"),
    (learning.phantom, "taucal phantom data/phantom --subjects 40 --scans 50"),
    (learning.ingest, "taucal ingest ~/ADNI --out data/adni/bids"),
    (learning.train, "taucal train configs/adni.yaml --set training.epochs=60"),
    (
        learning.compare,
        "taucal compare configs/compare_adrenal.yaml --set cohort.path=data/adrenalmnist3d.npz",
    ),
    (scans.predict, "taucal predict data/new/SCAN_FOLDER --prevalence CN=.6,MCI=.3,AD=.1 --json"),
    (scans.report, "taucal report data/new/SCAN_FOLDER --out data/reports --prevalence CN=.6,MCI=.3,AD=.1"),
    (retraining.retrain, "taucal retrain configs/adni.yaml"),
    (retraining.shift, "taucal shift configs/adni.yaml --json"),
    (operation.promote, "taucal promote 3 --output data/demo"),
    (operation.rollback, "taucal rollback --output data/demo"),
    (operation.audit, "taucal audit --output data/demo"),
    (serving.serve, "taucal serve configs/adni.yaml --set serve.prefect_port=4201"),
    (operation.doctor, "taucal doctor --output data/demo"),
)
"""Each command with the example its ``--help`` shows."""

for command, example in COMMANDS:
    app.command(epilog=f"Example:  {example}")(command)


def main() -> None:
    """Run the command line; errors a user can meet are told in one screen, without a traceback."""
    # A polite kill unwinds like Ctrl-C: worker processes and the embedded server go with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app(standalone_mode=True)
    except TaucalError as error:
        console.print(f"taucal: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        console.print(
            "taucal: interrupted; the same command again continues where this stopped.", markup=False
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
