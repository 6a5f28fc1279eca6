"""What a series' values mean: the attributes that calibration needs, and nothing about who the patient is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from oncoseg_core import ImageReadError
from oncoseg_dicom.series.values import text

KEYWORDS = (
    "BitsStored",
    "BurnedInAnnotation",
    "LossyImageCompression",
    "Modality",
    "PixelIntensityRelationship",
    "PixelIntensityRelationshipSign",
    "PresentationLUTShape",
    "RescaleType",
    "WindowCenter",
    "WindowWidth",
)
"""Of the first slice."""

SUV_KEYWORDS = (
    "Units",
    "SUVType",
    "CorrectedImage",
    "DecayCorrection",
    "PatientWeight",
    "SeriesDate",
    "SeriesTime",
)
"""What turns PET values into SUV (QIBA's vendor-neutral pseudo-code); the same for all slices of a series."""

_SUV_PRIVATE = ((0x7053, 0x1000), (0x7053, 0x1009), (0x0009, 0x100D))
"""Philips: SUV factor, activity factor. GE: when the scan began."""

_DRUG_SEQUENCE = "RadiopharmaceuticalInformationSequence"
_DRUG_KEYWORDS = (
    "RadiopharmaceuticalStartTime",
    "RadiopharmaceuticalStartDateTime",
    "RadionuclideTotalDose",
    "RadionuclideHalfLife",
)
_TOLD = ("PhotometricInterpretation", "Units", "SUVType", "DecayCorrection")
"""Of which values are told in messages: they are codes, and not a patient's weight or dates."""

_FIRST_ACQUIRED = ("AcquisitionDate", "AcquisitionTime")


def header_of(dataset: Any) -> dict[str, Any]:
    """One file's attributes as text, numbers, and lists of them, by keyword; private ones by tag, ``(7053,1000)``."""
    header = _plain_values(dataset, KEYWORDS)
    if text(dataset, "Modality").upper() != "PT":
        return header
    header |= _plain_values(dataset, (*SUV_KEYWORDS, *_FIRST_ACQUIRED))
    for group, element in _SUV_PRIVATE:
        value = _plain(dataset, (group, element))
        if value is not None:
            header[f"({group:04x},{element:04x})"] = value
    try:
        drugs = list(dataset.get(_DRUG_SEQUENCE) or [])
    except Exception:  # noqa: BLE001 - damaged: as if it were missing, which whoever needs it will say
        drugs = []
    if drugs:
        header[_DRUG_SEQUENCE] = [_plain_values(drug, _DRUG_KEYWORDS) for drug in drugs]
    return header


def combined(headers: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """One header for a whole series: what must be the same is the same, and it was acquired when its first slice was.

    Raises:
        ImageReadError: values of slices mean different things.
    """
    whole = dict(headers[0])
    for key in headers[0].keys() | {key for header in headers for key in header}:
        if key in KEYWORDS or key in _FIRST_ACQUIRED:
            continue
        values = {str(header.get(key)) for header in headers}
        if len(values) > 1:
            listed = f" ({', '.join(sorted(values)[:3])})" if key in _TOLD else ""
            raise ImageReadError(f"{name}: {key} differs among the slices{listed}: they are not of one image")
    times = [tuple(str(header.get(key, "")) for key in _FIRST_ACQUIRED) for header in headers]
    for key, value in zip(_FIRST_ACQUIRED, min(times), strict=True):
        if all(all(time) for time in times):
            whole[key] = value
        else:  # any slice may be the first; whoever needs to know will say that it is missing
            whole.pop(key, None)
    return whole


def _plain_values(dataset: Any, keywords: Sequence[str]) -> dict[str, Any]:
    found = {keyword: _plain(dataset, keyword) for keyword in keywords}
    return {keyword: value for keyword, value in found.items() if value is not None}


def _plain(dataset: Any, key: Any) -> Any:
    """A value as text, a number, or a list of them; None where it is missing, empty or cannot be decoded."""
    try:
        value = dataset.get(key)
        value = getattr(value, "value", value)  # by tag, pydicom gives the element
        if value is None or value in ("", b""):
            return None
        if isinstance(value, bytes):  # a private value that no dictionary knows
            return value.decode("ascii").strip("\0 ")
        return _scalar(value) if isinstance(value, (str, int, float)) else [_scalar(one) for one in value]
    except Exception:  # noqa: BLE001 - pydicom raises whatever a damaged value leads it to
        return None


def _scalar(value: Any) -> str | int | float:
    if isinstance(value, str):
        return str(value)
    return int(value) if isinstance(value, int) else float(value)
