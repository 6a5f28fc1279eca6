"""What the objects of DICOM are: which of them are images that can be read, and of which modality."""

from __future__ import annotations

from typing import Any

from pydicom import uid

from oncoseg_dicom.series.values import text, texts

SLICES = {
    uid.CTImageStorage,
    uid.MRImageStorage,
    uid.PositronEmissionTomographyImageStorage,
}
"""One slice with a place in the body per file."""

ENHANCED = {
    uid.EnhancedCTImageStorage,
    uid.EnhancedMRImageStorage,
    uid.EnhancedMRColorImageStorage,
    uid.EnhancedPETImageStorage,
    uid.LegacyConvertedEnhancedCTImageStorage,
    uid.LegacyConvertedEnhancedMRImageStorage,
    uid.LegacyConvertedEnhancedPETImageStorage,
    uid.EnhancedUSVolumeStorage,
    uid.BreastTomosynthesisImageStorage,
    uid.XRay3DAngiographicImageStorage,
    uid.XRay3DCraniofacialImageStorage,
}
"""Many slices in one file, each described by functional groups (PS3.3, C.7.6.16)."""

PICTURES = {
    uid.ComputedRadiographyImageStorage,
    uid.DigitalXRayImageStorageForPresentation,
    uid.DigitalXRayImageStorageForProcessing,
    uid.DigitalMammographyXRayImageStorageForPresentation,
    uid.DigitalMammographyXRayImageStorageForProcessing,
    uid.UltrasoundImageStorage,
    uid.UltrasoundMultiFrameImageStorage,
    "1.2.840.10008.5.1.4.1.1.6",  # Ultrasound Image Storage (Retired)
    "1.2.840.10008.5.1.4.1.1.3",  # Ultrasound Multi-frame Image Storage (Retired)
    uid.VLEndoscopicImageStorage,
    uid.VLPhotographicImageStorage,
    uid.DermoscopicPhotographyImageStorage,
    uid.XRayAngiographicImageStorage,
    uid.XRayRadiofluoroscopicImageStorage,
}
"""Pictures without a place in the body: one frame is an image, several are a film in time."""

IMAGES = SLICES | ENHANCED | PICTURES

_NOT_SLICES = {"LOCALIZER": "localizer (scout)", "SCREEN SAVE": "screen capture", "DOSE_INFO": "dose report"}
"""Values of ImageType that say that an image is no slice, though its class is that of the series."""

_NAMES = {"CT": "ct", "MR": "mri", "PT": "pet", "US": "ultrasound", "MG": "mammography", "ES": "endoscopy"}
_RADIOGRAPHS = {"CR", "DX"}
_CHEST = {"CHEST", "THORAX", "LUNG"}


_NO_CLASS, _STRANGE_CLASS = "object of no told class", "object of a class that DICOM does not have"
NO_CLASS = {_NO_CLASS, _STRANGE_CLASS}
"""What an object is whose SOPClassUID is missing or damaged: it may be anything."""


def refused_as(header: Any) -> str | None:
    """What an object is if it is no image that is read here, in words; None where it is one."""
    sop_class = text(header, "SOPClassUID")
    if sop_class not in IMAGES:
        name = uid.UID(sop_class).name if sop_class else _NO_CLASS
        return _STRANGE_CLASS if name == sop_class else name.removesuffix(" Storage")
    kinds = texts(header, "ImageType")
    return next((name for value, name in _NOT_SLICES.items() if value in kinds), None)


def modality_of(header: Any) -> str:
    """OncoSeg's name of what the intensities are; ``unknown`` where the header does not make it sure.

    A radiograph is ``cxr`` where it says that it shows the chest, ``xray`` where it says another part.
    """
    modality = text(header, "Modality").upper()
    if modality in _RADIOGRAPHS:
        part = text(header, "BodyPartExamined").upper()
        return "unknown" if not part else "cxr" if part in _CHEST else "xray"
    if text(header, "SOPClassUID") == uid.DermoscopicPhotographyImageStorage:
        return "dermoscopy"
    return _NAMES.get(modality, "unknown")
