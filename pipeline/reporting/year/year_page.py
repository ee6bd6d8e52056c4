"""The report of a simulated year: events, actions, and the metrics of each retraining policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.config import EvaluationSettings
from pipeline.evaluation.inference.intervals import Interval
from pipeline.evaluation.metrics import metric_named
from pipeline.evaluation.monitoring.prospective import (
    PeriodPredictions,
    compare_policies,
    measure,
    measure_with_intervals,
    pool,
)
from pipeline.files import written_whole
from pipeline.reporting.page import charts
from pipeline.reporting.page.facts import NBSP, Facts, Measured, Named, Text, number, signed
from pipeline.reporting.page.html import Page, data_uri
from pipeline.reporting.page.words import interval_text, metric_heading

OURS = "gate"
TITLES = {
    "gate": "retrained with the gate",
    "never": "never retrained",
    "always": "always retrained, without the gate",
}
MEASURES = ("negative_log_likelihood", "above_oracle", "classwise_ece", "coverage", "referred")
"""What the tables show of a span, in order."""
_PERIOD_MONTHS = 3
_COLOURS = {"gate": charts.BLUE, "never": charts.MUTED, "always": charts.AMBER}
_STYLES = {"gate": "-", "never": "--", "always": ":"}


class PolicyMonth(Facts):
    """Metrics of the classifier that a policy had in use when the scans of a month arrived."""

    version: int
    negative_log_likelihood: float
    classwise_ece: float
    coverage: float
    referred: float


class MonthRow(Facts):
    """One month: its event, what our policy did after it, and the metrics of all policies in it.

    `oracle` is the NLL of the true posterior. `shift` is empty where nothing was tested. `champion` is None
    where even the first classifier did not pass; it is in use all the same until another does.
    """

    month: int
    events: Text
    scans: int
    shift: Text
    action: Text
    outcome: Text
    champion: int | None
    reasons: tuple[Text, ...]
    oracle: float | None
    policies: dict[str, PolicyMonth]


class Span(Facts):
    """Several months pooled: metrics of each policy, and ours minus each other one's, paired by subject."""

    name: Text
    scans: int
    metrics: dict[str, dict[str, Measured]]
    differences: dict[str, dict[str, Measured]]


class YearReport(Facts):
    """All facts of the report of a year; `spans` holds the quarters and, last, the year.

    In format 1 `above_oracle` went by the labels; since 2 it is what the true posterior lets one expect.
    """

    format_version: int = 2
    title: Text
    report_date: Text
    run_id: Text
    synthetic: bool = True
    level: float = 0.95
    months: tuple[MonthRow, ...]
    spans: tuple[Span, ...]
    sentences: tuple[Text, ...]


def build_year_report(  # noqa: PLR0913 - three facts of the page, three of each month
    *,
    title: str,
    report_date: str,
    run_id: str,
    events: Sequence[str],
    periods: Sequence[PeriodPredictions],
    decided: Sequence[Mapping[str, Any]],
    settings: EvaluationSettings,
    seed: int,
) -> YearReport:
    """Measure a year.

    Parameters
    ----------
    events : sequence of str
        The event of each month, or nothing.
    periods : sequence of PeriodPredictions
        The scans of each month and their predictions.
    decided : sequence of mapping
        What our policy did after each month: ``action``, ``outcome``, ``shift``, ``reasons``, ``champion``.
    settings : EvaluationSettings
        Draws and level of the intervals.
    """
    rows = [
        _month(n, *of_month) for n, of_month in enumerate(zip(events, periods, decided, strict=True), start=1)
    ]
    parts = {
        _months(n + 1, min(n + _PERIOD_MONTHS, len(periods))): periods[n : n + _PERIOD_MONTHS]
        for n in range(0, len(periods), _PERIOD_MONTHS)
    } | {"the year": periods}
    spans = [_span(name, part, settings, seed) for name, part in parts.items() if any(map(len, part))]
    return YearReport(
        title=title,
        report_date=report_date,
        run_id=run_id,
        level=settings.level,
        months=tuple(rows),
        spans=tuple(spans),
        sentences=tuple(_sentence(other, spans[-1]) for other in spans[-1].differences),
    )


def _months(first: int, last: int) -> str:
    return f"month {first}" if first == last else f"months {first} to {last}"


def _month(n: int, events: str, period: PeriodPredictions, decided: Mapping[str, Any]) -> MonthRow:
    found = {policy: measure(period, policy) for policy in period.by_policy} if len(period) else {}
    oracle = {values.pop("oracle", None) for values in found.values()}
    return MonthRow(
        month=n,
        events=events,
        scans=len(period),
        shift=decided["shift"],
        action=decided["action"],
        outcome=decided["outcome"],
        champion=decided["champion"],
        reasons=tuple(decided["reasons"]),
        oracle=oracle.pop() if oracle else None,
        policies={p: PolicyMonth(version=period.by_policy[p].version, **found[p]) for p in _in_order(found)},
    )


