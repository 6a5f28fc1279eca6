"""What is kept of every stored file: where it lies, and what lists of studies, series and instances show."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from oncoseg_core import OncoSegError
from oncoseg_core.system import json_text
from oncoseg_dicom import read_json_model

UID = re.compile(r"[0-9]+(\.[0-9]+)*")

STUDY_KEYWORDS = (
    "SpecificCharacterSet", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyDescription",
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID",
)  # fmt: skip
SERIES_KEYWORDS = (
    "SpecificCharacterSet", "Modality", "SeriesDescription", "SeriesDate", "SeriesTime", "BodyPartExamined",
    "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "Manufacturer", "FrameOfReferenceUID",
)  # fmt: skip
INSTANCE_KEYWORDS = (
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality",
    "InstanceNumber", "Rows", "Columns", "BitsAllocated", "NumberOfFrames",
)  # fmt: skip
KEYWORDS = tuple(dict.fromkeys((*STUDY_KEYWORDS, *SERIES_KEYWORDS, *INSTANCE_KEYWORDS)))
"""What is read of every file (PS3.18, 10.6.3: the attributes that a search answers with)."""

JsonObject = dict[str, Any]
"""A dataset in DICOM's JSON model (PS3.18, annex F): by tag, each with its ``vr`` and ``Value``."""


@dataclass(frozen=True)
class StoredInstance:
    """A file of a store: ``path`` with every link resolved, and its size and time when its header was read."""

    path: Path
    size: int
    modified_ns: int
    study_uid: str
    series_uid: str
    sop_uid: str
    attributes: JsonObject = field(repr=False)  # they name the patient

    @property
    def modality(self) -> str:
        """``CT``, ``SEG``, …; ``OT`` where the file does not say."""
        return str(first_value(self.attributes, "00080060") or "OT")


def is_uid(text: str) -> bool:
    """Whether a text is a UID: numbers and dots, 64 characters at most, so that it is safe as a file's name."""
    return len(text) <= 64 and UID.fullmatch(text) is not None


def first_value(attributes: JsonObject, tag: str) -> Any:
    """The first value of an attribute; None where there is none."""
    values = attributes.get(tag, {}).get("Value") or [None]
    return values[0]


def json_bytes(value: Any) -> bytes:
    """A value as JSON; null for NaN and infinities, which JSON lacks.

    The attributes of a series of 1,000 slices have megabytes, and those with such a number are rare: only they take the
    way of :func:`oncoseg_core.system.json_text`, which looks at every character.
    """
    try:
        return json.dumps(value, allow_nan=False).encode()
    except ValueError:
        return json_text(value).encode()


def stored_instance(path: Path) -> StoredInstance | None:
    """What a file is; None where it is no DICOM file, is damaged, or says not of which series it is."""
    try:
        state = path.stat()
        attributes = read_json_model(path, KEYWORDS)
    except (OncoSegError, OSError):
        return None
    study, series, sop = (str(first_value(attributes, tag) or "") for tag in ("0020000D", "0020000E", "00080018"))
    if not (is_uid(study) and is_uid(series) and is_uid(sop)):
        return None
    shared = {tag: _shared(json_bytes(element)) for tag, element in attributes.items()}
    return StoredInstance(path, state.st_size, state.st_mtime_ns, study, series, sop, shared)


@lru_cache(20_000)
def _shared(element: bytes) -> dict[str, Any]:
    """An element, one for all that are equal: most are the same in all files of a series."""
    found: dict[str, Any] = json.loads(element)
    return found
