"""Series that a test changes in place, and what their folder gives."""

from __future__ import annotations

import numpy as np
import pydicom

from pipeline.errors import RefusedScan
from pipeline.ingest.convert import read_found
from pipeline.ingest.sources import find_scans


def change(series, **values):
    """Set elements of every slice of a series; a function is given the number of the slice."""
    for n, path in enumerate(
        sorted(series.folder.iterdir(), key=lambda p: pydicom.dcmread(p).InstanceNumber)
    ):
        ds = pydicom.dcmread(path)
        for keyword, value in values.items():
            setattr(ds, keyword, value(n) if callable(value) else value)
        ds.save_as(path)


def read_all(folder):
    """Return what each scan of a folder gives: values, or the rule that refused it."""
    read = []
    for scan in find_scans(folder).scans:
        try:
            read.append(read_found(scan).array)
        except RefusedScan as refusal:
            read.append(refusal.rule)
    return read


def are_both(read, two):
    return len(read) == 2 and all(
        any(not isinstance(one, str) and np.allclose(one, series.values, rtol=1e-6) for one in read)
        for series in two
    )


def setting(**values):
    """Return an edit of `make_series` that sets elements of every slice."""

    def edit(ds, _slice, _frame):
        for name, value in values.items():
            setattr(ds, name, value)

    return edit
