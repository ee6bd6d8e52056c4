"""A figure of a report beside the table of its numbers, as files and for a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from pipeline.files import written_whole
from pipeline.reporting.page import charts as figures


@dataclass(frozen=True, eq=False)
class ReportFigure:
    """A figure, the table of its numbers, and how it is read."""

    name: str
    title: str
    alt: str
    how_to_read: str
    svg: bytes
    png: bytes
    numbers: pd.DataFrame

    @classmethod
    def of(cls, name: str, words: tuple[str, str, str], drawn: Figure, numbers: pd.DataFrame) -> ReportFigure:
        """Return a figure as drawn; its words are title, alternative text and how to read it."""
        return cls(name, *words, figures.svg(drawn), figures.png(drawn, dpi=160), numbers)

    def write(self, folder: Path) -> None:
        """Write it as ``<name>.svg`` and ``<name>.png``, and its numbers as ``<name>.csv``."""
        for suffix, content in (("svg", self.svg), ("png", self.png)):
            with written_whole(folder / f"{self.name}.{suffix}") as beside:
                beside.write_bytes(content)
        with written_whole(folder / f"{self.name}.csv") as beside:
            self.numbers.to_csv(beside, index=False)
