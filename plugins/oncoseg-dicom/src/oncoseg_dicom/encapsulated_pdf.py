"""A PDF as a DICOM object in the study of the images that it is about (PS3.3, A.45.1 Encapsulated PDF)."""

from __future__ import annotations

import hashlib
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, EncapsulatedPDFStorage, ExplicitVRLittleEndian, generate_uid

from oncoseg_core import DataError, ExportReport, StorageError
from oncoseg_core.system import atomic_path, display_path, read_regular
from oncoseg_dicom.copied_values import text_or_texts
from oncoseg_dicom.quiet import quiet
from oncoseg_dicom.rtstruct.header import LONG_STRING, SHORT_TEXT
from oncoseg_dicom.seg.sources import copy_patient_and_study
from oncoseg_dicom.series.series import Series

SERIES_NUMBER = 1100
"""Of the new series, out of the way of the scanner's own, which count from 1."""


def write_pdf(
    pdf: Path,
    series: Series,
    destination: Path,
    *,
    title: str,
    moment: datetime,
    uid_seed: str | None = None,
    private: bool = True,
) -> ExportReport:
    """Write a PDF as an Encapsulated PDF of the patient and study of a series, on pages that name no patient.

    Args:
        pdf: the file.
        series: the images that it is about; patient and study are copied from their header, as far as DICOM allows.
        destination: the file to write.
        title: of the document, as viewers show it, and of its series.
        moment: the date and time to write.
        uid_seed: same seed, moment, title, patient and PDF: same UIDs, so same bytes; new UIDs without.
        private: mode 0600.

    Raises:
        DataError: the file is no PDF, or the images have no StudyInstanceUID.
        StorageError: it cannot be written, or does not read back the same.
    """
    try:
        content = read_regular(pdf)
    except OSError as error:
        raise DataError(f"{display_path(pdf)}: cannot be read ({error.strerror or error})") from error
    if not content.startswith(b"%PDF-"):
        raise DataError(f"{display_path(pdf)}: is no PDF")
    with quiet():
        dataset, left_out = _header(series, title, moment)
        dataset.EncapsulatedDocument = content
        dataset.EncapsulatedDocumentLength = len(content)
        _identify(dataset, uid_seed)
        with atomic_path(destination, private=private) as temporary:
            dataset.save_as(temporary, enforce_file_format=True)
            read = pydicom.dcmread(temporary)
            if read.EncapsulatedDocument[: read.EncapsulatedDocumentLength] != content:
                raise StorageError(
                    f"cannot write {display_path(destination)}: the PDF does not read back the same; nothing is "
                    "written: please report this"
                )
    return ExportReport((destination,), left_out)


def _header(series: Series, title: str, moment: datetime) -> tuple[Dataset, tuple[str, ...]]:
    """All but the document and the object's own UIDs, and notes on what was not copied from the images."""
    study = text_or_texts(series.header, "StudyInstanceUID")
    if not study:
        raise DataError("the images have no StudyInstanceUID: a document cannot be tied to them")
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"):
        setattr(header, keyword, "")
    header.ReferringPhysicianName = header.StudyID = header.AccessionNumber = ""
    notes = copy_patient_and_study(series.header, header)
    header.StudyInstanceUID = str(study)
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    header.SOPClassUID = EncapsulatedPDFStorage
    header.InstanceCreationDate = header.SeriesDate = header.ContentDate = date
    header.InstanceCreationTime = header.SeriesTime = header.ContentTime = time
    header.AcquisitionDateTime = ""
    header.Modality, header.SeriesNumber, header.InstanceNumber = "DOC", SERIES_NUMBER, 1
    header.ConversionType = "WSD"
    header.Manufacturer = header.ManufacturerModelName = "OncoSeg"
    header.SoftwareVersions = f"oncoseg-dicom {version('oncoseg-dicom')}"
    header.SeriesDescription, header.DocumentTitle = title[:LONG_STRING], title[:SHORT_TEXT]
    header.BurnedInAnnotation = "NO"
    header.ConceptNameCodeSequence = []
    header.MIMETypeOfEncapsulatedDocument = "application/pdf"
    images = dict.fromkeys((plane.sop_class_uid, plane.sop_instance_uid) for plane in series.planes)
    header.SourceInstanceSequence = [_reference(*image) for image in images]
    return header, notes


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
    return item


def _identify(dataset: Dataset, seed: str | None) -> None:
    """Give the object its own UIDs: new ones, or those that follow from a seed and all that the object says."""

    def uid(what: str) -> UID:
        if seed is None:
            return generate_uid()
        document = hashlib.sha256(dataset.EncapsulatedDocument).hexdigest()
        shown = Dataset()
        shown.update({element.tag: element for element in dataset if element.keyword != "EncapsulatedDocument"})
        return generate_uid(entropy_srcs=[seed, what, shown.to_json(), document])

    series, instance = uid("series"), uid("instance")
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = series, instance
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = instance
