"""The content of a scan's structured report, as a tree of items (TID 1500)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from highdicom import sr
from highdicom.sr import MeasurementsAndQualitativeEvaluations as Group
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from pipeline.reporting.dicom_objects import codes as own
from pipeline.reporting.dicom_objects.codes import Code
from pipeline.reporting.scan.scan_numbers import ClassProbability, Composite, RegionRow, ScanReport

MAKER = "taucal"
LIBRARY_IMAGES = 24
_UNITLESS = Code("{ratio}", "UCUM", "ratio")


def measurement_report(
    report: ScanReport, source: Sequence[Dataset], device_uid: str
) -> sr.MeasurementReport:
    """Return the content of the structured report: decision, probabilities, regional SUVR, source images.

    Parameters
    ----------
    source : sequence of Dataset
        The images the report was made from. Some of them, evenly taken, become the image library, which
        describes each at length; the document's evidence names them all.
    device_uid : str
        Stands for the model and its version.
    """
    observer = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=device_uid,
            name=report.model.name,
            manufacturer_name=MAKER,
            model_name=report.model.version,
        ),
    )
    return sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=_concept(own.PROCEDURE),
        imaging_measurements=list(_groups(report)),
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=list(source[:: -(-len(source) // LIBRARY_IMAGES)]),
    )


def _groups(report: ScanReport) -> Iterator[Group]:
    model, software = _model(report), _software(report)
    yield _decision(report, model)
    yield from (_class_group(report, answer, model) for answer in report.classes)
    yield from (_composite_group(report, composite, software) for composite in report.composites)
    yield from filter(None, (_region_group(report, row, software) for row in report.regions))


def _model(report: ScanReport) -> sr.AlgorithmIdentification:
    """Return what answered: the classifier, with its versions and hashes."""
    return sr.AlgorithmIdentification(
        name=report.model.name,
        version=report.model.version,
        family=_concept(own.ARTIFICIAL_INTELLIGENCE),
        manufacturer=MAKER,
        parameters=[f"{fact.label}: {fact.value}" for fact in report.model.versions] or None,
    )


def _software(report: ScanReport) -> sr.AlgorithmIdentification:
    """Return what measured: the program, whatever the classifier."""
    version = next((fact.value for fact in report.model.versions if fact.label == MAKER), "unknown")
    return sr.AlgorithmIdentification(name="taucal regional SUVR", version=version, manufacturer=MAKER)


def _decision(report: ScanReport, algorithm: sr.AlgorithmIdentification) -> Group:
    stated = [(own.DECISION, own.VERDICTS[report.verdict]), (own.QUALITY, own.QUALITIES[report.quality])]
    if report.verdict == "report":
        stated.append((own.MOST_LIKELY, own.class_code(report.most_likely.name, report.most_likely.title)))
    return Group(
        tracking_identifier=_tracked(report, "decision"),
        finding_type=_concept(own.ANSWER),
        algorithm_id=algorithm,
        finding_sites=[sr.FindingSite(_concept(own.BRAIN))],
        qualitative_evaluations=[_evaluation(name, value) for name, value in stated],
    )


def _class_group(
    report: ScanReport, answer: ClassProbability, algorithm: sr.AlgorithmIdentification
) -> Group:
    method = own.CLINIC if report.clinic else None
    measured = [
        _number(own.PROBABILITY, answer.shown, method=method),
        _number(own.PROBABILITY, answer.lower, derivation=own.LOWER, method=method),
        _number(own.PROBABILITY, answer.upper, derivation=own.UPPER, method=method),
    ]
    if report.clinic:
        measured.append(_number(own.PROBABILITY, answer.probability, method=own.TRAINING))
    return Group(
        tracking_identifier=_tracked(report, f"class {answer.name}"),
        finding_type=_concept(own.class_code(answer.name, answer.title)),
        algorithm_id=algorithm,
        finding_sites=[sr.FindingSite(_concept(own.BRAIN))],
        measurements=measured,
        qualitative_evaluations=[_evaluation(own.IN_SET, own.YES if answer.in_set else own.NO)],
    )


def _composite_group(
    report: ScanReport, composite: Composite, algorithm: sr.AlgorithmIdentification
) -> Group:
    site = sr.FindingSite(_concept(own.private(composite.name, composite.title)))
    return Group(
        tracking_identifier=_tracked(report, composite.title),
        algorithm_id=algorithm,
        finding_sites=[site],
        measurements=[_number(own.SUVR, composite.suvr)],
    )


def _region_group(report: ScanReport, row: RegionRow, algorithm: sr.AlgorithmIdentification) -> Group | None:
    """Return the SUVR of a region, each side with its laterality; None where nothing was measured."""
    where = _concept(own.region_code(row.region, row.title))
    sides = ((row.left, own.LEFT), (row.right, own.RIGHT), (row.both, None))
    measured = [
        _number(own.SUVR, value, site=sr.FindingSite(where, laterality=_concept(side) if side else None))
        for value, side in sides
        if value is not None
    ]
    if not measured:
        return None
    return Group(
        tracking_identifier=_tracked(report, row.title),
        algorithm_id=algorithm,
        measurements=measured,
    )


def _tracked(report: ScanReport, what: str) -> sr.TrackingIdentifier:
    # Unique within the subject's scan; the same report gives the same UID.
    root = (report.subject, report.session, report.run_id, report.report_date)
    return sr.TrackingIdentifier(uid=own.uid("tracked", what, *root), identifier=what)


def _number(
    name: Code,
    value: float,
    *,
    derivation: Code | None = None,
    method: Code | None = None,
    site: sr.FindingSite | None = None,
) -> sr.Measurement:
    return sr.Measurement(
        name=_concept(name),
        value=round(float(value), 4),  # far finer than any interval around it; DICOM holds 16 characters
        unit=_concept(_UNITLESS),
        derivation=_concept(derivation) if derivation else None,
        method=_concept(method) if method else None,
        finding_sites=[site] if site else None,
    )


def _evaluation(name: Code, value: Code) -> sr.QualitativeEvaluation:
    return sr.QualitativeEvaluation(name=_concept(name), value=_concept(value))


def _concept(code: Code) -> sr.CodedConcept:
    return sr.CodedConcept(value=code.value, meaning=code.meaning, scheme_designator=code.scheme)
