"""A simulated year, retrained behind the gate, never and always: `python tests/benchmarks/year.py`.

Prints the table of months, what quarters and the year came to with intervals over subjects, and whether the
loop loses to either rival: neither its pooled NLL nor its divergence from the true posterior may be worse
beyond the paired interval. Then the tables of `year_truth.py`. A killed benchmark goes on where it stood when
`--out` is the same.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from flows.running.environment import set_quiet_defaults

set_quiet_defaults()

from flows.year import run_year  # noqa: E402
from pipeline.config import Study, load_study, shipped_study  # noqa: E402
from pipeline.evaluation.metrics import metric_named  # noqa: E402
from pipeline.reporting.year.year_page import MEASURES, TITLES, YearReport, year_rows  # noqa: E402
from tests.benchmarks.finished_year import markdown  # noqa: E402
from tests.benchmarks.year_truth import print_truth  # noqa: E402


def study_in(folder: Path, asked: argparse.Namespace) -> Study:
    """Return the study of `taucal demo --year` with as many scans as asked for."""
    places = (f"output={folder}", f"cohort.path={folder / 'bids'}", f"ingest.source={folder / 'adni'}")
    study = load_study(shipped_study("year"), (*places, f"seed={asked.seed}", *asked.set))
    sizes: dict[str, object] = {}
    if asked.start is not None:
        sizes |= {"subjects": asked.start * 9 // 10, "scans": asked.start}
    if asked.monthly is not None:
        sizes["batches"] = tuple(b.model_copy(update={"scans": asked.monthly}) for b in study.phantom.batches)
    return study.model_copy(update={"phantom": study.phantom.model_copy(update=sizes)})


def pooled_rows(report: YearReport) -> list[list[str]]:
    """Return one row a span and policy: metrics with intervals, and ours minus it."""
    rows = []
    for span in report.spans:
        for policy, found in span.metrics.items():
            cells = [f"{m.value:.3f} [{m.low:.3f}, {m.high:.3f}]" for m in (found[name] for name in MEASURES)]
            d = span.differences.get(policy, {}).get("negative_log_likelihood")
            against = f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]" if d else "–"
            rows.append([span.name, str(span.scans), TITLES[policy], *cells, against])
    return rows


def print_report(report: YearReport) -> None:
    """Print the tables of months and of policies, and to which rival the loop loses."""
    print(markdown(*year_rows(report)))
    headings = (metric_named(name).heading for name in MEASURES)
    header = ["months", "scans", "policy", *headings, "NLL of the loop minus it"]
    print(markdown(header, pooled_rows(report)))
    for sentence in report.sentences:
        print(sentence)
    for name in MEASURES[:2]:
        worse = [p for p, d in report.spans[-1].differences.items() if d[name].low > 0]
        print(f"The loop loses in {metric_named(name).heading} to: {', '.join(worse) or 'neither'}")


def main() -> None:
    """Simulate the year and print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start", type=int, help="scans of the start cohort, if not as shipped")
    parser.add_argument("--monthly", type=int, help="scans a month, if not as shipped")
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = asked.out or Path(name) / "year"
        done = run_year(study_in(folder, asked))
        print_report(YearReport.model_validate(done["year"]))
        print(f"{done['seconds']:.0f} s\n")
        print_truth([folder])


if __name__ == "__main__":
    main()
