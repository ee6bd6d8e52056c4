"""The page of the clear answer, drawn once."""

import pytest

from pipeline.reporting.scan.scan_build import build_scan_report
from pipeline.reporting.scan.scan_page import scan_page


@pytest.fixture(scope="session")
def html(scan, context, prediction, suvr) -> str:
    return scan_page(build_scan_report(scan, context, prediction), suvr).html()
