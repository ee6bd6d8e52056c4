"""The regions of the atlas as a DICOM Segmentation, on the slices and in the frame of reference of the scan.

References
----------
DICOM PS3.3 A.51 (Segmentation IOD), C.8.20 (Segmentation modules).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence, seg
from highdicom.sr import ReferencedSegment, SourceSeriesForSegmentation
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from models.arrays import Floats
from pipeline.atlas import load_atlas
from pipeline.reporting.dicom_objects import codes as own
from pipeline.reporting.dicom_objects.content import MAKER, concept, region_tracking
from pipeline.reporting.scan.scan_numbers import ScanReport

LabelsAt = Callable[[Floats], NDArray[np.int16]]
"""From points of the scan in mm (RAS+) to indices into the atlas's names."""
_SIDES = {"left": own.LEFT, "right": own.RIGHT}
_SAME_PLACE_MM = 0.01
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class RegionSegments:
    """The segments of a scan's regions before they are written.

    Parameters
    ----------
    images : tuple of Dataset
        One image of each slice.
    pixels : ndarray of uint8 or uint16, shape (slices, rows, columns)
        The number of the segment of each pixel; 0 where there is none.
    names : tuple of str
        ``"left_precuneus"`` ..., in the order of the numbers from 1.
    """

    images: tuple[Dataset, ...]
    pixels: NDArray[np.unsignedinteger[Any]]
    names: tuple[str, ...]


def region_segments(
    report: ScanReport, source: Sequence[Dataset], labels_at: LabelsAt
) -> RegionSegments | None:
    """Return where the measured regions lie in the images of a scan.

    Returns
    -------
    RegionSegments or None
        None where the images do not state where they lie, in one frame of reference, or no region is in them.
    """
    images = _one_per_slice(source)
    measured = {row.region for row in report.regions}
    if not images or not measured:
        return None
    labels = np.stack([labels_at(_points_mm(image)) for image in images])
    known = [
        (index, name)
        for index, name in enumerate(load_atlas().names)
        if index and _region_and_side(name)[0] in measured
    ]
    found = [(index, name) for index, name in known if (labels == index).any()]
    if not found:
        return None
    number_of = np.zeros(len(load_atlas().names), dtype=np.uint16)
    for number, (index, _) in enumerate(found, start=1):
        number_of[index] = number
    return RegionSegments(images, number_of[labels], tuple(name for _, name in found))


def _region_and_side(name: str) -> tuple[str, str]:
    """Return ``("precuneus", "left")`` of ``"left_precuneus"``; no side where the name has none."""
    side, _, region = name.partition("_")
    return (region, side) if side in _SIDES else (name, "")


def _one_per_slice(source: Sequence[Dataset]) -> tuple[Dataset, ...]:
    """Return an image of each place, from one end to the other; of a dynamic series the first of each."""
    needed = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID")
    if not all(image.get(keyword) for image in source for keyword in needed):
        return ()
    shapes = {(str(i.FrameOfReferenceUID), i.Rows, i.Columns, *map(float, i.PixelSpacing)) for i in source}
    turned = [np.array(image.ImageOrientationPatient, dtype=float) for image in source]
    if len(shapes) != 1 or any(np.abs(turn - turned[0]).max() > 1e-3 for turn in turned):
        return ()
    normal = np.cross(turned[0][:3], turned[0][3:])
    placed = sorted(
        ((float(np.array(i.ImagePositionPatient, dtype=float) @ normal), n) for n, i in enumerate(source)),
    )
    chosen, last = [], -np.inf
    for place, n in placed:
        if place - last > _SAME_PLACE_MM:
            chosen.append(source[n])
            last = place
    return tuple(chosen)


def _points_mm(image: Dataset) -> Floats:
    """Return the centre of each pixel, shape (rows, columns, 3), RAS+."""
    origin, turn = (
        np.array(image[k].value, dtype=float) for k in ("ImagePositionPatient", "ImageOrientationPatient")
    )
    between_rows, between_columns = map(float, image.PixelSpacing)
    rows, columns = np.indices((image.Rows, image.Columns))[..., None]
    lps = origin + columns * between_columns * turn[:3] + rows * between_rows * turn[3:]
    return np.asarray(lps * _LPS_TO_RAS)


def segmentation_of(
    report: ScanReport, segments: RegionSegments, made: Mapping[str, Any]
) -> seg.Segmentation:
    """Return the segments as a DICOM Segmentation; `made` are the attributes of its series and maker."""
    version = next((fact.value for fact in report.model.versions if fact.label == MAKER), "unknown")
    algorithm = AlgorithmIdentificationSequence(
        name="taucal regional SUVR", family=codes.DCM.ArtificialIntelligence, version=version, source=MAKER
    )
    titles = {row.region: row.title for row in report.regions}
    described = []
    for number, name in enumerate(segments.names, start=1):
        region, side = _region_and_side(name)
        title, kind = titles[region], concept(own.region_code(region, titles[region]))
        identifier = region_tracking(report, title, side)
        segment = seg.SegmentDescription(
            segment_number=number,
            segment_label=f"{side.capitalize()} {title[0].lower()}{title[1:]}" if side else title,
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=kind,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            tracking_uid=identifier[1].value,
            tracking_id=identifier[0].value,
        )
        if side:
            segment.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
                concept(_SIDES[side])
            ]
        described.append(segment)
    document = seg.Segmentation(
        source_images=list(segments.images),
        pixel_array=segments.pixels,
        segmentation_type="BINARY",
        segment_descriptions=described,
        content_label="TAU_REGIONS",
        content_description="Regions of the atlas, brought to the scan by its registration",
        **made,
    )
    # A UID of its own making would be another in each run.
    dimensions = own.uid("dimensions", made["sop_instance_uid"])
    for item in (*document.DimensionOrganizationSequence, *document.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
    return document


def references_to(document: Dataset, segments: RegionSegments) -> dict[str, ReferencedSegment]:
    """Return a reference to the segment of each region, as a structured report holds it."""
    series = SourceSeriesForSegmentation(referenced_series_instance_uid=segments.images[0].SeriesInstanceUID)
    return {
        name: ReferencedSegment(
            sop_class_uid=document.SOPClassUID,
            sop_instance_uid=document.SOPInstanceUID,
            segment_number=number,
            source_series=series,
        )
        for number, name in enumerate(segments.names, start=1)
    }
