"""The page of the clear answer, drawn once, and a scan that tells left from right."""

import numpy as np
import pytest

from pipeline.atlas import AFFINE, SHAPE
from pipeline.reporting.scan.scan_build import build_scan_report
from pipeline.reporting.scan.scan_page import scan_page
from pipeline.scan import Volume


@pytest.fixture(scope="session")
def report(scan, context, prediction):
    return build_scan_report(scan, context, prediction)


@pytest.fixture(scope="session")
def html(report, suvr) -> str:
    return scan_page(report, suvr).html()


@pytest.fixture(scope="session")
def one_sided() -> Volume:
    """SUVR 3 in the patient's left half, 1 in the right."""
    array = np.ones(SHAPE, dtype=np.float32)
    array[: SHAPE[0] // 2] = 3
    return Volume(array, AFFINE, "SUVR")
