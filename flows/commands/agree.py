"""Checks of a dataset's regional SUVR: against another laboratory's, and against a second scan."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.options import Config, Overrides, study_of
from flows.running.console import say, show_result
from pipeline.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.config import Study
    from pipeline.evaluation.inference.intervals import Interval
    from pipeline.evaluation.inference.method_agreement import MethodAgreement
    from pipeline.ingest.berkeley import BerkeleyTable
    from pipeline.ingest.berkeley_match import BerkeleyMatch
    from pipeline.learning.region_table import RegionTable
    from pipeline.scan import Cohort


def agree(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="CSV",
            help="UC Berkeley's table of tau PET, UCBERKELEY_TAU_6MM or UCBERKELEYAV1451.",
            exists=True,
            dir_okay=False,
        ),
    ],
    config: Config,
    overrides: Overrides = None,
    qc_flag: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, max=2, help="Lowest qc_flag of a row: 2 is a full pass, 1 a partial one."
        ),
    ] = 2,
    days: Annotated[
        int, typer.Option(metavar="N", min=0, help="Largest number of days between a scan and its row.")
    ] = 7,
) -> Any:
    """Compare a dataset's regional SUVR with UC Berkeley's of the same scans.

    For each region: Bland-Altman's bias (taucal minus UC Berkeley) and limits of agreement, the trend of the
    difference with the mean, and intraclass correlations, with 95 % intervals by bootstrap over people. UC
    Berkeley measures in regions of the person's own MRI: do not expect perfect agreement.
    """
    from pipeline.evaluation.inference.method_agreement import LEAST_PEOPLE, region_agreement, write_agreement
    from pipeline.ingest.berkeley_match import write_unmatched

    study = study_of(config, overrides)
    cohort, own, rows, matched = _both_measurements(study, table, qc_flag, days)
    people = {scan.scan_id: scan.subject for scan in cohort.scans}
    found, few = region_agreement(own.table, matched.suvr, people)
    without = write_unmatched(matched, study.output / "suvr_agreement_unmatched.tsv")
    left_out = [*rows.notes, *matched.sentences(rows)]
    if not found:
        raise InputError(
            f"{len(matched.suvr)} of {len(cohort)} scans have a row, expected scans of at least "
            f"{LEAST_PEOPLE} people. {' '.join(left_out)}",
            where=str(table),
            hint=f"{without} names each scan and its reason",
        )
    file = write_agreement(found, study.output / "suvr_agreement.tsv")
    _show(f"SUVR of taucal and of {table.name}", found)
    if few:
        left_out.append(f"Regions of which fewer than {LEAST_PEOPLE} people have a value: {len(few)}.")
    for sentence in left_out:
        say(sentence)
    say(f"All regions and intervals: {file}; scans that are not compared, with the reason: {without}.")
    return {
        "file": str(file),
        "regions": [asdict(one) for one in found],
        "unmatched": dict(matched.unmatched),
        "rows_left_out": rows.reasons,
        "rows_without_scan": matched.rows_without_scan,
        "too_few_people": few,
    }


def _both_measurements(
    study: Study, table: Path, qc_flag: int, days: int
) -> tuple[Cohort, RegionTable, BerkeleyTable, BerkeleyMatch]:
    """Return the cohort, its regional SUVR, the rows of the other laboratory, and which belong to which."""
    from flows.ingestion.ingest_tables import COHORT_TABLE, REGION_TABLE
    from pipeline.ingest.berkeley import read_berkeley
    from pipeline.ingest.berkeley_match import match_berkeley
    from pipeline.ingest.deidentify import key_beside
    from pipeline.learning.region_table import RegionTable
    from pipeline.scan import Cohort

    bids = study.cohort.path
    cohort = Cohort.read_tsv(bids / COHORT_TABLE)
    own = RegionTable.read(bids / REGION_TABLE)
    rows = read_berkeley(table, study.ingest.tracer, list(own.table.columns), qc_flag)
    matched = match_berkeley(rows, cohort.scans, study.ingest.key_file or key_beside(bids), days)
    return cohort, own, rows, matched


def retest(
    config: Config,
    overrides: Overrides = None,
    diagnosis: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only people with this diagnosis at the first scan, as CN."),
    ] = None,
) -> Any:
    """Compare the regional SUVR of each person's second scan with the first one.

    For each region: the mean change, limits of agreement, intraclass correlations, and the variation of a
    single measurement in percent. A change of the person between the scans counts as variation: give the
    diagnosis with the least change.
    """
    from flows.ingestion.ingest_tables import COHORT_TABLE, REGION_TABLE
    from pipeline.evaluation.inference.method_agreement import LEAST_PEOPLE, repeat_agreement, write_agreement
    from pipeline.learning.region_table import RegionTable
    from pipeline.scan import Cohort

    study = study_of(config, overrides)
    bids = study.cohort.path
    scans = Cohort.read_tsv(bids / COHORT_TABLE).scans
    found, people = repeat_agreement(RegionTable.read(bids / REGION_TABLE).table, scans, diagnosis)
    if not found:
        raise InputError(
            f"{people} people{f' with {diagnosis}' if diagnosis else ''} have two scans, "
            f"expected at least {LEAST_PEOPLE}",
            where=str(bids / COHORT_TABLE),
            hint="ingest the second scans too" + (", or leave out --diagnosis" if diagnosis else ""),
        )
    file = write_agreement(found, study.output / "suvr_retest.tsv")
    _show("SUVR of the second scan and of the first", found, repeated=True)
    say(f"{people} people have two scans. All regions and intervals: {file}.")
    return {"file": str(file), "people": people, "regions": [asdict(one) for one in found]}


def _show(title: str, found: Sequence[MethodAgreement], *, repeated: bool = False) -> None:
    variation = ["variation %"] if repeated else []
    rows = [
        [
            one.name.partition("_")[2].replace("_", " "), str(one.scans), _signed(one.bias),
            f"{one.lower.value:+.2f} to {one.upper.value:+.2f}", _signed(one.trend),
            *[f"{one.variation_percent:.1f}" for _ in variation], str(one.absolute), str(one.consistency),
        ]
        for one in found
        if one.name.startswith(("composite", "both"))
    ]  # fmt: skip
    header = ["region", "scans", "bias", "limits of agreement", "trend", *variation, "ICC(2,1)", "ICC(3,1)"]
    show_result(title, header, rows)


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
