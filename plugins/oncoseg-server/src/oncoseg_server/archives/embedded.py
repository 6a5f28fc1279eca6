"""The embedded DICOMweb of a folder: QIDO-RS and WADO-RS as viewers use them (PS3.18, 10.4 to 10.6)."""

from __future__ import annotations

import re
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Response
from fastapi.responses import StreamingResponse

from oncoseg_core import ImageReadError
from oncoseg_core.system import open_regular
from oncoseg_dicom import read_encoded_frame, read_header, read_json_model
from oncoseg_dicomweb import ArchiveError, StoredInstance, json_bytes
from oncoseg_server.archives import queries
from oncoseg_server.archives.failures import failure
from oncoseg_server.archives.folder import FolderArchive

JSON = "application/dicom+json"
OCTETS = "application/octet-stream"

_U = r"(?P<{}>[0-9]+(?:\.[0-9]+)*)"
_STUDY = f"studies/{_U.format('study')}"
_SERIES = f"{_STUDY}/series/{_U.format('series')}"
_INSTANCE = f"{_SERIES}/instances/{_U.format('sop')}"
_LEVEL = rf"(?:{_STUDY}(?:/series/{_U.format('series')}(?:/instances/{_U.format('sop')})?)?)"

_SEARCH = re.compile(rf"(?:{_STUDY}(?:/series/{_U.format('series')})?/)?(?P<level>studies|series|instances)")
_WHOLE = re.compile(rf"{_LEVEL}(?P<metadata>/metadata)?")
_FRAMES = re.compile(rf"{_INSTANCE}/frames/(?P<frames>[1-9][0-9]{{0,5}}(?:,[1-9][0-9]{{0,5}}){{0,99}})")
_BULK = re.compile(rf"{_INSTANCE}/bulkdata/(?P<tag>[0-9A-F]{{8}})")

_MEDIA = {
    "1.2.840.10008.1.2.4.50": "image/jpeg", "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg", "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls", "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2", "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.201": "image/jphc", "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc", "1.2.840.10008.1.2.5": "image/dicom-rle",
}  # fmt: skip
"""Media type of a frame by its transfer syntax (PS3.18, table 8.7.3-2)."""

_CACHED_BYTES = 64 * 2**20
_CHUNK = 2**20


@dataclass(frozen=True)
class _Part:
    """A part of a multipart answer: a file, or bytes."""

    media: str
    content: Path | bytes


