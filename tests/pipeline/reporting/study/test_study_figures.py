import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from pipeline.reporting.study import study_figures as figures
from pipeline.reporting.study.study_numbers import (
    EpochRow,
    PosteriorPoint,
    ReliabilityPanel,
    ReliabilityPoint,
    RiskPoint,
)


@pytest.fixture
def panels() -> tuple[ReliabilityPanel, ...]:
    point = ReliabilityPoint(stated=0.8, came_true=0.6, low=0.3, high=0.85, scans=12)
    return tuple(
        ReliabilityPanel(name=name, stage=stage, points=(point,))
        for stage in ("before calibration", "after calibration")
        for name in ("top label", "AD")
    )


def test_reliability_draws_each_dot_with_its_interval_and_count(panels):
    axes = figures.reliability_figure(panels).axes
    assert len(axes) == 4
    drawn = [line.get_xydata().tolist() for line in axes[0].lines]
    assert [[0.8, 0.6]] in drawn
    assert [[0.8, 0.3], [0.8, 0.85]] in drawn
    assert [text.get_text() for text in axes[0].texts] == ["12"]
    titles = [" ".join(a.get_title().split()) for a in axes]
    assert titles == [
        f"{name}, {stage} calibration"
        for name in ("most probable class", "AD")
        for stage in ("before", "after")
    ]
    assert axes[2].get_xlabel() == "stated"


def test_counts_of_neighbouring_dots_do_not_run_into_one_number():
    points = [
        ReliabilityPoint(stated=0.05 + n / 10, came_true=1.0, low=0.2, high=1.0, scans=111) for n in range(10)
    ]
    drawn = figures.reliability_figure([ReliabilityPanel(name="AD", stage="before", points=tuple(points))])
    FigureCanvasAgg(drawn).draw()  # which lays it out
    boxes = [text.get_window_extent() for text in drawn.axes[0].texts]
    title = drawn.axes[0].title.get_window_extent()
    assert len(boxes) == 10
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in [*boxes[:n], title])


def test_the_ring_stands_at_the_operating_point():
    points = [
        RiskPoint(threshold=t, coverage=c, risk=r)
        for t, c, r in ((0.9, 0.3, 0.0), (0.6, 0.7, 0.2), (0.4, 1, 0.3))
    ]
    axes = figures.risk_figure(points, 0.6).axes[0]
    assert axes.lines[1].get_xydata().tolist() == [[0.7, 0.2]]
    assert axes.get_legend().get_texts()[0].get_text() == "confidence ≥ 60 %"


def test_the_name_of_the_ring_is_not_struck_through_by_the_curve():
    risks = (1.0, 0.5, 0.3, 0.2, 0.15, 0.12, 0.2, 0.18, 0.2, 0.22, 0.25, 0.26, 0.27, 0.28, 0.29, 0.3)
    points = [
        RiskPoint(threshold=1 - n / 20, coverage=(n + 1) / len(risks), risk=r) for n, r in enumerate(risks)
    ]
    drawn = figures.risk_figure(points, 0.6)
    FigureCanvasAgg(drawn).draw()  # which lays it out
    (name,), axes = drawn.axes[0].get_legend().get_texts(), drawn.axes[0]
    box = name.get_window_extent().transformed(axes.transData.inverted())
    below = [p for p in points if box.x0 <= p.coverage <= box.x1]
    assert below
    assert all(not box.y0 <= p.risk <= box.y1 for p in below)


@pytest.mark.parametrize("operating_point", [None, 0.95])
def test_no_ring_where_nothing_is_answered(operating_point):
    axes = figures.risk_figure([RiskPoint(threshold=0.4, coverage=1, risk=0.3)], operating_point).axes[0]
    assert len(axes.lines) == 1


def test_confusion_writes_counts_and_row_shares():
    texts = [t.get_text() for t in figures.confusion_figure([[3, 1], [0, 0]], ["A", "B"]).axes[0].texts]
    assert texts == ["3\n75 %", "1\n25 %", "0\n–", "0\n–"]


def test_long_names_of_classes_neither_overlap_nor_squeeze_the_confusion():
    names = ["mild cognitive impairment, amyloid positive", "dementia of the Alzheimer type", "CN"]
    drawn = figures.confusion_figure([[3, 1, 0]] * 3, names)
    FigureCanvasAgg(drawn).draw()  # which lays it out
    axes = drawn.axes[0]
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])
    assert axes.get_window_extent().width > 0.5 * drawn.bbox.width


def test_marks_of_an_axis_in_percent_are_exact():
    points = [RiskPoint(threshold=0.4, coverage=1, risk=0.17), RiskPoint(threshold=0.3, coverage=1, risk=0.1)]
    drawn = figures.risk_figure(points, None)
    FigureCanvasAgg(drawn).draw()  # which lays it out
    axis = drawn.axes[0].yaxis
    for place, label in zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True):
        assert float(label.get_text().removesuffix(" %")) == pytest.approx(100 * place)


def test_of_one_epoch_a_dot_is_drawn():
    one = [EpochRow(epoch=0, loss=1.0, validation_nll=0.9, validation_balanced_accuracy=0.5)]
    lines = [line for axes in figures.training_figure(one).axes for line in axes.lines]
    assert {line.get_marker() for line in lines} == {"o"}
    ticks = figures.training_figure(one).axes[0].get_xticks()
    assert all(tick == round(tick) for tick in ticks)


def test_training_leaves_gaps_where_nothing_was_measured():
    epochs = [
        EpochRow(epoch=e, loss=1.0, validation_nll=None, validation_balanced_accuracy=0.5) for e in range(3)
    ]
    left = figures.training_figure(epochs).axes[0]
    assert left.lines[0].get_xdata().tolist() == [1, 2, 3]
    assert np.isnan(left.lines[1].get_ydata()).all()


def test_posterior_draws_each_class_in_its_panel():
    points = [PosteriorPoint(name=n, true=0.2, stated=s) for n, s in (("A", 0.3), ("B", 0.7))]
    first, second = figures.posterior_figure(points, ["A", "B"]).axes
    assert first.lines[1].get_xydata().tolist() == [[0.2, 0.3]]
    assert second.lines[1].get_xydata().tolist() == [[0.2, 0.7]]
