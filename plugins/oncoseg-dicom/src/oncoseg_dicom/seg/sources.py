"""The slices of a series as highdicom takes images, and the references to them in what it makes.

highdicom takes the files of a single-frame series, or one multi-frame file with one orientation for all its frames. A
:class:`~oncoseg_dicom.series.series.Series` may be several multi-frame files, or some frames of one. So each slice is
told to it as an image of its own, a few attributes without pixels, and the references are put right afterwards.
"""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pydicom.valuerep import format_number_as_ds

from oncoseg_dicom.copied_values import copy_valid
from oncoseg_dicom.series.series import Float64, Plane, Series
from oncoseg_dicom.series.values import number, numbers

_TO_COPY = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientIdentityRemoved"),
    *("DeidentificationMethod", "PatientAge", "PatientSize", "PatientWeight", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName", "StudyDescription"),
)
"""Of the modules Patient, General Study and Patient Study (PS3.3, C.7.1.1, C.7.2.1, C.7.2.2)."""

_OF_THE_PIXELS = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")

STAND_IN = "2.25."
"""Under this root (PS3.5, B.2) a slice's number stands for its image until the references are put right."""


def planes_as_images(series: Series) -> list[Dataset]:
    """One dataset per slice, in the order of z, with what places it; patient and study are left empty.

    An empty patient, since highdicom refuses values that files in use have (a sex ``U``, a date of eight zeros); what
    DICOM allows is copied in the end.
    """
    header = series.header
    spacing, cosines = _spacing_and_cosines(series)
    thickness = number(header, "SliceThickness", "the series") or series.geometry.spacing[0]
    step = _even_step(series)
    images = []
    for index, plane in enumerate(series.planes):
        image = Dataset()
        image.SOPClassUID = CTImageStorage  # any image in space with one frame
        image.SOPInstanceUID = f"{STAND_IN}{index + 1}"
        image.StudyInstanceUID, image.SeriesInstanceUID = header.StudyInstanceUID, header.SeriesInstanceUID
        image.PatientID = image.PatientName = image.PatientBirthDate = image.PatientSex = ""
        image.AccessionNumber = image.StudyID = image.StudyDate = image.StudyTime = image.ReferringPhysicianName = ""
        image.Modality = header.get("Modality", "")
        image.FrameOfReferenceUID = header.FrameOfReferenceUID
        image.Rows, image.Columns = series.rows, series.columns
        image.ImagePositionPatient = [format_number_as_ds(float(value)) for value in plane.position]
        image.ImageOrientationPatient = [format_number_as_ds(float(value)) for value in cosines]
        image.PixelSpacing = [format_number_as_ds(float(value)) for value in spacing]
        image.SliceThickness = format_number_as_ds(thickness)
        if step is not None:
            image.SpacingBetweenSlices = format_number_as_ds(step)
        copy_valid(header, image, ["PositionReferenceIndicator"], empty=True)
        copy_valid(header, image, _OF_THE_PIXELS)
        images.append(image)
    return images


def _spacing_and_cosines(series: Series) -> tuple[Float64, Float64]:
    """``PixelSpacing`` and ``ImageOrientationPatient``: as the images have them, or for those of frames of unit length.

    Cosines that were rounded are not of unit length, which programs that multiply them with the spacing take as it is.
    """
    steps = np.concatenate([series.column_step, series.row_step])
    spacing = numbers(series.header, "PixelSpacing", 2, "the series")
    cosines = numbers(series.header, "ImageOrientationPatient", 6, "the series")
    if spacing is not None and cosines is not None and np.allclose(cosines * np.repeat(spacing[::-1], 3), steps):
        return spacing, cosines
    spacing = np.linalg.norm(steps.reshape(2, 3), axis=1)[::-1]
    return spacing, steps / np.repeat(spacing[::-1], 3)


def _even_step(series: Series) -> float | None:
    """Distance of neighbouring slices along the normal in mm; None where it is not one for all."""
    if len(series.planes) == 1 or series.geometry.slice_origins is not None:
        return None
    return abs(float(series.geometry.affine[:3, 2] @ series.geometry.normal))


def copy_patient_and_study(header: Dataset, dataset: Dataset) -> tuple[str, ...]:
    """Copy what the images tell of their patient and study, to be encoded anew as UTF-8; notes on what is left out."""
    return copy_valid(header, dataset, _TO_COPY)


def complete_references(dataset: Dataset, series: Series) -> None:
    """Let what was made of stand-ins point at the images that they stood for, frame by frame."""
    # Segments share the items of their slices, which are to be put right once.
    sources = {
        id(source): source
        for frame in dataset.PerFrameFunctionalGroupsSequence
        for derived in frame.DerivationImageSequence
        for source in derived.SourceImageSequence
    }
    for source in sources.values():
        plane = series.planes[int(source.ReferencedSOPInstanceUID.removeprefix(STAND_IN)) - 1]
        _refer(source, plane)
        if plane.frame is not None:
            source.ReferencedFrameNumber = plane.frame
    instances: dict[str, Plane] = {}
    for plane in series.planes:
        instances.setdefault(plane.sop_instance_uid, plane)
    references = [_refer(Dataset(), plane) for plane in instances.values()]
    (referenced,) = dataset.ReferencedSeriesSequence
    referenced.ReferencedInstanceSequence = references
    dataset.SourceImageSequence = references


def _refer(item: Dataset, plane: Plane) -> Dataset:
    item.ReferencedSOPClassUID = plane.sop_class_uid
    item.ReferencedSOPInstanceUID = plane.sop_instance_uid
    return item
