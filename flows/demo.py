"""The whole way on a synthetic cohort, from DICOM to a clinician's page."""

from __future__ import annotations

import shlex
import time
from typing import Any

from flows.ingest import ingest
from flows.phantom import make_phantom
from flows.reports.report_lists import list_reports
from flows.reports.study_reports import read_material, report_cohort_scan
from flows.running.console import progress, say, show_table
from flows.running.doors import run_door
from flows.train import show_results, train
from pipeline.config import Study, check_purpose
from pipeline.ingest.deidentify import key_beside, make_known_key
from pipeline.learning.learning_checks import check_learning
from pipeline.processes import preload
from pipeline.reporting.study.example_scans import example_scans


def run_demo(study: Study) -> dict[str, Any]:
    """Run phantom, ingest, training, calibration, tracking and reports; return the paths to open."""
    started = time.monotonic()
    source, bids = study.ingest.source, study.cohort.path
    check_purpose(study, "demo")
    check_learning(study)
    assert source is not None
    preload("flows.ingestion.worker_start")
    say("1  phantom")
    make_phantom(study.phantom, source, study.seed)
    say("2  ingest: DICOM, de-identified BIDS-PET, MNI space, SUVR")
    make_known_key(study.ingest.key_file or key_beside(bids), study.seed)
    ingested = run_door(ingest, study)
    say("3-6  split, train, calibrate, evaluate, track, report the study")
    trained = run_door(train, study)
    say("7  reports of scans")
    material = read_material(study, trained)
    pages = {"study": dict(trained.pages)}
    chosen = example_scans(material.writer.classifier, material.test, material.cohort)
    with progress("reports") as tick:
        for done, (kind, scan) in enumerate(chosen.items(), start=1):
            folder = trained.files.folder / "reports" / kind
            pages[kind] = report_cohort_scan(material.writer, material.cohort, scan, folder)
            tick(done, len(chosen), kind)
    listed = list_reports(study)
    show_results(trained.results)
    rows = [[f"report: {kind}", str(written["html"])] for kind, written in pages.items()]
    rows += [["all reports", str(listed)]]
    rows += [
        ["ingest report", str(ingested.report)],
        ["model", f"models:/{study.tracking.model_name}@champion"],
    ]
    store = shlex.quote(f"sqlite:///{study.output / 'mlflow.db'}")
    rows += [["runs", f"mlflow server --backend-store-uri {store}"]]
    show_table(f"Done in {time.monotonic() - started:.0f} s. Open:", ["what", "where"], rows)
    return {
        "seconds": time.monotonic() - started,
        "run_id": trained.run_id,
        "version": trained.version,
        "results": trained.results.to_dict(),
        "pages": pages,
    }