class EmbeddedDicomweb:
    """Answers for one folder; safe to call from several threads."""

    def __init__(self, archive: FolderArchive) -> None:
        self._archive = archive
        self._metadata: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def answer(self, path: str, parameters: Sequence[tuple[str, str]], accept: str, root: str) -> Response:
        """Answer a GET of ``path`` below ``root``, the address of this store.

        Raises:
            ArchiveError: there is nothing there, or the folder cannot be read.
        """
        try:
            if match := _FRAMES.fullmatch(path):
                return self._frames(match, accept)
            if match := _BULK.fullmatch(path):
                return self._bulk(match)
            if match := _SEARCH.fullmatch(path):
                return self._search(match, parameters)
            if match := _WHOLE.fullmatch(path):
                return self._whole(match, root)
        except queries.QueryError as error:
            return failure(400, "bad_request", str(error))
        except ImageReadError as error:
            raise ArchiveError("damaged", str(error)) from error
        return failure(404, "not_found", "no such resource; see the DICOMweb routes in the documentation")

    def _search(self, match: re.Match[str], parameters: Sequence[tuple[str, str]]) -> Response:
        found, level = self._archive.studies(), match["level"]
        query = queries.parsed(parameters)
        if level == "studies" and match["study"] is None:
            results = queries.studies(found, query)
        elif level == "series" and match["series"] is None:
            results = queries.series(found, query, match["study"])
        elif level == "instances":
            results = queries.instances(found, query, match["study"], match["series"])
        else:
            return failure(404, "not_found", "no such resource; a search is for studies, series or instances")
        return Response(json_bytes(results), media_type=JSON)

    def _chosen(self, match: re.Match[str]) -> list[StoredInstance]:
        """The instances of a path, each once."""
        if match["series"] is None:
            by_series = self._archive.studies().get(match["study"])
            if by_series is None:
                raise ArchiveError("not_found", "there is no such study in this source; reload the list")
            stored = [one for instances in by_series.values() for one in instances]
        elif match["sop"] is None:
            stored = self._archive.instances(match["study"], match["series"])
        else:
            stored = [self._archive.instance(match["study"], match["series"], match["sop"])]
        return list({one.sop_uid: one for one in reversed(stored)}.values())[::-1]

    def _whole(self, match: re.Match[str], root: str) -> Response:
        stored = self._chosen(match)
        if match["metadata"] is None:
            return _multipart("application/dicom", [_Part("application/dicom", one.path) for one in stored])
        return Response(self._metadata_of(stored, root), media_type=JSON)

    def _metadata_of(self, stored: Sequence[StoredInstance], root: str) -> bytes:
        """The attributes of instances as JSON, kept for the next time while there is room."""
        key = (root, *((one.path, one.size, one.modified_ns) for one in stored))
        with self._lock:
            if key in self._metadata:
                self._metadata.move_to_end(key)
                return self._metadata[key]
        content = json_bytes([_metadata(one, root) for one in stored])
        with self._lock:
            self._metadata[key] = content
            while sum(map(len, self._metadata.values())) > _CACHED_BYTES:
                self._metadata.popitem(last=False)
        return content

    def _frames(self, match: re.Match[str], accept: str) -> Response:
        one = self._archive.instance(match["study"], match["series"], match["sop"])
        parts = []
        for number in match["frames"].split(","):
            try:
                frame = read_encoded_frame(one.path, int(number))
            except ImageReadError as error:
                raise ArchiveError("not_found" if "no frame" in str(error) else "damaged", str(error)) from error
            media = _MEDIA.get(frame.transfer_syntax, OCTETS)
            if not _accepted(accept, media, frame.transfer_syntax):
                message = f"the frame is stored as {media} ({frame.transfer_syntax}), which `Accept` does not name"
                return failure(406, "bad_request", message)
            parts.append(_Part(f"{media}; transfer-syntax={frame.transfer_syntax}", frame.content))
        return _multipart(parts[0].media.partition(";")[0], parts)

    def _bulk(self, match: re.Match[str]) -> Response:
        one = self._archive.instance(match["study"], match["series"], match["sop"])
        header = read_header(one.path, [match["tag"]])
        tag = int(match["tag"], 16)
        value = header[tag].value if tag in header else None
        if not isinstance(value, bytes):
            raise ArchiveError("not_found", "the instance has no such bulk data; reload its metadata")
        return _multipart(OCTETS, [_Part(OCTETS, value)])


def _metadata(one: StoredInstance, root: str) -> dict[str, Any]:
    base = f"{root}/studies/{one.study_uid}/series/{one.series_uid}/instances/{one.sop_uid}/bulkdata"
    return read_json_model(one.path, bulk_uri=lambda tag: f"{base}/{tag}")


def _accepted(accept: str, media: str, transfer_syntax: str) -> bool:
    """Whether a client takes a frame as it is stored. One that names no type or transfer syntax takes any."""
    ranges = [one.strip().lower() for one in accept.split(",")]
    for one in ranges:
        named = re.findall(r"transfer-syntax=\"?([0-9.*]+)", one)
        kind = re.search(r"type=\"?([a-z*]+/[a-z0-9*+.-]+)", one)
        fits = kind is None or kind[1] in {media, "*/*", media.split("/", maxsplit=1)[0] + "/*"}
        if kind is not None and kind[1] == OCTETS and "*" in named:
            fits = True  # how viewers ask for whatever is stored
        if fits and (not named or "*" in named or transfer_syntax in named):
            return True
    return False


def _multipart(media: str, parts: Sequence[_Part]) -> Response:
    boundary = uuid.uuid4().hex

    def body() -> Iterator[bytes]:
        for part in parts:
            yield f"--{boundary}\r\nContent-Type: {part.media}\r\n\r\n".encode()
            if isinstance(part.content, bytes):
                yield part.content
            else:
                with open_regular(part.content) as stream:
                    while chunk := stream.read(_CHUNK):
                        yield chunk
            yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    return StreamingResponse(
        body(), headers={"Content-Type": f'multipart/related; type="{media}"; boundary={boundary}'}
    )
