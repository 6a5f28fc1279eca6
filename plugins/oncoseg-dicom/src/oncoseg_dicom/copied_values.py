"""What the images tell of their patient and study, copied to what is drawn on them as far as DICOM allows the values.

Files in use hold birth dates of eight zeros, a sex that is a word, numbers longer than their element. In a new object
they would be its errors, and archives and planning systems refuse those.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pydicom.config import RAISE
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import validate_value

from oncoseg_core import DataError

_ALLOWED = {"PatientSex": ("M", "F", "O"), "PatientIdentityRemoved": ("YES", "NO")}
"""Enumerated values (PS3.3, C.7.1.1)."""


def copy_valid(images: Any, dataset: Dataset, keywords: Iterable[str], *, empty: bool = False) -> tuple[str, ...]:
    """Copy attributes as text, to be encoded anew; notes on values that are left out, without a word of what they say.

    Args:
        images: the header of the images.
        dataset: what they are copied to.
        keywords: of the attributes.
        empty: whether those that are missing or left out are written without a value; otherwise not at all.

    Raises:
        DataError: one cannot be decoded.
    """
    notes = []
    for keyword in keywords:
        value = text_or_texts(images, keyword)
        problem = _problem(keyword, value) if value else None
        if problem is not None:
            notes.append(f"{keyword} of the images is left out: {problem}")
        if value and problem is None:
            setattr(dataset, keyword, value)
        elif empty:
            setattr(dataset, keyword, "")
    return tuple(notes)


def text_or_texts(images: Any, keyword: str) -> str | list[str]:
    """An attribute as text, or texts; empty where it is missing.

    Raises:
        DataError: it cannot be decoded; without a word of what it says.
    """
    try:
        value = images.get(keyword)
        if value is None:
            return ""
        return [str(one) for one in value] if isinstance(value, MultiValue) else str(value)
    except Exception as error:  # noqa: BLE001 - pydicom raises whatever a damaged value leads it to
        raise DataError(f"the images' {keyword} cannot be read ({type(error).__name__}): they are damaged") from None


def _problem(keyword: str, value: str | list[str]) -> str | None:
    """Why DICOM does not allow a value; None where it does."""
    kind = dictionary_VR(keyword)
    values = value if isinstance(value, list) else [value]
    if len(values) > 1 and dictionary_VM(keyword) == "1":
        return f"it has {len(values)} values, and one is allowed"
    for one in values:
        allowed = _ALLOWED.get(keyword)
        if allowed is not None and one.strip() not in allowed:
            return f"it is none of the values that DICOM allows ({', '.join(allowed)})"
        if kind != "PN" and not one.isprintable():
            return "it holds control characters"
        try:
            validate_value(kind, one, RAISE)
            if kind == "DA":
                datetime.strptime(one.strip(), "%Y%m%d")  # noqa: DTZ007 - a day has no time zone
        except ValueError:
            return f"its value is none that DICOM allows (VR {kind}: {_EXPECTED.get(kind, 'see PS3.5, 6.2')})"
    return None


_EXPECTED = {
    "AS": "such as 045Y",
    "CS": "at most 16 capitals, digits and blanks",
    "DA": "a day, YYYYMMDD",
    "DS": "a number of at most 16 characters",
    "LO": "at most 64 characters",
    "PN": "at most 64 characters in each of three ways to write a name",
    "SH": "at most 16 characters",
    "TM": "a time, HHMMSS",
}
