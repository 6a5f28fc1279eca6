"""Voxels over HTTP: images that a client sends, and the image of a session. A line of JSON, then the bytes."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from oncoseg_server.sessions.refusal import Refusal
from oncoseg_server.sessions.sent import grid_of, shown_voxels, volume_from
from oncoseg_server.web.routes.examples import VOLUME_EXAMPLES
from oncoseg_server.web.routes.leases import Held, TheServer
from oncoseg_server.wire import TakenVolume, VolumeHeader

router = APIRouter(tags=["voxels"])
of_one = APIRouter(prefix="/sessions/{session}", tags=["voxels"])
LONGEST_LINE = 8_000_000
"""Bytes of a header: one with the places of 65,535 slices has fewer."""


RAW = "application/octet-stream"
_LINE_AND_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_SENT = {
    "requestBody": {
        "required": True,
        "description": "a `VolumeHeader` as one line of JSON, a line feed, and the voxels",
        "content": {RAW: {**_LINE_AND_BYTES, "examples": VOLUME_EXAMPLES}},
    }
}


@router.post("/volumes", status_code=201, openapi_extra=_SENT)
async def send_volume(request: Request, server: TheServer) -> TakenVolume:
    """Send an image that no source has: the JSON of a ``VolumeHeader``, a line feed, and the voxels."""
    body = _pieces(request)
    line, begun = await _first_line(body)
    header = _header(line)
    grid, size = grid_of(header), math.prod(header.shape) * np.dtype(header.dtype).itemsize
    with server.volumes.room_for(request.state.owner, size) as key:
        data, filled = np.empty(size, dtype=np.uint8), 0
        async for chunk in _chained(begun, body):
            if filled + len(chunk) > size:
                raise Refusal("bad_request", f"more than the {size} bytes arrived that the header announces")
            data[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
            filled += len(chunk)
        if filled < size:
            raise Refusal(
                "bad_request", f"{filled} bytes of voxels arrived, the header announces {size}; send it again"
            )
        await server.work(lambda: server.volumes.add(key, volume_from(header, grid, data)), long=True)
        return TakenVolume(volume=key[-1])


@of_one.get("/voxels", response_class=StreamingResponse, responses={200: {"content": {RAW: _LINE_AND_BYTES}}})
async def voxels(held: Held) -> StreamingResponse:
    """The image of a session with calibrated values: the JSON of a ``VolumeHeader``, a line feed, and the voxels."""
    return StreamingResponse(shown_voxels(held.calibrated).parts(), media_type=RAW)


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        raise Refusal("bad_request", "the client hung up before all voxels were sent") from None


async def _first_line(body: AsyncIterator[bytes]) -> tuple[bytes, bytes]:
    """The line, and what of the voxels came with it."""
    data = bytearray()
    async for chunk in body:
        data += chunk
        line, feed, begun = bytes(data).partition(b"\n") if b"\n" in chunk else (b"", b"", b"")
        if feed:
            return line, begun
        if len(data) > LONGEST_LINE:
            break
    raise Refusal("bad_request", "the body does not begin with a line of JSON that says what the voxels are")


def _header(line: bytes) -> VolumeHeader:
    try:
        return VolumeHeader.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "header"
        raise Refusal("bad_request", f"the header of the voxels: `{where}`: {first['msg']}") from None


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
