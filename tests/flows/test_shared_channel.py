"""Nothing that identifies people reaches Prefect: not by an ingest, a failure or a retraining."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import clinics
import pytest
from prefect.client.orchestration import get_client
from prefect_servers import recording_server

from flows.ingest import ingest
from flows.ingestion.ingest_tables import COHORT_TABLE
from flows.retrain import retrain
from flows.running.doors import run_door
from flows.train import train
from pipeline.config import PhantomSettings, Study
from pipeline.errors import CohortError
from pipeline.phantom import write_cohort

pytestmark = [pytest.mark.slow, pytest.mark.server]
SECRET = "Jane_Doe"
"""A folder above everything; the phantom's subjects, dates and UIDs are looked for too."""


@pytest.fixture
def prefect(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """A server's address and its folder."""
    home = tmp_path_factory.mktemp("prefect")
    with recording_server(home) as started:
        yield f"{started.url}/api", home


def test_an_ingest_a_failure_and_a_retraining(prefect, tmp_path, wait_for):
    _, home = prefect
    place = tmp_path / SECRET
    source = write_cohort(PhantomSettings(subjects=3, scans=3, spoiled=0.4, workers=1), place / "adni", 3)
    study = Study(
        name="tiny", output=place / "out", cohort={"path": place / "bids"},
        ingest={"source": source, "workers": 1},
    )  # fmt: skip
    run_door(ingest, study)
    with pytest.raises(CohortError, match="subjects"):
        run_door(train, study)
    clinic = clinics.Clinic(place / "clinic" / "bids")
    (clinic.bids / COHORT_TABLE).parent.mkdir(parents=True)
    clinic.add(72)
    done = run_door(retrain, clinics.study_of(clinic, epochs=2, retrain={"who": "test"}))
    assert done.outcome == "promoted"

    def stored() -> bytes:
        return b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())

    wait_for(lambda: b"ask the gate" in stored())
    with get_client(sync_client=True) as client:
        states = {client.read_flow(run.flow_id).name: run.state for run in client.read_flow_runs()}
    assert {name: state.name for name, state in states.items()} == {
        "ingest": "Completed", "train": "Failed", "retrain": "Completed",
    }  # fmt: skip
    assert states["train"].message.endswith("WorkFailed: CohortError")
    for shown in (
        b"ingest scans 1-3",
        b"refused-scans",
        b"accepted-scans",
        b"calibrate and test",
        b"decision",
    ):
        assert shown in stored()
    people = {folder.name for folder in source.iterdir() if folder.name[:3].isdigit()}
    days = {path.name for path in source.rglob("20??-??-??*")}
    assert people
    assert days
    for secret in (SECRET, str(tmp_path), *people, *days, "Traceback"):
        assert secret.encode() not in stored(), secret
