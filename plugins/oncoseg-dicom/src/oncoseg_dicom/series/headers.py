"""What the slices of a series must agree in, and what their values mean: the attributes that calibration needs.

Who the patient is is compared and never told.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from oncoseg_core import ImageReadError
from oncoseg_dicom.series.values import text

_PATIENT = ("PatientID", "PatientName", "PatientBirthDate")
_CODES = ("Modality", "PhotometricInterpretation", "Units", "RescaleType")
"""What is compared by its value, which a message may tell: it is a code."""

_PRESENT = ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence")
"""What may have another value in each slice, as in PET, but is there in all of them or in none."""

MARKS = (*_PATIENT, "StudyInstanceUID", *_CODES, *_PRESENT)
"""What all slices of a series agree in."""

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
"""Of the first slice, unless :func:`combined` says otherwise."""

_SAME_MEANING = ("PixelIntensityRelationship", "PixelIntensityRelationshipSign", "PresentationLUTShape", "RescaleType")
_WORST = {"BurnedInAnnotation": "YES", "LossyImageCompression": "01"}
"""What is true of the whole series once one slice says it, and denied only if all slices deny it."""

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
_TOLD = (*_SAME_MEANING, "PhotometricInterpretation", "Units", "SUVType", "DecayCorrection")
"""Of which values are told in messages: they are codes, and not a patient's weight or dates."""

_FIRST_ACQUIRED = ("AcquisitionDate", "AcquisitionTime")


def marks_of(header: Any) -> dict[str, str]:
    """What identifies the series that a slice belongs to, by keyword: empty where it is missing."""
    marks = {keyword: text(header, keyword) for keyword in (*_CODES, "StudyInstanceUID")}
    if marks["PhotometricInterpretation"][:10] not in {"MONOCHROME", ""}:
        marks["PhotometricInterpretation"] = "colours"  # whatever they are coded as, they become red, green and blue
    # Programs that copy a name change its case, its blanks and the empty parts at its end.
    marks |= {key: re.sub(r"[\^=\s]+", " ", text(header, key)).strip().casefold() for key in _PATIENT}
    return marks | {keyword: "one" if _is_there(header, keyword) else "" for keyword in _PRESENT}


def _is_there(header: Any, keyword: str) -> bool:
    try:
        value = header.get(keyword)
        return value is not None and (not hasattr(value, "__len__") or len(value) > 0)
    except Exception:  # noqa: BLE001 - pydicom raises whatever a damaged value leads it to; reading the pixels will say
        return True


def disagreement(marks: Sequence[Mapping[str, str]]) -> tuple[str, list[int]] | None:
    """In what the slices of a series disagree, in words, and which of them are the fewer; None where they agree.

    The words hold codes at most, no value that leads to the patient.
    """
    for keyword in MARKS:
        values = [one[keyword] for one in marks]
        counts = Counter(values)
        if len(counts) == 1:
            continue
        usual = counts.most_common(1)[0][0]
        fewer = [index for index, value in enumerate(values) if value != usual]
        if set(counts) - {usual} == {""}:
            return f"{len(fewer)} of {len(values)} slices lack {keyword}, which the others have", fewer
        if usual == "":
            return f"{len(fewer)} of {len(values)} slices have {keyword}, which the others lack", fewer
        shown = [value or "none" for value in counts] if keyword in _CODES else ["one", *["another"] * len(counts)]
        sides = [f"{value} in {count}" for value, count in zip(shown, counts.values(), strict=False)]
        return f"{keyword} differs among the slices: {', '.join(sides)} of {len(values)}", fewer
    return None


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
    for key in sorted({key for header in headers for key in header}):
        values = {str(header.get(key)) for header in headers}
        if key in _WORST:
            whole |= {key: _WORST[key]} if _WORST[key] in values else {}
            if _WORST[key] not in values and len(values) > 1:
                whole.pop(key, None)
            continue
        if (key in KEYWORDS and key not in _SAME_MEANING) or key in _FIRST_ACQUIRED:
            continue
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
