"""Charts of a study: their numbers come in, SVG or PNG comes out, the same bytes every time."""

from __future__ import annotations

import io

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

_STYLE = {
    "svg.hashsalt": "taucal",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def png(figure: Figure, *, dpi: int = 110) -> bytes:
    """Return a figure as PNG without date or version."""
    FigureCanvasAgg(figure)
    stream = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(
            stream, format="png", dpi=dpi, facecolor=figure.get_facecolor(), metadata={"Software": None}
        )
    return stream.getvalue()


def svg(figure: Figure) -> bytes:
    """Return a figure as SVG without date, with fixed ids."""
    FigureCanvasSVG(figure)
    stream = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()
