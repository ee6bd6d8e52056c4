from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from pipeline.reporting.page import charts


def drawn() -> Figure:
    figure = charts.new_figure(2, 2)
    axes = figure.subplots()
    charts.share_axes(axes)
    axes.plot([0, 1], [0, 1], label="a line")
    return figure


def test_svg_and_png_are_the_same_every_time():
    draws = [(charts.svg(f), charts.png(f)) for f in (drawn() for _ in range(2))]
    assert draws[0] == draws[1]
    vector, raster = draws[0]
    assert b"<dc:date>" not in vector
    assert b"matplotlib" not in raster.lower()


def test_a_figure_is_written_beside_its_numbers(tmp_path):
    numbers = pd.DataFrame({"stated": [0.5], "scans": [3]})
    charts.ReportFigure.of("line", ("Title", "alt", "how"), drawn(), numbers).write(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"line.svg", "line.png", "line.csv"}
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "line.csv"), numbers)


def test_a_hollow_mark_is_white_inside():
    assert charts.ChartStyle(hollow=True).face == "white"
    assert charts.ChartStyle().face == charts.BLUE
