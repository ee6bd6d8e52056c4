"""A measured scan, a prediction and a model, made once; every report test starts from them."""

import shutil
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from models.card import Card, RegionNorm
from models.prediction import Prediction, reasons_to_refer
from models.prevalence import adjust_prevalence
from pipeline.atlas import AFFINE, load_atlas, load_regions
from pipeline.imaging.quality import Finding
from pipeline.learning.region_table import RegionTable
from pipeline.reporting.page.facts import Named
from pipeline.reporting.scan.scan_build import MeasuredScan, ReportContext
from pipeline.reporting.scan.scan_numbers import MetricRow, ModelFacts, Visit
from pipeline.scan import Volume

HOT = ("left", "precuneus")


def _regions(shift: float = 0.0) -> pd.DataFrame:
    """Every region at its published tau-negative mean, moved by `shift`."""
    atlas = load_atlas()
    rows = []
    for r in load_regions():
        sides = [s for s in ("left", "right") if f"{s}_{r.name}" in atlas.names] + ["both"]
        rows += [(r.name, side, r.negative_mean + shift, 1.5, r.kind, r.braak) for side in sides]
    rows.append(("inferior_cerebellar_grey", "both", 1.0, 40.0, "reference", None))
    return pd.DataFrame(rows, columns=["region", "side", "suvr", "volume_ml", "kind", "braak"])


@pytest.fixture(scope="session")
def suvr() -> Volume:
    """SUVR 1 in the brain, 2.5 in the left precuneus."""
    atlas = load_atlas()
    array = np.where(atlas.brain, 1.0, 0.05).astype(np.float32)
    array[atlas.mask(HOT[1], HOT[0])] = 2.5
    return Volume(array, AFFINE, "SUVR")


@pytest.fixture
def regions() -> pd.DataFrame:
    """The region table of that scan; a fresh one for each test."""
    return _hot_regions()


def _hot_regions() -> pd.DataFrame:
    table = _regions()
    table.loc[(table.region == HOT[1]) & (table.side == HOT[0]), "suvr"] = 2.5
    return table


@pytest.fixture(scope="session")
def norms_of() -> Callable[[list[float]], tuple[RegionNorm, ...]]:
    """Norms of scans that lie so far from the published mean."""

    def of(shifts: list[float]) -> tuple[RegionNorm, ...]:
        rows = []
        for shift in shifts:
            table = _regions(shift)
            suvr = dict(zip(table.side + "_" + table.region, table.suvr, strict=True))
            rows.append({**suvr, "composite_meta_roi": 1.2 + shift})
        return RegionTable(pd.DataFrame(rows)).norms(list(range(len(rows))))

    return of


@pytest.fixture(scope="session")
def norms(norms_of) -> tuple[RegionNorm, ...]:
    """Ten normal scans, 0.1 apart from the published mean in both directions."""
    return norms_of([-0.1, 0.1] * 5)


@pytest.fixture(scope="session")
def prediction() -> Prediction:
    """A clear answer: AD at 86 %."""
    return Prediction(
        class_names=("CN", "MCI", "AD"),
        probabilities=(0.03, 0.11, 0.86),
        lower=(0.01, 0.06, 0.79),
        upper=(0.06, 0.16, 0.91),
        prediction_set=("AD",),
        coverage=0.9,
        mahalanobis=12.3,
        mahalanobis_limit=31.0,
        energy=-3.1,
        energy_limit=2.2,
        confidence=0.86,
        operating_point=0.7,
        prevalence=(0.557, 0.333, 0.11),
        clinic_prevalence=None,
        clinic_probabilities=None,
        decision="report",
        reasons=(),
        largest_set=2,
        range_factor=2.0,
        ood_quantile=0.99,
    )


@pytest.fixture(scope="session")
def two(prediction) -> Prediction:
    """An answer of two classes: CN or MCI."""
    return replace(
        prediction,
        probabilities=(0.72, 0.25, 0.03),
        lower=(0.58, 0.14, 0.01),
        upper=(0.83, 0.38, 0.07),
        prediction_set=("CN", "MCI"),
        confidence=0.72,
    )


