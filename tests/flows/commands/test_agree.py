"""`taucal agree`: a dataset against a table of UC Berkeley's, from the command to its files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.ingestion.ingest_tables import COHORT_TABLE, REGION_TABLE
from pipeline.errors import InputError
from pipeline.scan import Cohort, Scan

COUNT = 24


@pytest.fixture
def study(tmp_path, rng) -> Path:
    """A dataset of 24 scans with regional SUVR, its private map, and UC Berkeley's table of 22 of them."""
    bids = tmp_path / "bids"
    (bids / COHORT_TABLE).parent.mkdir(parents=True)
    scans = tuple(Scan(f"P{n}", "1", bids / f"{n}.nii", diagnosis="CN") for n in range(COUNT))
    Cohort(scans, ("CN", "AD")).write_tsv(bids / COHORT_TABLE)
    own = rng.normal(1.3, 0.2, COUNT)
    pd.DataFrame(
        {
            "scan_id": [s.scan_id for s in scans],
            "both_entorhinal": own,
            "composite_meta_roi_adni": own,
            "both_putamen": own,
        }
    ).to_csv(bids / REGION_TABLE, sep="\t", index=False)
    entries = {
        scan.scan_id: {"subject": f"011_S_{1000 + n}", "date": "2019-05-10", "session": "", "paths": ["/a"],
                       "series": ""}
        for n, scan in enumerate(scans)
    }  # fmt: skip
    Path(f"{bids}.key.map.json").write_text(json.dumps(entries))
    other = 2 * (own - 0.05 + rng.normal(0, 0.02, COUNT))
    rows = ["RID,SCANDATE,TRACER,qc_flag,INFERIORCEREBELLUM_SUVR,META_TEMPORAL_SUVR,CTX_ENTORHINAL_SUVR,"
            "PUTAMEN_SUVR"]  # fmt: skip
    for n, value in enumerate(other[:22]):
        tracer, putamen = "MK6240" if n == 0 else "FTP", value if n < 4 else ""
        rows.append(f"{1000 + n},2019-05-10,{tracer},2,2,{value},{value},{putamen}")
    (tmp_path / "UCBERKELEY_TAU_6MM.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "s.yaml").write_text(
        f"name: s\noutput: {tmp_path / 'out'}\ncohort:\n  path: {bids}\n  classes: [CN, AD]\n"
    )
    return tmp_path


def test_a_dataset_is_compared_and_what_is_left_out_is_named(study):
    arguments = ["agree", str(study / "UCBERKELEY_TAU_6MM.csv"), str(study / "s.yaml")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "meta roi adni" in done.stdout
    assert "1 row is left out: TRACER is MK6240." in done.stderr
    assert "2 scans are not compared: no row of this person." in done.stderr
    assert "Regions of which fewer than 10 people have a value: 1." in done.stderr
    found = pd.read_csv(study / "out" / "suvr_agreement.tsv", sep="\t").set_index("region")
    assert list(found.index) == ["composite_meta_roi_adni", "both_entorhinal"]
    assert list(found["scans"]) == [21, 21]
    assert found["bias"].to_numpy() == pytest.approx(0.05, abs=0.02)
    assert (found["absolute"] < found["consistency"]).all()
    left = (study / "out" / "suvr_agreement_unmatched.tsv").read_text()
    assert "sub-P0_ses-1\tits row is left out: TRACER is MK6240" in left
    assert "011_S" not in left + done.output
    chosen = CliRunner().invoke(app, [*arguments, "--json"])
    result = json.loads(chosen.stdout)
    assert result["regions"][0]["bias"]["value"] == pytest.approx(found["bias"].iloc[0], abs=1e-5)
    assert result["too_few_people"] == {"both_putamen": 3}
    assert result["unmatched"].keys() == {"sub-P0_ses-1", "sub-P22_ses-1", "sub-P23_ses-1"}
    assert np.isfinite(found.to_numpy()).all()


def test_too_few_scans_are_an_error_that_names_the_reasons(study):
    table = study / "UCBERKELEY_TAU_6MM.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:6]) + "\n")
    done = CliRunner().invoke(app, ["agree", str(table), str(study / "s.yaml")])
    assert isinstance(done.exception, InputError)
    assert "4 of 24 scans have a row, expected scans of at least 10 people" in str(done.exception)
    assert "19 scans are not compared: no row of this person." in str(done.exception)
    assert (study / "out" / "suvr_agreement_unmatched.tsv").is_file()
    assert not (study / "out" / "suvr_agreement.tsv").exists()


def test_second_scans_are_compared_with_the_first_ones(study, rng):
    bids = study / "bids"
    scans = [Scan(f"P{n}", visit, bids / "x.nii", diagnosis="CN") for n in range(12) for visit in ("1", "2")]
    Cohort(tuple(scans), ("CN", "AD")).write_tsv(bids / COHORT_TABLE)
    truth = np.repeat(rng.normal(1.3, 0.2, 12), 2) + rng.normal(0, 0.02, 24)
    pd.DataFrame({"scan_id": [s.scan_id for s in scans], "both_entorhinal": truth}).to_csv(
        bids / REGION_TABLE, sep="\t", index=False
    )
    done = CliRunner().invoke(app, ["retest", str(study / "s.yaml")])
    assert done.exit_code == 0, done.output
    assert "variation %" in done.stdout
    assert "12 people have two scans." in done.stderr
    found = pd.read_csv(study / "out" / "suvr_retest.tsv", sep="\t")
    assert list(found["people"]) == [12]
    assert found["bias"][0] == pytest.approx((truth[1::2] - truth[::2]).mean(), abs=1e-4)
    none = CliRunner().invoke(app, ["retest", str(study / "s.yaml"), "--diagnosis", "AD"])
    assert isinstance(none.exception, InputError)
    assert "0 people with AD have two scans, expected at least 10" in str(none.exception)
