"""The page of a learning curve: what was measured at each size, and what twice the scans would bring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from pipeline.config import Study
from pipeline.evaluation.comparison.sample_size import RATES, SampleSizeCurve
from pipeline.evaluation.metrics import METRICS, metric_named
from pipeline.evaluation.metrics.catalogue import ABOVE_NOISE
from pipeline.files import today, written_whole
from pipeline.reporting.page.charts import AMBER, BLUE, INK, ReportFigure, new_figure, quiet
from pipeline.reporting.page.facts import Facts, Measured, Named, Text, measured
from pipeline.reporting.page.html import Page, data_uri
from pipeline.reporting.page.words import change_text, interval_text, metric_heading, noise_text
from pipeline.wording import counted

COLUMNS = ("negative_log_likelihood", "classwise_ece", "balanced_accuracy", "macro_auroc", "posterior_error")
"""What the table shows, in order; the posterior error where it is known."""


class SizeRow(Facts):
    """One size; `scans` are the training scans of one network, mean over seeds and folds."""

    title: Text
    scans: float
    metrics: dict[str, Measured]
    noise: dict[str, float]


class ProjectionRow(Facts):
    """What twice the scans would bring in one metric; `fit` has points (scans, metric) of the drawn curve."""

    metric: str
    sentence: str
    decided: bool
    follows: bool
    possible: bool
    change: Measured
    check: Measured | None
    fit: tuple[tuple[float, float], ...]


class CurveReport(Facts):
    """All that the page of a learning curve states."""

    format_version: int = 1
    title: Text
    report_date: Text
    run_id: Text
    synthetic: bool
    loss: Text
    calibration: Text
    level: float
    test_scans: int
    test_subjects: int
    seeds: tuple[int, ...]
    folds: int
    sizes: tuple[SizeRow, ...]
    projections: tuple[ProjectionRow, ...]
    cautions: tuple[Text, ...] = ()
    failed: tuple[Named, ...] = ()
    versions: tuple[Named, ...] = ()

    @property
    def lead(self) -> str:
        """What was measured, in one line."""
        seeds = f"seed{'s' * (len(self.seeds) > 1)} {', '.join(map(str, self.seeds))}"
        return (
            f"{self.loss}, {self.calibration}: {counted(self.test_scans, 'test scan')} of "
            f"{counted(self.test_subjects, 'subject')} at every size, {seeds}, "
            f"{counted(self.folds, 'fold')}, {100 * self.level:g} % intervals"
        )


def curve_report(
    study: Study, found: SampleSizeCurve, failed: Mapping[str, str], *, run_id: str, synthetic: bool
) -> CurveReport:
    """Return the report of a learning curve.

    Parameters
    ----------
    failed : mapping of str to str
        Title of a cell that failed -> why.
    run_id : str
        That of the curve in MLflow.
    synthetic : bool
        Whether the scans are computed phantoms.
    """
    projections = []
    for one in found.projections:
        scans = np.geomspace(found.points[0].scans, one.scans, 40)
        drawn = tuple(zip(scans.tolist(), one.fitted(scans).tolist(), strict=True))
        projections.append(
            ProjectionRow(
                metric=one.metric,
                sentence=one.sentence,
                decided=one.decided,
                follows=one.follows,
                possible=one.possible,
                change=Measured(**asdict(one.change)),
                check=Measured(**asdict(one.check)) if one.check else None,
                fit=drawn,
            )
        )
    return CurveReport(
        title=study.name,
        report_date=today(),
        run_id=run_id,
        synthetic=synthetic,
        loss=found.loss,
        calibration=found.calibration,
        level=found.level,
        test_scans=found.scans,
        test_subjects=found.subjects,
        seeds=found.seeds,
        folds=found.folds,
        sizes=tuple(
            SizeRow(title=p.title, scans=p.scans, metrics=measured(p.metrics.items()), noise=dict(p.noise))
            for p in found.points
        ),
        projections=tuple(projections),
        cautions=found.cautions,
        failed=tuple(Named(label=cell, value=reason) for cell, reason in failed.items()),
        versions=(Named(label="taucal", value=metadata.version("taucal")),),
    )


def curve_rows(report: CurveReport) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table on a console: value, interval and noise below each other."""
    names = [name for name in COLUMNS if name in report.sizes[0].metrics]
    rows = []
    for size in report.sizes:
        row = [size.title, f"{size.scans:.0f}"]
        for name in names:
            found, floor = size.metrics.get(name), size.noise.get(name)
            noise = "" if floor is None else f"\nnoise {metric_named(name).number(floor)}"
            row.append("-" if found is None else "\n".join(metric_named(name).parts(found)) + noise)
        rows.append(row)
    return ["subjects", "training scans", *(metric_named(name).title for name in names)], rows


