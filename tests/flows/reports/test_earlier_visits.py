"""Earlier scans of a person in a report: their order, months, and the same model's probabilities."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from flows.reports import earlier_visits
from flows.reports.earlier_visits import visits_until
from models.prediction import Prediction
from pipeline.errors import InputError
from pipeline.scan import Cohort, Scan

NOW = SimpleNamespace(composites={"meta_roi": 1.5})
PREDICTION = Prediction(
    class_names=("CN", "AD"), probabilities=(0.2, 0.8), lower=(0.1, 0.7), upper=(0.3, 0.9),
    prediction_set=("AD",), coverage=0.8, mahalanobis=1.0, mahalanobis_limit=9.0, energy=0.0,
    energy_limit=9.0, confidence=0.8, operating_point=0.5, prevalence=(0.5, 0.5), clinic_prevalence=None,
    clinic_probabilities=None, decision="report", reasons=(),
)  # fmt: skip


class Model:
    """Gives AD the SUVR that a scan holds, and remembers the prevalence it was asked at."""

    def predict(self, array, prevalence=None):
        self.prevalence = prevalence
        p = (1 - array, array)
        return replace(PREDICTION, probabilities=p, lower=(0.0, array - 0.1), upper=(1.0, array + 0.1))


@pytest.fixture
def cohort(tmp_path, monkeypatch) -> Cohort:
    def scan(subject, session, meta_roi):
        facts = {} if meta_roi is None else {"meta_roi": meta_roi}
        return Scan(subject, session, tmp_path / f"{subject}{session}", facts=facts)

    suvr = {"20300101": 0.3, "20310101": 0.6}

    def derivative_of(found):
        if found.session == "20300601":
            raise InputError("gone")
        return SimpleNamespace(suvr=SimpleNamespace(array=suvr[found.session]))

    monkeypatch.setattr(earlier_visits, "derivative_of", derivative_of)
    rows = [("A", "20310101", 1.3), ("A", "20300101", 1.2), ("A", "20300601", 1.25), ("A", "20300801", None),
            ("A", "20320101", 1.5), ("A", "20330101", 1.9), ("B", "20300101", 1.1)]  # fmt: skip
    return Cohort(tuple(scan(*row) for row in rows), ())


def test_earlier_scans_of_the_person_come_first_with_what_the_model_gives_them(cohort):
    model = Model()
    found = visits_until(("A", "20320101"), NOW, cohort, (model, PREDICTION), {"CN": 0.4, "AD": 0.6})
    assert [(v.label, v.meta_roi, v.probability) for v in found] == [
        ("visit 1", 1.2, 0.3), ("visit 2", 1.25, None), ("visit 3", 1.3, 0.6), ("visit 4", 1.5, 0.8),
    ]  # fmt: skip
    assert [round(v.months) for v in found] == [0, 5, 12, 24]
    assert (found[0].lower, found[0].upper) == pytest.approx((0.2, 0.4))
    assert model.prevalence == {"CN": 0.4, "AD": 0.6}


def test_a_person_without_earlier_scans_has_this_visit_alone(cohort):
    [only] = visits_until(("C", "20320101"), NOW, cohort, (Model(), PREDICTION))
    assert (only.label, only.months, only.probability) == ("visit 1", 0, 0.8)


def test_a_session_without_a_date_has_no_visits(cohort):
    assert visits_until(("A", "baseline"), NOW, cohort, (Model(), PREDICTION)) == ()


def test_the_same_scan_reported_again_is_no_earlier_visit(cohort):
    again = visits_until(("A", "20320101n2"), NOW, cohort, (Model(), PREDICTION))
    assert again == visits_until(("A", "20320101"), NOW, cohort, (Model(), PREDICTION))
