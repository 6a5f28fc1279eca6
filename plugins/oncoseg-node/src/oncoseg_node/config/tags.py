"""What rules may ask of a header: DICOM attributes by keyword, as numbers or as text, and bounded expressions."""

from __future__ import annotations

import difflib
from typing import Any, Literal

import regex
from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword

from oncoseg_core import ConfigError

LONGEST_PATTERN = 500
"""Characters of an expression: nobody reads a longer one."""

_NUMBERS = {"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"}
_TEXTS = {"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
_PIXELS = 0x7FE0
"""The group of what is no header."""


def kind_of(keyword: str) -> Literal["number", "text"]:
    """How the values of an attribute are compared.

    Raises:
        ConfigError: DICOM has no such keyword, or its values cannot be compared (a sequence, bytes).
    """
    tag = tag_for_keyword(keyword)
    if tag is None:
        near = difflib.get_close_matches(keyword, [name for name in keyword_dict if name], 3, 0.7)
        advice = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ConfigError(f"{keyword!r} is no DICOM keyword, such as SeriesDescription{advice}")
    kinds = set(dictionary_VR(tag).split(" or "))
    if tag >> 16 == _PIXELS or not kinds & (_NUMBERS | _TEXTS):
        raise ConfigError(f"{keyword!r} has no value that can be compared: it is a sequence, or bytes")
    return "number" if kinds & _NUMBERS else "text"


def compiled(pattern: str) -> Any:
    """An expression, ready to search; case does not count.

    Raises:
        ConfigError: it is none, or too long.
    """
    if len(pattern) > LONGEST_PATTERN:
        raise ConfigError(f"has {len(pattern)} characters; expected an expression of at most {LONGEST_PATTERN}")
    try:
        return regex.compile(pattern, regex.IGNORECASE)
    except (regex.error, RecursionError, OverflowError) as error:
        raise ConfigError(f"is no regular expression: {error}") from None


def names_patient(keyword: str) -> bool:
    """Whether an attribute may say who the patient is: no message or list shows its value."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        return True
    if keyword.endswith(("ClassUID", "SyntaxUID")):
        return False
    numbers = keyword in {"AccessionNumber", "StudyID", "AdmissionID", "RequestingPhysician"}
    patient = tag >> 16 == 0x0010 and keyword not in {"PatientSex", "PatientAge", "PatientSize", "PatientWeight"}
    return patient or numbers or bool({"PN", "UI"} & set(dictionary_VR(tag).split(" or ")))