def curve_table(report: CurveReport) -> pd.DataFrame:
    """Return one row a size and metric: value, limits, noise floor."""
    return pd.DataFrame(
        {"subjects": size.title, "training_scans": size.scans, "metric": metric}
        | found.model_dump()
        | ({"noise": size.noise[metric]} if metric in size.noise else {})
        for size in report.sizes
        for metric, found in size.metrics.items()
    )


def write_curve(report: CurveReport, folder: Path, *, pdf: bool = True) -> dict[str, Path]:
    """Write ``curve.html``, ``.csv``, ``.json`` and, where this machine can, ``.pdf``; and ``figures/``.

    Returns
    -------
    dict of str to Path
        ``"html"``, ``"csv"``, ``"json"``, ``"figures"``, and ``"pdf"`` where it was written.
    """
    figure = curve_figure(report)
    figure.write(folder / "figures")
    with written_whole(folder / "curve.csv") as beside:
        curve_table(report).to_csv(beside, index=False)
    drawn = {
        "figure": figure,
        "picture": data_uri(figure.svg, "image/svg+xml"),
        "columns": {n: metric_heading(n) for n in COLUMNS if n in report.sizes[0].metrics},
        "cell": interval_text,
        "floor": noise_text,
        "change": change_text,
        "checked": {one.metric: metric_named(one.metric).title for one in report.projections if one.check},
    }
    written = Page("curve.html.j2", report, report.title, drawn).write(folder, "curve", pdf=pdf)
    return written | {"csv": folder / "curve.csv", "figures": folder / "figures"}


def curve_figure(report: CurveReport) -> ReportFigure:
    """Draw each projected metric against the training scans, with its fit up to twice the scans."""
    figure = new_figure(8.4, 2.9)
    panels = figure.subplots(1, len(report.projections), squeeze=False)[0]
    for axes, one in zip(panels, report.projections, strict=True):
        _panel(axes, report, one)
    level = f"{100 * report.level:g} %"
    words = (
        "Error against training scans",
        "The metrics at each number of training scans, with intervals, the fit, and twice the scans",
        f"Dots: measured on the same test scans at every size; bars: {level} intervals over test subjects "
        "and seeds. Line: the fit a + b / √n. Amber: what it expects at twice the scans; the bar has the "
        f"widest limits of the fits with exponents {', '.join(f'{rate:g}' for rate in RATES)}, around the "
        "value that the line has at all scans. Neither is drawn where the smaller sizes do not predict the "
        "largest, or where the line goes beyond the best value there is. The dots share their test scans, so "
        "the differences between sizes are known better than the bars suggest.",
    )
    return ReportFigure.of("curve", words, figure, _drawn_numbers(report))


def _panel(axes: Axes, report: CurveReport, one: ProjectionRow) -> None:
    of, factor = metric_named(one.metric), 100 if metric_named(one.metric).percent else 1
    x = [size.scans for size in report.sizes if one.metric in size.metrics]
    found = [size.metrics[one.metric] for size in report.sizes if one.metric in size.metrics]
    axes.vlines(x, [factor * m.low for m in found], [factor * m.high for m in found], BLUE, alpha=0.35, lw=3)
    axes.plot(x, [factor * m.value for m in found], "o", color=BLUE, markersize=4.5)
    if one.follows and one.possible:
        fit = np.array(one.fit)
        axes.plot(fit[:, 0], factor * fit[:, 1], ":", color=INK, linewidth=1)
        twice, expected = fit[-1]
        at_all = expected - one.change.value
        limits = [factor * (at_all + change) for change in (one.change.low, one.change.high)]
        axes.vlines([twice], limits[:1], limits[1:], AMBER, alpha=0.45, lw=3)
        axes.plot([twice], [factor * expected], "D", color=AMBER, mfc="white", markersize=4.5)
        x = [*x, twice]
    quiet(axes)
    axes.set_xscale("log")
    axes.set_xticks(x, [f"{n:.0f}" for n in x])
    axes.minorticks_off()
    axes.set_xlabel("training scans", fontsize=8)
    axes.set_title(of.heading + (", %" if of.percent else ""), fontsize=9, color=INK)


def _drawn_numbers(report: CurveReport) -> pd.DataFrame:
    names = {one.metric for one in report.projections} & {*METRICS, *ABOVE_NOISE}
    rows: list[dict[str, object]] = [
        {"what": "measured", "metric": name, "training_scans": size.scans} | size.metrics[name].model_dump()
        for name in sorted(names)
        for size in report.sizes
        if name in size.metrics
    ]
    rows += [
        {"what": "change with twice the scans", "metric": one.metric, "training_scans": one.fit[-1][0]}
        | one.change.model_dump()
        for one in report.projections
        if one.follows and one.possible
    ]
    return pd.DataFrame(rows)
