"""The report as DICOM objects, for the study the scan came from.

These objects carry the patient's identity, copied from the scan itself, because a PACS files them by it. That
identity is read here, goes into these objects, and nowhere else.
"""

from pipeline.reporting.dicom_objects.objects import read_source, write_dicom_objects
from pipeline.reporting.dicom_objects.sending import Destination, parse_destination, send

__all__ = ["Destination", "parse_destination", "read_source", "send", "write_dicom_objects"]
