"""The header of a structure set: whose it is, which images it was drawn on, what made it, what its structures are.

DICOM PS3.3, A.19.3 and the modules C.8.8.5 (Structure Set), C.8.8.8 (RT ROI Observations), C.8.8.16 (Approval).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from oncoseg_core import DataError
from oncoseg_dicom.copied_values import copy_valid, text_or_texts
from oncoseg_dicom.series.series import Series

DETACHED_STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"
"""Retired, and still what the reference to a study is written with (PS3.3, C.8.8.5: RT Referenced Study Sequence)."""

SERIES_NUMBER = 1000
"""Any will do, but a CD's directory needs one (PS3.3, F.5.3); beyond those that scanners give."""

SHORT_STRING, LONG_STRING, SHORT_TEXT = 16, 64, 1024
"""Characters that SH, LO and ST may have (DICOM PS3.5, 6.2)."""

_OF_THE_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_OF_THE_STUDY = ("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber")
_WHERE_PRESENT = ("IssuerOfPatientID", "PatientIdentityRemoved", "DeidentificationMethod", "StudyDescription")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")


@dataclass(frozen=True)
class Structure:
    """A structure's entry: its name in the file, its RT ROI Interpreted Type (may be empty) and what is said of it.

    ``algorithm`` is its ROI Generation Algorithm; empty where it is not known who or what drew it. ``maker`` is the
    model that drew it, where it is not that of the whole set; ``observation`` is what is to be seen of it at once.
    """

    name: str
    interpreted_type: str
    description: str
    algorithm: str = ""
    maker: str = ""
    observation: str = ""


def header_of(
    series: Series, structures: Sequence[Structure], label: str, moment: datetime, provenance: Mapping[str, str]
) -> tuple[Dataset, tuple[str, ...]]:
    """All of a structure set on a series but its contours and its own UIDs; structures are numbered from 1.

    Args:
        series: the images; patient, study and frame of reference are copied from their header.
        structures: in the order of their numbers.
        label: the set's, as planning systems show it.
        moment: when it was made.
        provenance: what made it.

    Returns:
        The header, and notes on what the images say and DICOM does not allow.

    Raises:
        DataError: the images lack an identifier that may not be invented, or are damaged.
    """
    images = series.header
    missing = [keyword for keyword in _UIDS if not text_or_texts(images, keyword)]
    if missing:
        raise DataError(
            f"the images have no {' and no '.join(missing)}: structures cannot be tied to them, and an invented "
            "identifier would tie them to nothing; take the images as the scanner wrote them"
        )
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    header.SOPClassUID = RTStructureSetStorage
    header.InstanceCreationDate, header.InstanceCreationTime = date, time
    notes = copy_valid(images, header, (*_OF_THE_PATIENT, *_OF_THE_STUDY, "PositionReferenceIndicator"), empty=True)
    notes += copy_valid(images, header, _WHERE_PRESENT)
    header.StudyInstanceUID = str(images.StudyInstanceUID)
    header.Modality, header.SeriesNumber, header.OperatorsName = "RTSTRUCT", SERIES_NUMBER, ""
    header.SeriesDate, header.SeriesTime = date, time
    by_program = all(structure.algorithm == "AUTOMATIC" for structure in structures)
    header.SeriesDescription = "Contours made by a program" if by_program else "Contours written by OncoSeg"
    header.Manufacturer, header.ManufacturerModelName = "OncoSeg", "OncoSeg"
    header.FrameOfReferenceUID = str(images.FrameOfReferenceUID)
    header.StructureSetLabel = label
    header.StructureSetDate, header.StructureSetTime = date, time
    if provenance:
        header.StructureSetDescription = provenance_text(provenance)[:SHORT_TEXT]
    header.ReferencedFrameOfReferenceSequence = [_referenced(series)]
    header.StructureSetROISequence = [
        _roi(number, structure, str(images.FrameOfReferenceUID), provenance)
        for number, structure in enumerate(structures, start=1)
    ]
    header.RTROIObservationsSequence = [
        _observation(number, structure) for number, structure in enumerate(structures, start=1)
    ]
    header.ApprovalStatus = "UNAPPROVED"
    return header, notes


def provenance_text(provenance: Mapping[str, str]) -> str:
    """What made a segmentation, on one line; a file holds no more than the first :data:`SHORT_TEXT` characters."""
    return "; ".join(f"{key}: {value}" for key, value in provenance.items())


def _referenced(series: Series) -> Dataset:
    images = []
    # A multi-frame object is named once; dict keeps the order of the slices.
    for sop_instance_uid, sop_class_uid in {
        plane.sop_instance_uid: plane.sop_class_uid for plane in series.planes
    }.items():
        image = Dataset()
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
        images.append(image)
    of_series, study, frame = Dataset(), Dataset(), Dataset()
    of_series.SeriesInstanceUID, of_series.ContourImageSequence = str(series.header.SeriesInstanceUID), images
    study.ReferencedSOPClassUID = DETACHED_STUDY_MANAGEMENT
    study.ReferencedSOPInstanceUID = str(series.header.StudyInstanceUID)
    study.RTReferencedSeriesSequence = [of_series]
    frame.FrameOfReferenceUID = str(series.header.FrameOfReferenceUID)
    frame.RTReferencedStudySequence = [study]
    return frame


def _roi(number: int, structure: Structure, frame_of_reference: str, provenance: Mapping[str, str]) -> Dataset:
    roi = Dataset()
    roi.ROINumber = number
    roi.ReferencedFrameOfReferenceUID = frame_of_reference
    roi.ROIName = structure.name
    if structure.description:
        roi.ROIDescription = structure.description[:SHORT_TEXT]
    roi.ROIGenerationAlgorithm = structure.algorithm
    maker = structure.maker or provenance.get("model", "")
    if structure.algorithm in {"AUTOMATIC", "SEMIAUTOMATIC"} and maker:
        roi.ROIGenerationDescription = maker[:LONG_STRING]
    return roi


def _observation(number: int, structure: Structure) -> Dataset:
    observation = Dataset()
    observation.ObservationNumber = observation.ReferencedROINumber = number
    observation.RTROIInterpretedType, observation.ROIInterpreter = structure.interpreted_type, ""
    if structure.observation:
        observation.ROIObservationLabel = structure.observation[:SHORT_STRING]
        observation.ROIObservationDescription = structure.description[:SHORT_TEXT]
    return observation
