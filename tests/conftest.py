"""What every test may ask for: the shared real files, small volumes, a quiet environment."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from page_check import contradictions
from page_grammar import slips
from page_losses import comparison_contradictions
from page_reads import agreement_contradictions, list_contradictions
from page_tables import study_contradictions
from page_week import week_contradictions

from flows.running.environment import set_quiet_defaults
from pipeline.reporting.comparison.comparison_numbers import ComparisonReport
from pipeline.reporting.page.html import Page
from pipeline.reporting.reading.agreement_page import AgreementReport
from pipeline.reporting.reading.report_list import ReportList
from pipeline.reporting.scan.scan_numbers import ScanReport
from pipeline.reporting.study.study_numbers import StudyReport
from pipeline.reporting.week.week_page import WeekReport

os.environ.setdefault("OMP_NUM_THREADS", "1")
set_quiet_defaults()
# Two busy cores: a deadline would fail at random.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared(name: str) -> Path:
    """Return a real file or folder beside the checkout; skip by name where it is absent."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"shared/data/{name} is not beside this checkout")
    return path


@pytest.fixture
def shared_data():
    """The function that returns a path below shared/data or skips."""
    return shared


@pytest.fixture(scope="module", autouse=True)
def no_loop_left_running() -> Iterator[None]:
    """A file that leaves an event loop running fails itself: later files would fail far from the cause."""
    yield
    assert asyncio._get_running_loop() is None, "a fixture has left an event loop running in this thread"


@pytest.fixture(scope="session", autouse=True)
def every_page_agrees_with_itself() -> Iterator[None]:
    """Check every page that a test makes; those of a scan, a study, a comparison, of reads or a week also
    against their JSON."""
    checks = {
        ScanReport: contradictions,
        StudyReport: study_contradictions,
        ComparisonReport: comparison_contradictions,
        ReportList: list_contradictions,
        AgreementReport: agreement_contradictions,
        WeekReport: week_contradictions,
    }

    def checked(page: Page) -> str:
        html = made(page)
        if check := checks.get(type(page.report)):
            assert check(html, page.report.model_dump(mode="json")) == []
        assert slips(html) == []
        return html

    with pytest.MonkeyPatch.context() as patch:
        made = Page.html
        patch.setattr(Page, "html", checked)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_file_in_the_home_folder(tmp_path_factory) -> Iterator[None]:
    """Resolved studies go to a temporary folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


def _wait_for(condition: Callable[[], object], seconds: float = 180, pause: float = 0.05) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"waited {seconds:.0f} s in vain"
        time.sleep(pause)


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., None]:
    """The function that waits for a condition; its limit is for what hangs, not for what is slow."""
    return _wait_for


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed: tests do not depend on their order."""
    return np.random.default_rng(20261121)


@pytest.fixture(scope="session")
def _read_study(tmp_path_factory) -> Path:
    """The output folder of a study whose ledger holds one answer: a new MLflow store takes seconds."""
    from pipeline import tracking
    from pipeline.config import TrackingSettings

    folder = tmp_path_factory.mktemp("read") / "out"
    answer = {
        "decision": "report", "reasons": ["<b>odd</b>"], "prediction_set": ["AD"], "most_likely": "AD",
        "probabilities": {"CN": 0.062, "MCI": 0.101, "AD": 0.837},
    }  # fmt: skip
    store = tracking.store_of(TrackingSettings(), folder)
    tracking.record_answer(store, tracking.AnsweredScan("report", "sub-A_ses-1", "0a1b", "3", "run", answer))
    return folder


@pytest.fixture
def read_desk(_read_study, tmp_path):
    """The function that returns the desk of a new study with one answer, given its section `report`."""
    from flows.reports.read_desk import ReadDesk
    from pipeline.config import Study

    def made(**report: Any) -> ReadDesk:
        study = Study(name="tiny", output=tmp_path / "out", cohort={"path": tmp_path / "bids"}, report=report)
        shutil.copytree(_read_study, study.output)
        (study.output / "study.yaml").write_text(study.to_yaml())
        return ReadDesk.of(study)

    return made


@pytest.fixture(scope="session")
def small_classifier():
    """A classifier of an untrained network, calibrated on noise, whose card tells of a small study."""
    import torch

    from models.calibrators import build_calibrator
    from models.card import Card
    from models.classifier import CalibratedClassifier
    from models.conformal import ConformalSets
    from models.networks import build_network
    from models.outliers import OutlierDetector
    from models.preprocessing import Preprocessing

    preprocessing = Preprocessing(spacing_mm=8, suvr_max=4)
    torch.manual_seed(0)
    network = build_network("small_cnn", 3, preprocessing.in_shape, width=4).eval()
    labels = np.arange(30) % 3
    with torch.no_grad():
        features = network.features(torch.rand(30, 1, *preprocessing.in_shape))
        logits = network.head(features).double().numpy()
    calibrator = build_calibrator("temperature", prior=None).fit(logits, labels)
    return CalibratedClassifier(
        preprocessing=preprocessing,
        network=network,
        network_name="small_cnn",
        network_options={"width": 4},
        calibrator=calibrator,
        refits=tuple(build_calibrator("temperature", prior=None).fit(logits[n:], labels[n:]) for n in (3, 6)),
        conformal=ConformalSets.fit(calibrator.transform(logits), labels, coverage=0.9),
        outliers=OutlierDetector.fit(features.numpy(), logits, labels),
        class_names=("CN", "MCI", "AD"),
        prevalence=(0.5, 0.3, 0.2),
        operating_point=0.4,
        card=Card.from_dict(
            {
                "study": "small",
                "synthetic": True,
                "tracer": "AV1451",
                "loss": {"name": "gce"},
                "calibrator": {"name": "temperature", "reason": "It had the lowest NLL."},
                "split": {"train": 90, "test": 30},
                "subjects": {"train": 80, "test": 25},
                "class_counts": {"CN": 60, "MCI": 20, "AD": 10},
                "metrics": {
                    "negative_log_likelihood": {"value": 0.81, "low": 0.52, "high": 1.14},
                    "balanced_accuracy": {"value": 0.41, "low": 0.3, "high": 0.52},
                },
                "likeness": [[0.5, 0.6, 4, 3], [0.8, 0.9, 20, 11]],
            }
        ),
    )


@pytest.fixture(scope="session")
def pet_scans(tmp_path_factory) -> dict[str, Path]:
    """One sound phantom scan as DICOM and as NIfTI, a folder of no scan, and a path to nothing."""
    from pipeline.config import PhantomSettings
    from pipeline.ingest.bids import write_scan
    from pipeline.ingest.dicom import read_series
    from pipeline.phantom import plan_cohort
    from pipeline.phantom.dicom_writer import write_series
    from pipeline.phantom.tree import make_scan

    folder = tmp_path_factory.mktemp("scans")
    (planned,) = plan_cohort(PhantomSettings(subjects=1, scans=1, spoiled=0), 7)
    places = {name: folder / name for name in ("dicom", "empty")}
    for place in places.values():
        place.mkdir()
    write_series(planned, make_scan(planned, 7)[1], places["dicom"])
    volume = read_series(places["dicom"])
    nifti = write_scan(volume, volume.facts, folder / "sub-A_ses-B_trc-18FAV1451_pet.nii.gz")
    return {**places, "nifti": nifti, "nothing": folder / "nothing"}
