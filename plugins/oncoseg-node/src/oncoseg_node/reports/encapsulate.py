"""The report's PDF as a DICOM object, for destinations that take ``pdf``."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path

from oncoseg_dicom import Series, read_header, write_pdf
from oncoseg_node.records.results import WrittenObject

TITLE = "Report of contours made by a program (UNAPPROVED)"


def encapsulate(pdf: Path, series: Series, destination: Path, uid_seed: str, moment: datetime) -> WrittenObject:
    """Write a report's PDF as an Encapsulated PDF in the study of its series.

    Args:
        pdf: the report, which names no patient.
        series: the images.
        destination: the file to write.
        uid_seed: the same with the same report gives the same bytes under the same UIDs.
        moment: the date and time that the object bears.

    Raises:
        DataError: the file is no PDF, or the images have no StudyInstanceUID.
        StorageError: it cannot be written, or does not read back the same.
    """
    report = write_pdf(pdf, series, destination, title=TITLE, moment=moment, uid_seed=uid_seed)
    header = read_header(destination, ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"))
    return WrittenObject(
        format="pdf",
        path=destination,
        sha256=hashlib.sha256(destination.read_bytes()).hexdigest(),
        study_uid=str(header.StudyInstanceUID),
        series_uid=str(header.SeriesInstanceUID),
        sop_uid=str(header.SOPInstanceUID),
        sop_class_uid=str(header.SOPClassUID),
        notes=tuple(report.notes),
    )
