"""The UIDs of an object from the beginning of its file: at once where it is plain, else by pydicom."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from oncoseg_core import OncoSegError
from oncoseg_dicom import read_header
from oncoseg_node.receiving.refused import RefusedInstanceError

KEPT_BYTES = 2**14
"""Of a file's beginning that :func:`scanned_uids` looks at."""

_KEYWORDS = {
    0x00080016: "SOPClassUID",
    0x00080018: "SOPInstanceUID",
    0x0020000D: "StudyInstanceUID",
    0x0020000E: "SeriesInstanceUID",
}
_LAST = max(_KEYWORDS)
_SYNTAX = 0x00020010
_EXPLICIT_META = b"\x02\x00"
_NOT_PLAIN = {b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.2"}
"""Deflated, and in big endian."""

_IMPLICIT = b"1.2.840.10008.1.2"
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
"""Value representations whose length has 32 bits."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)+", re.ASCII)
_LONGEST_UID = 64


class Uids(NamedTuple):
    """Class and UID of an object, its study and its series."""

    sop_class: str
    sop: str
    study: str
    series: str


def uids_of(path: Path, head: bytes) -> Uids:
    """The UIDs of a file that begins with ``head``.

    Raises:
        RefusedInstanceError: it is no DICOM object, or lacks one of them.
    """
    values = scanned_uids(head)
    if values is None:
        try:
            header = read_header(path, _KEYWORDS.values())
        except OncoSegError:
            raise RefusedInstanceError("unreadable", "the object cannot be read as DICOM") from None
        values = [_text(header, keyword) for keyword in _KEYWORDS.values()]
    for keyword, value in zip(_KEYWORDS.values(), values, strict=True):
        if len(value) > _LONGEST_UID or not _UID.fullmatch(value):
            raise RefusedInstanceError("no uid", f"the object has no valid {keyword}")
    return Uids(*values)


def scanned_uids(head: bytes) -> list[str] | None:
    """The values of the four UIDs, if all lie within ``head`` and nothing before them needs a parser; else None.

    Parsing headers takes longer than all else that is done with an instance.
    """
    if head[128:132] != b"DICM":
        return None
    meta: dict[int, bytes] = {}
    start = _walk(head, 132, {_SYNTAX}, 0x0002FFFF, meta, implicit=False)
    syntax = meta.get(_SYNTAX, b"").rstrip(b"\0 ")
    if start is None or not syntax or syntax in _NOT_PLAIN or head[start : start + 2] == _EXPLICIT_META:
        return None
    values: dict[int, bytes] = {}
    if _walk(head, start, set(_KEYWORDS), _LAST, values, implicit=syntax == _IMPLICIT) is None:
        return None
    if values.keys() != _KEYWORDS.keys():
        return None
    return [values[tag].decode("latin-1").strip(" \0") for tag in _KEYWORDS]


def _walk(head: bytes, at: int, chosen: set[int], last: int, values: dict[int, bytes], *, implicit: bool) -> int | None:
    """Collect the values of chosen tags up to the last; where the next element begins, or None if it is not plain."""
    before = -1
    while at + 12 <= len(head):
        tag = int.from_bytes(head[at : at + 2], "little") << 16 | int.from_bytes(head[at + 2 : at + 4], "little")
        if tag > last:
            return at
        kind = head[at + 4 : at + 6]
        if implicit:
            start, length = at + 8, int.from_bytes(head[at + 4 : at + 8], "little")
        elif kind in _LONG:
            start, length = at + 12, int.from_bytes(head[at + 8 : at + 12], "little")
        else:
            start, length = at + 8, int.from_bytes(head[at + 6 : at + 8], "little")
            if not (kind.isalpha() and kind.isupper()):
                return None
        if tag <= before or start + length > len(head):  # an undefined length, too
            return None
        if tag in chosen:
            values[tag] = head[start : start + length]
        before, at = tag, start + length
    return None


def _text(header: Any, keyword: str) -> str:
    try:
        return str(header.get(keyword) or "").strip(" \0")
    except Exception:  # noqa: BLE001 - pydicom raises whatever a damaged value leads it to
        return ""
