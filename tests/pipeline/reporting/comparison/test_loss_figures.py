"""What is drawn of losses, read back from the figures."""

from __future__ import annotations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from models.names import CALIBRATOR_TITLES
from pipeline.reporting.comparison import loss_figures as figures_of_losses
from pipeline.reporting.comparison.comparison_numbers import LossReliability, LossRisk, PooledPoint
from pipeline.reporting.page import charts as figures
from pipeline.reporting.page.facts import Measured

STAGES = ("uncalibrated", "temperature scaling", "adaptive temperature scaling")
EDGES = tuple(n / 10 for n in range(11))


def panel(name: str, stage: str, scans: float = 12.5) -> LossReliability:
    points = (
        PooledPoint(bin=6, stated=0.65, came_true=0.5, low=0.2, high=0.8, scans=scans, trials=9),
        PooledPoint(bin=9, stated=0.95, came_true=0.9, low=0.7, high=1, scans=2, trials=2),
    )
    return LossReliability(name=name, stage=stage, edges=EDGES, points=points)


def risk(name: str, stage: str, area: float) -> LossRisk:
    return LossRisk(name=name, stage=stage, coverage=(0.5, 1.0), risk=(area / 2, 1.5 * area), area=area)


def test_a_loss_has_a_diagram_over_its_counts_with_bars_for_the_first_and_last_stage():
    panels = [panel(name, stage) for name in ("ce", "gce") for stage in STAGES]
    drawn = figures_of_losses.reliability_of_losses(panels)
    shown = [axes for axes in drawn.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == ["ce", "gce", "", ""]
    upper, _, lower, _ = shown
    lines = [line for line in upper.lines if line.get_linewidth() > 0]
    assert sum(line.get_xydata().tolist() == [[0.65, 0.2], [0.65, 0.8]] for line in lines) == 2
    assert sum(line.get_xydata().tolist() == [[0.65, 0.5], [0.95, 0.9]] for line in lines) == 3
    values, edges, _ = lower.patches[0].get_data()
    assert values.tolist() == [0, 0, 0, 0, 0, 0, 12.5, 0, 0, 2]
    assert edges.tolist() == list(EDGES)
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == list(STAGES)


def test_diagrams_drawn_one_by_one_share_the_height_of_the_counts():
    panels = [panel("ce", "uncalibrated", 40), panel("gce", "uncalibrated", 10)]
    most = figures_of_losses.most_scans(panels)
    assert most == 40
    heights = [figures_of_losses.reliability_of_losses([one], most=most).axes[1].get_ylim() for one in panels]
    assert heights[0] == heights[1] == (0, 42)


def test_stages_are_named_losses_by_mark_and_line():
    looks = figures_of_losses.stage_looks(STAGES)
    assert len({look.marker for look in looks.values()}) == len({look.line for look in looks.values()}) == 3
    assert list(figures_of_losses.stage_looks(["after"])) == ["after"]


def test_the_legend_of_risks_goes_by_area_and_tells_it():
    curves = [risk("ce", "after", 0.2), risk("gce", "after", 0.1)]
    axes = figures_of_losses.risk_of_losses(curves, "ce").axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["gce  0.100", "ce  0.200"]
    assert axes.lines[0].get_xydata().tolist() == [[0.5, 0.05], [1.0, pytest.approx(0.15)]]
    assert axes.get_ylim() == (0, pytest.approx(1.1 * 0.3))


def test_ten_losses_differ_in_grey_and_more_are_pale_but_for_the_baseline_and_both_ends():
    names = [f"loss {n:02}" for n in range(15)]
    curves = [risk(name, "after", 0.1 + 0.01 * n) for n, name in enumerate(names)]
    few = figures_of_losses.named_losses(curves[:10], "loss 05")
    assert set(few) == set(names[:10])
    looks = figures_of_losses.loss_looks(names[:10], "loss 05", few)
    assert len({(look.marker, look.line) for look in looks.values()}) == 10
    assert len({(look.colour, look.line) for look in looks.values()}) == 10
    many = figures_of_losses.named_losses(curves, "loss 05")
    assert set(many) == {"loss 05", *names[:4], *names[-4:]}
    told = figures_of_losses.risk_of_losses(curves, "loss 05").axes[0].get_legend().get_texts()
    assert [text.get_text() for text in told].count("6 others") == 1
    assert len(told) == 10


def test_losses_are_drawn_the_same_every_time():
    panels = [panel("ce", stage) for stage in STAGES]
    draws = [figures.svg(figures_of_losses.reliability_of_losses(panels)) for _ in range(2)]
    assert draws[0] == draws[1]


def test_long_names_of_losses_leave_the_chart_of_risks_its_room():
    curves = [
        risk(f"generalised cross-entropy of {n}, w=0.5, q=0.7, from scratch", "after", 0.1 + n / 10)
        for n in range(3)
    ]
    drawn = figures_of_losses.risk_of_losses(curves, curves[0].name)
    FigureCanvasAgg(drawn).draw()  # which lays it out
    (axes,) = drawn.axes
    assert axes.get_window_extent().width > 0.7 * drawn.bbox.width
    box = axes.get_legend().get_window_extent()
    assert drawn.bbox.x0 <= box.x0
    assert box.x1 <= drawn.bbox.x1
    assert drawn.bbox.y0 <= box.y0


@pytest.mark.parametrize(
    "stages",
    [
        ["uncalibrated, batch 16", "ensemble temperature scaling, batch 128"],
        ["temperature scaling"],
        list(CALIBRATOR_TITLES.values())[:5],
    ],
    ids=["two", "one", "five"],
)
def test_names_of_stages_are_neither_cut_nor_small(stages):
    drawn = figures_of_losses.legend_of_stages(stages)
    FigureCanvasAgg(drawn).draw()  # which lays it out
    (legend,) = drawn.legends
    box = legend.get_window_extent()
    assert drawn.bbox.x0 <= box.x0
    assert box.x1 <= drawn.bbox.x1
    assert drawn.bbox.y0 <= box.y0
    assert box.y1 <= drawn.bbox.y1
    assert drawn.get_figwidth() <= 4.2, "wider, it would be scaled down beside the charts"


@pytest.mark.parametrize("losses", [2, 3, 5])
def test_the_legend_of_several_losses_is_not_cut(losses):
    stages = list(CALIBRATOR_TITLES.values())[:4]
    drawn = figures_of_losses.reliability_of_losses(
        [panel(f"loss {n}", stage, 20) for n in range(losses) for stage in stages]
    )
    FigureCanvasAgg(drawn).draw()  # which lays it out
    box = drawn.legends[0].get_window_extent()
    assert drawn.bbox.x0 <= box.x0
    assert box.x1 <= drawn.bbox.x1
    assert not any(box.overlaps(axes.get_window_extent()) for axes in drawn.axes)


def test_titles_of_metrics_do_not_run_into_each_other():
    m = Measured(value=0.5, low=0.4, high=0.6)
    titles = {str(n): "Classwise ECE above noise ↓, %" for n in range(5)}
    drawn = figures_of_losses.forest_figure({n: [("ce", m), ("gce", m)] for n in titles}, titles)
    FigureCanvasAgg(drawn).draw()  # which lays it out
    boxes = [axes.title.get_window_extent() for axes in drawn.axes]
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])


def test_forest_has_a_row_a_loss_from_the_top_down():
    m = Measured(value=0.5, low=0.4, high=0.6)
    axes = figures_of_losses.forest_figure({"nll": [("ce", m), ("gce", m)]}, {"nll": "NLL ↓"}).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["ce", "gce"]
    assert axes.yaxis_inverted()
