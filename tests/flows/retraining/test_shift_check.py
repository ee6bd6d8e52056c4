"""Readers who change more answers than before are a reason of the shift check, once."""

from __future__ import annotations

from flows.retraining.shift_check import _check_readers
from pipeline import tracking
from pipeline.config import Study
from pipeline.evaluation.monitoring.reads import Read


def test_a_rise_is_tested_once_and_holds_until_there_is_another_champion(tmp_path):
    study = Study(name="tiny", output=tmp_path / "out", cohort={"path": tmp_path})
    audit = tracking.audit_of(study.output)

    def append(count: int, overridden: int) -> None:
        for n in range(count):
            verdict = "reject" if n < overridden else "accept"
            facts = Read("AB", "negative", None, "good", verdict=verdict, reason="borderline").to_dict()
            del facts["comment"]
            number = len(audit.entries())
            answer = {"decision": "report", "most_likely": "CN", "confidence": 0.8, "prediction_set": ["CN"]}
            more = {"scan": f"sub-{number}_ses-1", "trace": "tr", "supersedes": None, "answer": answer}
            audit.append("read", key=str(number), who="AB", version=1, facts={**facts, **more})

    assert _check_readers(study, 1) == []
    append(30, 3)
    assert [test.answer for test in _check_readers(study, 1)] == ["nothing"]
    assert len(_check_readers(study, 1)) == 1, "no read is tested twice"
    append(12, 9)
    found = _check_readers(study, 1)
    assert [test.answer for test in found] == ["nothing", "retrain"]
    assert "Readers changed 9 of 12 answers since" in found[-1].sentence
    assert [test.answer for test in _check_readers(study, 1)] == ["nothing", "retrain"], "it holds"
    assert _check_readers(study, 2) == [], "of another champion nothing is known yet"
    append(12, 9)
    assert [test.answer for test in _check_readers(study, 2)] == ["retrain"], "nor is it a new start"
