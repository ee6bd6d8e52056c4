"""The content of a scan's structured report, as a tree of items (TID 1500)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from highdicom import sr
from highdicom.sr import MeasurementsAndQualitativeEvaluations as Group
from highdicom.sr import VolumetricROIMeasurementsAndQualitativeEvaluations as RegionGroup
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from pipeline.reporting.dicom_objects import codes as own
from pipeline.reporting.dicom_objects.codes import Code
from pipeline.reporting.scan.regional_numbers import Composite, RegionRow
from pipeline.reporting.scan.scan_numbers import ClassProbability, ScanReport

SegmentReferences = Mapping[str, sr.ReferencedSegment]
MAKER = "taucal"
LIBRARY_IMAGES = 24
_DESCRIBED_BY = ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient")
_UNITLESS = Code("{ratio}", "UCUM", "ratio")


def measurement_report(
    report: ScanReport, source: Sequence[Dataset], device_uid: str, segments: SegmentReferences | None = None
) -> sr.MeasurementReport:
    """Return the content of the structured report: decision, probabilities, regional SUVR, source images.

    Parameters
    ----------
    source : sequence of Dataset
        The images the report was made from. Some of them, evenly taken, become the image library, which
        describes each at length; the document's evidence names them all. An image that does not state its
        place by itself, as an enhanced one, cannot be described there.
    device_uid : str
        Stands for the model and its version.
    segments : mapping of str to ReferencedSegment, optional
        ``"left_precuneus"`` -> its segment in a Segmentation of the scan.
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
    described = [image for image in source if all(image.get(keyword) for keyword in _DESCRIBED_BY)]
    return sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=concept(own.PROCEDURE),
        imaging_measurements=list(_groups(report, segments or {})),
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=described[:: -(-len(described) // LIBRARY_IMAGES)] if described else None,
    )


def _groups(report: ScanReport, segments: SegmentReferences) -> Iterator[Group | RegionGroup]:
    model, software = _model(report), _software(report)
    yield _decision(report, model)
    yield from (_class_group(report, answer, model) for answer in report.classes)
    yield from (_composite_group(report, composite, software) for composite in report.composites)
    for row in report.regions:
        yield from _region_groups(report, row, software, segments)


def _model(report: ScanReport) -> sr.AlgorithmIdentification:
    """Return what answered: the classifier, with its versions and hashes."""
    return sr.AlgorithmIdentification(
        name=report.model.name,
        version=report.model.version,
        family=concept(own.ARTIFICIAL_INTELLIGENCE),
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
        finding_type=concept(own.ANSWER),
        algorithm_id=algorithm,
        finding_sites=[sr.FindingSite(concept(own.BRAIN))],
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
        finding_type=concept(own.class_code(answer.name, answer.title)),
        algorithm_id=algorithm,
        finding_sites=[sr.FindingSite(concept(own.BRAIN))],
        measurements=measured,
        qualitative_evaluations=[_evaluation(own.IN_SET, own.YES if answer.in_set else own.NO)],
    )


def _composite_group(
    report: ScanReport, composite: Composite, algorithm: sr.AlgorithmIdentification
) -> Group:
    site = sr.FindingSite(concept(own.private(composite.name, composite.title)))
    return Group(
        tracking_identifier=_tracked(report, composite.title),
        algorithm_id=algorithm,
        finding_sites=[site],
        measurements=[_number(own.SUVR, composite.suvr)],
    )


def _region_groups(
    report: ScanReport, row: RegionRow, algorithm: sr.AlgorithmIdentification, segments: SegmentReferences
) -> Iterator[Group | RegionGroup]:
    """Yield the SUVR of a region: of each side that has a segment with that segment, the rest together."""
    where = concept(own.region_code(row.region, row.title))
    rest = []
    for value, side, code in (
        (row.left, "left", own.LEFT),
        (row.right, "right", own.RIGHT),
        (row.both, "", None),
    ):
        if value is None:
            continue
        site = sr.FindingSite(where, laterality=concept(code) if code else None)
        segment = segments.get(f"{side}_{row.region}" if side else row.region)
        if segment is None:
            rest.append(_number(own.SUVR, value, site=site))
            continue
        yield RegionGroup(
            tracking_identifier=region_tracking(report, row.title, side),
            referenced_segment=segment,
            finding_type=where,
            algorithm_id=algorithm,
            measurements=[_number(own.SUVR, value, site=site)],
        )
    if rest:
        identifier = _tracked(report, row.title)
        yield Group(tracking_identifier=identifier, algorithm_id=algorithm, measurements=rest)


def region_tracking(report: ScanReport, title: str, side: str) -> sr.TrackingIdentifier:
    """Return the identifier of a region of one side, the same in the report and the Segmentation."""
    return _tracked(report, f"{title}, {side}" if side else f"{title}, region")


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
        name=concept(name),
        value=round(float(value), 4),  # far finer than any interval around it; DICOM holds 16 characters
        unit=concept(_UNITLESS),
        derivation=concept(derivation) if derivation else None,
        method=concept(method) if method else None,
        finding_sites=[site] if site else None,
    )


def _evaluation(name: Code, value: Code) -> sr.QualitativeEvaluation:
    return sr.QualitativeEvaluation(name=concept(name), value=concept(value))


def concept(code: Code) -> sr.CodedConcept:
    """Return a code as the content of an object holds it."""
    return sr.CodedConcept(value=code.value, meaning=code.meaning, scheme_designator=code.scheme)
