"""A file's attributes in DICOM's JSON model (PS3.18, annex F), as DICOMweb answers with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from oncoseg_dicom.quiet import quiet
from oncoseg_dicom.series.files import read_header

JsonModel = dict[str, dict[str, Any]]
"""By tag, such as ``0020000D``: ``vr``, and ``Value``, ``InlineBinary`` or ``BulkDataURI``."""

_BINARY = {"OB", "OD", "OF", "OL", "OV", "OW", "UN"}
_INLINE_BYTES = 1024
_EVERYTHING = 1 << 62


def read_json_model(
    path: Path, keywords: Iterable[str] | None = None, bulk_uri: Callable[[str], str] | None = None
) -> JsonModel:
    """A file's attributes without its pixels; only those named, if any are. A value that is damaged is left out.

    Args:
        path: a DICOM file.
        keywords: as for :func:`oncoseg_dicom.read_header`.
        bulk_uri: gives, for the tag of a long binary value, the address that stands in its place; none: it stands there
            itself.

    Raises:
        ImageReadError: it is missing, damaged or not DICOM.
    """
    dataset = read_header(path, keywords)
    found: JsonModel = {}
    with quiet():
        for tag in list(dataset.keys()):
            name = f"{tag.group:04X}{tag.element:04X}"
            try:
                element = dataset[tag]
                if bulk_uri is not None and element.VR in _BINARY and len(element.value or b"") > _INLINE_BYTES:
                    found[name] = {"vr": element.VR, "BulkDataURI": bulk_uri(name)}
                elif tag.element != 0:  # no group lengths (retired)
                    found[name] = element.to_json_dict(None, _EVERYTHING)
            except Exception:  # noqa: BLE001, S112 - pydicom raises whatever a damaged value leads it to
                continue
    return found