def _span(name: str, periods: Sequence[PeriodPredictions], settings: EvaluationSettings, seed: int) -> Span:
    together = pool(periods)
    draws, level = settings.draws, settings.level
    metrics = {
        p: measure_with_intervals(together, p, draws=draws, level=level, seed=seed)
        for p in _in_order(together.by_policy)
    }
    differences = {
        p: compare_policies(together, OURS, p, draws=draws, level=level, seed=seed)
        for p in _in_order(together.by_policy)
        if p != OURS
    }
    return Span(
        name=name,
        scans=len(together),
        metrics={p: _measured(found) for p, found in metrics.items()},
        differences={p: _measured(found) for p, found in differences.items()},
    )


def _in_order(policies: Iterable[str]) -> list[str]:
    known = list(TITLES)
    return sorted(policies, key=lambda p: (known.index(p) if p in known else len(known), p))


def _measured(found: Mapping[str, Interval]) -> dict[str, Measured]:
    return {name: Measured(value=i.value, low=i.low, high=i.high) for name, i in found.items()}


def _sentence(other: str, span: Span) -> str:
    d = span.differences[other]["negative_log_likelihood"]
    verdict = "not significantly different from"
    if d.low > 0:
        verdict = "worse than"
    elif d.high < 0:
        verdict = "better than"
    numbers = f"difference of the NLL {_in_words(d)}"
    if expected := span.differences[other].get("above_oracle"):
        numbers += f", expected under the true posterior {_in_words(expected)}"
    return (
        f"Over {span.name} ({span.scans} scans), the classifier {TITLES[OURS]} was {verdict} the one "
        f"{TITLES[other]}: {numbers}."
    )


def _in_words(difference: Measured) -> str:
    return f"{signed(difference.value, 3)} ({signed(difference.low, 3)} to {signed(difference.high, 3)})"


def year_rows(report: YearReport) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of months, in words; the metrics of all policies share a cell."""
    policies = list(report.spans[-1].metrics)
    names = " / ".join(policies)
    header = ["month", "scans", "shift", "action", "outcome", "champion", f"NLL {names} (oracle)"]
    header += [*(f"{metric_named(name).title} %" for name in MEASURES[2:]), "event"]
    rows = []
    for m in report.months:
        found = [m.policies[p] for p in policies if p in m.policies]
        scores = [
            " / ".join(number(f.negative_log_likelihood) for f in found) + f" ({number(m.oracle)})",
            *(
                " / ".join(number(100 * share, 0) for share in shares)
                for shares in (
                    [f.classwise_ece for f in found],
                    [f.coverage for f in found],
                    [f.referred for f in found],
                )
            ),
        ]
        row = [str(m.month), str(m.scans), m.shift or "–", m.action, m.outcome, str(m.champion or "none")]
        rows.append([*row, *(scores if found else ["–"] * len(scores)), m.events])
    return header, rows


def year_table(report: YearReport) -> pd.DataFrame:
    """Return one row a month and policy, with unrounded numbers."""
    rows = []
    for m in report.months:
        facts = m.model_dump(exclude={"policies", "reasons"})
        for policy, found in m.policies.items():
            rows.append({**facts, "policy": policy, **found.model_dump()})
    return pd.DataFrame(rows)


def write_year_report(report: YearReport, folder: Path) -> dict[str, Path]:
    """Write ``year.html``, ``.tsv`` and ``.json``; return their paths by ending."""
    with written_whole(folder / "year.tsv") as beside:
        year_table(report).to_csv(beside, sep="\t", index=False)
    return year_page(report).write(folder, "year") | {"tsv": folder / "year.tsv"}


def year_page(report: YearReport) -> Page:
    """Return the page of a year."""
    drawn = {
        "policies": {p: TITLES.get(p, p) for p in report.spans[-1].metrics},
        "metrics": {name: metric_heading(name) for name in MEASURES},
        "events": [Named(label=f"month {m.month}", value=m.events) for m in report.months if m.events],
        "chart": data_uri(charts.svg(year_figure(report)), "image/svg+xml"),
        "cell": interval_text,
        "share": lambda referred: metric_named("referred").number(referred).replace(" ", NBSP),
        "level": f"{100 * report.level:g} %",
    }
    return Page("year.html.j2", report, report.title, drawn)


def year_figure(report: YearReport) -> Figure:
    """Draw the NLL of every policy and of the true posterior by month, and mark the events."""
    figure = charts.new_figure(7.2, 3.2)
    axes = figure.subplots()
    charts.quiet(axes)
    months = [m for m in report.months if m.policies]
    x = [m.month for m in months]
    for n, m in enumerate(m for m in report.months if m.events):
        axes.axvline(m.month, color=charts.PALE, linewidth=6, zorder=0, label="event" if not n else None)
    for policy in report.spans[-1].metrics:
        y = [m.policies[policy].negative_log_likelihood for m in months]
        axes.plot(
            x, y, _STYLES.get(policy, "-."), color=_COLOURS.get(policy, charts.INK), linewidth=1.8,
            marker="o", markersize=3.5, label=TITLES.get(policy, policy),
        )  # fmt: skip
    oracle = [m.oracle for m in months if m.oracle is not None]
    if len(oracle) == len(months):
        axes.plot(x, oracle, color=charts.INK, linewidth=0.8, label="true posterior")
    axes.set_xlabel("month", fontsize=9)
    axes.set_ylabel("NLL", fontsize=9)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper left", frameon=False, fontsize=8, labelcolor=charts.INK, ncols=3)
    return figure
