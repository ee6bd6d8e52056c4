"""`taucal report` as a flow: recorded in Prefect like every other door. Imported where a server is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import flow

from flows.report import Request, ScanPages, report_scans
from flows.running.doors import name_run, opened, report_crash, run_door, store_study
from flows.running.task_runs import log_shared, show_rows, step
from pipeline.config import AskedReports, Study


@flow(name="report-scans", flow_run_name=name_run, validate_parameters=False, on_crashed=[report_crash])
def report_asked(study: str) -> list[ScanPages]:
    """Write the reports that section `asked` of a study asks for.

    Parameters
    ----------
    study : str
        Path of a resolved study file.
    """
    with opened(study) as resolved:
        asked = resolved.asked
        assert asked is not None
        request = Request(
            asked.out, asked.model, asked.place, asked.prevalence, asked.key_file, asked.pdf, asked.dicom,
            asked.send,
        )  # fmt: skip
        written = _write(asked.scans, request)
        outcomes = [pages.refusal.rule if pages.refusal else "reported" for pages in written]
        names = [pages["html"].parent.name for pages in written]
        rows = [{"scan": name, "outcome": o} for name, o in zip(names, outcomes, strict=True)]
        log_shared(f"{len(rows)} reports written.")
        show_rows("reports", rows, "Reports that were asked for")
        return written


@step("write reports")
def _write(scans: Sequence[Path], request: Request) -> list[ScanPages]:
    return report_scans(scans, request)


def report_recorded(study: Study, scans: Sequence[Path], request: Request) -> list[ScanPages]:
    """Write reports as `report_scans` does, as a run of a flow; its private file is removed afterwards."""
    asked = AskedReports(
        scans=tuple(path.resolve() for path in scans),
        out=request.out.resolve(),
        place=request.output.resolve(),
        model=request.model,
        prevalence=None if request.prevalence is None else dict(request.prevalence),
        key_file=None if request.key_file is None else request.key_file.resolve(),
        pdf=request.pdf,
        dicom=request.dicom,
        send=request.send,
    )
    study = study.model_copy(update={"asked": asked})
    try:
        return run_door(report_asked, study)
    finally:  # it names scans
        Path(store_study(study)).expanduser().unlink(missing_ok=True)
