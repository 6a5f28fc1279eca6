"""A DICOMweb origin passed through to a viewer: reading only, by a strict grammar, and with none of its headers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Response
from fastapi.responses import StreamingResponse

from oncoseg_dicomweb import DicomwebArchive, json_bytes
from oncoseg_server.archives.failures import failure

_UID = r"[0-9]+(?:\.[0-9]+)*"
_INSTANCE = rf"studies/{_UID}/series/{_UID}/instances/{_UID}"
_VIEW = r"(?:metadata|rendered|thumbnail)"
_NUMBERS = r"[1-9][0-9]{0,5}(?:,[1-9][0-9]{0,5}){0,99}"
_PATH = re.compile(
    rf"(?:studies|series|instances|studies/{_UID}/(?:series|instances)|studies/{_UID}/series/{_UID}/instances"
    rf"|studies/{_UID}(?:/series/{_UID}(?:/instances/{_UID})?)?(?:/{_VIEW})?"
    rf"|{_INSTANCE}/frames/{_NUMBERS}(?:/{_VIEW})?"
    rf"|{_INSTANCE}/bulk(?:data)?(?:/[0-9A-Fa-f]{{1,8}}){{1,16}})"
)
_LONGEST = 1024
_PARAMETER = re.compile(r"[A-Za-z]{1,64}|[0-9A-Fa-f]{8}")
_ACCEPT = re.compile(r"[\x20-\x7e]{0,512}")


def forward(archive: DicomwebArchive, path: str, query: str, accept: str, root: str) -> Response:
    """Answer a GET of ``path`` with what the origin answers; addresses in its JSON become those below ``root``.

    Raises:
        ArchiveError: the origin does not answer, or not with what was asked for.
    """
    if len(path) > _LONGEST or _PATH.fullmatch(path) is None:
        return failure(404, "not_found", "no such resource; see the DICOMweb routes in the documentation")
    parameters = _parameters(query)
    if parameters is None or _ACCEPT.fullmatch(accept) is None:
        message = "expected searches as NAME=VALUE by keyword or tag, joined by &, and an Accept of plain characters"
        return failure(400, "bad_request", message)
    with ExitStack() as stack:
        answer = stack.enter_context(archive.origin.request("GET", path, accept, parameters=parameters))
        media = answer.headers.get("Content-Type", "application/octet-stream")
        if answer.status_code == 204:
            return Response("[]", media_type="application/dicom+json")
        if "json" in media.partition(";")[0].lower():
            content = b"".join(archive.origin.body(answer, archive.origin.limits.list_bytes))
            return Response(_with_addresses(content, root), media_type=media)
        rest = stack.pop_all()

    def body() -> Iterator[bytes]:
        with rest:
            yield from archive.origin.body(answer, archive.origin.limits.series_bytes)

    return StreamingResponse(body(), headers={"Content-Type": media})


def _parameters(query: str) -> list[tuple[str, str]] | None:
    """The parameters of a search; None where one is neither an attribute's keyword nor its tag."""
    try:
        parsed = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=100)
    except ValueError:
        return None
    fine = len(query) <= 8 * _LONGEST and all(_PARAMETER.fullmatch(name) for name, _ in parsed)
    return parsed if fine else None


def _with_addresses(content: bytes, root: str) -> bytes:
    """DICOM JSON in which bulk data and instances are fetched through here; addresses of anything else are left out."""
    if b"BulkDataURI" not in content and b"00081190" not in content:
        return content
    try:
        answer = json.loads(content)
        _redirect(answer, root)
    except (ValueError, RecursionError):
        return content
    return json_bytes(answer)


def _redirect(item: Any, root: str) -> None:
    if isinstance(item, list):
        for one in item:
            _redirect(one, root)
    elif isinstance(item, dict):
        if "BulkDataURI" in item:
            address = _below(str(item.pop("BulkDataURI")), root)
            if address is not None:
                item["BulkDataURI"] = address
        if item.get("vr") == "UR" and isinstance(item.get("Value"), list):
            item["Value"] = [_below(str(one), root) or str(one) for one in item["Value"]]
        for value in item.values():
            _redirect(value, root)


def _below(address: str, root: str) -> str | None:
    """The same resource below ``root``; None where it is none that is passed through."""
    at = address.find("studies/")
    path = address[at:]
    return f"{root}/{path}" if at >= 0 and _PATH.fullmatch(path) else None
