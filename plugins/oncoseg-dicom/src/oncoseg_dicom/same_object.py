"""Whether an archive gave back what it was sent."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from oncoseg_dicom.quiet import quiet

_ENCODING = 0x00080005
"""Specific Character Set: an archive may encode texts anew, which decoding them undoes."""


def first_difference(sent: Path, received: bytes) -> str | None:
    """The keyword of the first element that is lost or has another value; None where all came back.

    How the file is encoded may differ (meta information, character set, transfer syntax), and elements may have been
    added at its top; pixels and contours are compared to the last bit.
    """
    with quiet():
        try:
            one, other = pydicom.dcmread(sent), pydicom.dcmread(BytesIO(received))
            return _difference(one, other, added=True, as_bytes=one.get(_ENCODING) == other.get(_ENCODING))
        except Exception as error:  # noqa: BLE001 - pydicom raises whatever a damaged file leads it to
            return f"the file, which cannot be read ({type(error).__name__})"


def _difference(sent: Dataset, received: Dataset, *, added: bool = False, as_bytes: bool = False) -> str | None:
    """As :func:`first_difference`; ``as_bytes``: texts are encoded alike, so that equal bytes have equal values."""
    for tag in sorted(set(sent.keys()) | (set() if added else set(received.keys()))):
        if tag == _ENCODING or tag.element == 0:
            continue
        name = pydicom.datadict.keyword_for_tag(tag) or str(tag)
        if tag not in sent or tag not in received:
            return name
        if as_bytes and _equal_bytes(sent.get_item(tag), received.get_item(tag)):
            continue
        one, other = sent[tag].value, received[tag].value
        if isinstance(one, Sequence) and isinstance(other, Sequence):
            if len(one) != len(other):
                return name
            for ours, theirs in zip(one, other, strict=True):
                inner = _difference(ours, theirs, as_bytes=as_bytes)
                if inner is not None:
                    return f"{name}/{inner}"
        elif not _same(one, other):
            return name
    return None


def _equal_bytes(one: Any, other: Any) -> bool:
    """Whether two elements that are still as they lay in their files are the same bytes in the same encoding.

    Contours are millions of numbers as text: to read them all takes a hundred times as long, and their memory.
    """
    if not (isinstance(one, RawDataElement) and isinstance(other, RawDataElement)):
        return False
    encoding = ("VR", "is_implicit_VR", "is_little_endian")
    return bool(one.value == other.value) and all(getattr(one, key) == getattr(other, key) for key in encoding)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, bytes) and isinstance(other, bytes):
        return one == other or (abs(len(one) - len(other)) == 1 and one.rstrip(b"\0") == other.rstrip(b"\0"))
    return bool(one == other) or (_is_empty(one) and _is_empty(other))


def _is_empty(value: Any) -> bool:
    return value is None or (hasattr(value, "__len__") and len(value) == 0)
