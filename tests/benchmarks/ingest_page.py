"""How long Chromium needs until the ingest page of many scans is drawn, at two widths.

    taucal demo --config SMALL.yaml   # any dataset whose scans have outlines
    python tests/benchmarks/ingest_page.py data/demo/bids --scans 1000

The dataset's scans are repeated under new names, each with a picture of its own, until there are enough.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from flows.ingestion.ingest_tables import COHORT_TABLE
from pipeline.ingest.outcomes import ScanOutcome
from pipeline.reporting.ingest.ingest_page import build_ingest_report, write_ingest_page
from pipeline.reporting.ingest.outlines import outline_path
from pipeline.scan import Cohort

DRAWN = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def large_page(dataset: Path, scans: int, folder: Path) -> Path:
    """Write the page of so many scans, one in ten with a warning."""
    known = Cohort.read_tsv(dataset / COHORT_TABLE)
    many, outcomes, images = [], [], {}
    for n in range(scans):
        scan = replace(known.scans[n % len(known)], subject=f"S{n:05d}")
        images[scan.scan_id] = folder / f"{n}.png"
        shutil.copy(outline_path(known.scans[n % len(known)].path), images[scan.scan_id])
        warned = ScanOutcome(scan.scan_id, "warned", "done", "noise", "0.31", "Noise in white matter")
        outcomes.append(ScanOutcome(scan.scan_id, "accepted") if n % 10 else warned)
        many.append(scan)
    report = build_ingest_report(outcomes, {}, "adni", Cohort(tuple(many), known.class_names))
    return write_ingest_page(report, folder, images)


def seconds(browser: Browser, page: Path, width: int) -> float:
    """Return the time from the address to the second frame drawn."""
    tab = browser.new_page(viewport={"width": width, "height": 900})
    started = time.perf_counter()
    tab.goto(page.as_uri(), wait_until="load")
    tab.evaluate(DRAWN)
    taken = time.perf_counter() - started
    tab.close()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--scans", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=7)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        page = large_page(asked.dataset, asked.scans, Path(place))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        print(f"{asked.scans} scans, {page.stat().st_size / 1e6:.1f} MB, {asked.repeats} times each")
        for width in (1280, 400):
            found = [seconds(browser, page, width) for _ in range(asked.repeats)]
            print(f"{width:5d} px  median {statistics.median(found):.2f} s, slowest {max(found):.2f} s")


if __name__ == "__main__":
    main()
