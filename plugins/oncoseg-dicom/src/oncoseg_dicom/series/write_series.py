"""Writing a volume as a DICOM series: to try a planning system, a PACS or this package with a known object."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)
from pydicom.valuerep import format_number_as_ds

SOP_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage, "PT": PositronEmissionTomographyImageStorage}


def write_series(
    folder: Path,
    voxels: npt.NDArray[np.int16],
    origins: npt.ArrayLike,
    *,
    orientation: npt.ArrayLike = (1, 0, 0, 0, 1, 0),
    pixel_spacing: tuple[float, float] = (1.0, 1.0),
    modality: str = "CT",
    attributes: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write one single-frame file per slice, of a patient who does not exist; the files in the order of z.

    Args:
        folder: made if it is not there.
        voxels: int16 ``(z, y, x)``, stored as they are (CT: Hounsfield units, slope 1, intercept 0).
        origins: LPS mm of the centre of each slice's first voxel ``(z, 3)``.
        orientation: ``ImageOrientationPatient``: LPS unit vectors along a row and down a column.
        pixel_spacing: ``PixelSpacing`` in mm: between rows, between columns.
        modality: ``CT``, ``MR`` or ``PT``.
        attributes: more attributes by keyword, or others in the place of those written; None leaves one out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places = np.asarray(origins, dtype=np.float64).reshape(-1, 3)
    study, series, frame_of_reference = generate_uid(), generate_uid(), generate_uid()
    files = []
    for index, (plane, place) in enumerate(zip(voxels, places, strict=True)):
        image = Dataset()
        image.SpecificCharacterSet = "ISO_IR 192"
        image.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        image.SOPClassUID, image.SOPInstanceUID = SOP_CLASSES[modality], generate_uid()
        image.StudyDate = image.SeriesDate = image.ContentDate = image.AcquisitionDate = "20240102"
        image.StudyTime = image.SeriesTime = image.ContentTime = image.AcquisitionTime = "030405"
        image.AccessionNumber, image.ReferringPhysicianName, image.Manufacturer = "", "", "OncoSeg"
        image.Modality = modality
        image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = (
            "Phantom^Nobody",
            "PHANTOM",
            "",
            "",
        )
        image.StudyInstanceUID, image.SeriesInstanceUID, image.StudyID = study, series, "1"
        image.SeriesNumber, image.InstanceNumber = 1, index + 1
        image.FrameOfReferenceUID, image.PositionReferenceIndicator = frame_of_reference, ""
        image.PatientPosition = "HFS"
        image.ImagePositionPatient = [format_number_as_ds(float(value)) for value in place]
        image.ImageOrientationPatient = [format_number_as_ds(float(value)) for value in np.ravel(orientation)]
        image.PixelSpacing = [format_number_as_ds(float(value)) for value in pixel_spacing]
        image.SliceThickness = f"{_thickness(places, orientation):.8g}"
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.Rows, image.Columns = plane.shape
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation = 15, 1
        image.RescaleIntercept, image.RescaleSlope = "0", "1"
        if modality == "CT":
            image.RescaleType, image.KVP, image.AcquisitionNumber = "HU", "120", 1
        image.PixelData = np.ascontiguousarray(plane, dtype="<i2").tobytes()
        for keyword, value in (attributes or {}).items():
            if value is None and keyword in image:
                delattr(image, keyword)
            elif value is not None:
                setattr(image, keyword, value)
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        path = folder / f"image{index:04d}.dcm"
        image.save_as(path, enforce_file_format=True)
        files.append(path)
    return files


def _thickness(places: npt.NDArray[np.float64], orientation: npt.ArrayLike) -> float:
    if len(places) == 1:
        return 1.0
    cosines = np.asarray(orientation, dtype=np.float64).reshape(2, 3)
    normal = np.cross(*cosines)
    return float(np.median(np.abs(np.diff(places @ normal))))