@pytest.fixture(scope="session")
def doubtful(prediction) -> Prediction:
    """An answer that is referred, for two reasons."""
    open_answer = replace(
        prediction,
        probabilities=(0.31, 0.48, 0.21),
        lower=(0.22, 0.40, 0.14),
        upper=(0.41, 0.56, 0.30),
        prediction_set=("CN", "MCI", "AD"),
        confidence=0.48,
        decision="refer",
    )
    return replace(open_answer, reasons=reasons_to_refer(open_answer))


@pytest.fixture(scope="session")
def at_clinic() -> Callable[[Prediction, tuple[float, ...]], Prediction]:
    """A prediction as it is at a clinic's prevalence; its set stays as it was."""

    def moved(found: Prediction, shares: tuple[float, ...]) -> Prediction:
        drawn = np.array([found.probabilities, found.lower, found.upper])
        drawn /= drawn.sum(axis=1, keepdims=True)
        shown, *ends = (adjust_prevalence(p, found.prevalence, shares) for p in drawn)
        there = replace(
            found,
            clinic_prevalence=shares,
            clinic_probabilities=tuple(shown.tolist()),
            lower=tuple(np.minimum(shown, np.min(ends, axis=0)).tolist()),
            upper=tuple(np.maximum(shown, np.max(ends, axis=0)).tolist()),
            confidence=float(shown.max()),
        )
        reasons = reasons_to_refer(there)
        return replace(there, reasons=reasons, decision="refer" if reasons else "report")

    return moved


@pytest.fixture(scope="session")
def averaged(prediction) -> Prediction:
    """The clear answer as the average of five networks."""
    return replace(prediction, networks=5, entropy=0.49, mutual_information=0.07)


@pytest.fixture(scope="session")
def scan() -> MeasuredScan:
    """A scan with its regions, composites, findings and two visits."""
    return MeasuredScan(
        subject="A7KD2M",
        session="20310412",
        facts={"tracer": "AV1451", "manufacturer": "SIEMENS"},
        regions=_hot_regions(),
        composites={"meta_roi": 1.25, "braak_1_2": 1.1},
        findings=(Finding("brain-overlap", "pass", 0.94, "at least 0.85", "The scan covers the brain."),),
        visits=(Visit(label="first", months=0, meta_roi=1.2), Visit(label="this", months=24, meta_roi=1.25)),
    )


@pytest.fixture(scope="session")
def context(norms) -> ReportContext:
    """A model and ten normal scans."""
    model = ModelFacts(
        name="taucal",
        version="3",
        trained_on="112 scans",
        tested_on="50 scans of other subjects",
        metrics=(MetricRow(name="Balanced accuracy", value=0.57, low=0.45, high=0.69),),
        versions=(Named(label="taucal", value="0.1.0"),),
    )
    card = Card(
        norms=norms,
        likeness=((0.4, 0.5, 9, 5), (0.7, 0.8, 22, 16), (0.8, 0.9, 40, 34)),
        coverage={"CN": (41, 44), "MCI": (25, 30), "AD": (9, 11)},
    )
    return ReportContext(model, "2026-11-21", "4f1c09e2", card)


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, headless, for one file.

    As long as it is open, Playwright's event loop counts as running in this thread: Prefect and asyncio would
    take the tests of every later file for asynchronous code.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def violations(browser, tmp_path) -> Callable[[str], list[str]]:
    """What axe-core finds by all its rules, at two widths; the page's policy is lifted for that script."""
    from axe_playwright_python.sync_playwright import Axe

    def find(html: str) -> list[str]:
        path = tmp_path / "page.html"
        path.write_text(html)
        found = []
        for width in (1200, 400):
            context = browser.new_context(viewport={"width": width, "height": 900}, bypass_csp=True)
            page = context.new_page()
            page.goto(path.as_uri())
            for rule in Axe().run(page).response["violations"]:
                found += [f"{width} px, {rule['id']}: {node['html'][:200]}" for node in rule["nodes"]]
            wide = page.evaluate("document.documentElement.scrollWidth")
            found += [f"{width} px: the page is {wide} px wide"] if wide > width else []
            context.close()
        return found

    return find
