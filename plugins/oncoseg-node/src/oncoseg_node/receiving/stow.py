"""STOW-RS: images over HTTP, part by part as they stream in (PS3.18, 10.5)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import anyio
import anyio.from_thread
import anyio.to_thread
from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from oncoseg_core.system import json_text
from oncoseg_dicomweb import MultipartError, boundary_of, split_parts
from oncoseg_node.receiving.intake import Intake, Taken
from oncoseg_node.receiving.refused import DISCARDED, RefusedInstanceError

_DICOM = "application/dicom"
_JSON = "application/dicom+json"
_CHUNK = 2**16


class StowLimits(NamedTuple):
    """Of one request: most parts, seconds without a byte; and how many requests are read at once."""

    most_parts: int = 20_000
    silent_seconds: float = 60.0
    at_once: int = 4


class _Outcome(NamedTuple):
    """What became of the parts of a request."""

    taken: list[Taken]
    refused: list[RefusedInstanceError]


def stow_router(intake: Intake, *, prefix: str = "/dicom-web", limits: StowLimits = StowLimits()) -> APIRouter:  # noqa: B008 - immutable
    """Routes ``POST {prefix}/studies`` and ``{prefix}/studies/{study}``.

    Who may come in, and from where, is for the app around them.
    """
    router = APIRouter(prefix=prefix)
    limiter: list[anyio.CapacityLimiter] = []

    async def store(request: Request, study: str | None) -> Response:
        try:
            boundary = boundary_of(request.headers.get("content-type", ""))
        except MultipartError:
            return _failure(415, 'expected Content-Type: multipart/related; type="application/dicom"; boundary=…')
        if not limiter:  # belongs to the running loop
            limiter.append(anyio.CapacityLimiter(limits.at_once))
        chunks = _chunks(request.stream().__aiter__(), limits.silent_seconds)
        try:
            outcome = await anyio.to_thread.run_sync(
                lambda: _received(split_parts(chunks, boundary), intake, study, limits.most_parts), limiter=limiter[0]
            )
        except MultipartError as error:
            return _failure(400, str(error).replace("answer", "request"))
        except ClientDisconnect:
            return _failure(400, "the request was broken off")
        except TimeoutError:
            return _failure(408, "the request did not arrive in time; send it again")
        return _answer(outcome)

    @router.post("/studies")
    async def store_any(request: Request) -> Response:
        """Store instances of any study."""
        return await store(request, None)

    @router.post("/studies/{study}")
    async def store_study(request: Request, study: str) -> Response:
        """Store instances of one study."""
        return await store(request, study)

    return router


def _chunks(stream: AsyncIterator[bytes], silent_seconds: float) -> Iterator[bytes]:
    """A request's body, for a thread beside the loop."""

    async def following() -> bytes | None:
        with anyio.fail_after(silent_seconds):
            return await anext(stream, None)

    while (chunk := anyio.from_thread.run(following)) is not None:
        yield from (chunk[at : at + _CHUNK] for at in range(0, len(chunk), _CHUNK))


def _received(pieces: Iterator[dict[str, str] | bytes], intake: Intake, study: str | None, most: int) -> _Outcome:
    """Take the parts one after the other; one that is refused stops no other.

    Raises:
        MultipartError: the body is none, or ends too early; what was complete before is stored.
    """
    outcome = _Outcome([], [])
    parts = _Parts(pieces)
    while (media := parts.start()) is not None:
        if len(outcome.taken) + len(outcome.refused) >= most:
            raise MultipartError(f"the request has more than {most} parts")
        try:
            if media != _DICOM:
                raise RefusedInstanceError("unreadable", f"a part is not {_DICOM}")  # noqa: TRY301
            outcome.taken.append(intake.take(parts.content(), "web", study=study))
        except RefusedInstanceError as refusal:
            outcome.refused.append(refusal)
        parts.skip()
    return outcome


class _Parts:
    """Headers and bytes of parts, as :func:`~oncoseg_dicomweb.split_parts` gives them, one part at a time."""

    def __init__(self, pieces: Iterator[dict[str, str] | bytes]) -> None:
        self._pieces = pieces
        self._headers: dict[str, str] | None = None
        self._advance()

    def start(self) -> str | None:
        """The media type of the next part; None at the end."""
        if self._headers is None:
            return None
        media = self._headers.get("content-type", _DICOM).partition(";")[0].strip().lower()
        self._headers = None
        return media

    def content(self) -> Iterator[bytes]:
        """The bytes of the part."""
        while (piece := self._advance()) is not None:
            yield piece

    def skip(self) -> None:
        """Leave out what is left of the part."""
        while self._headers is None and self._advance() is not None:
            pass

    def _advance(self) -> bytes | None:
        """The next bytes of the part; None at its end."""
        if self._headers is not None:
            return None
        piece = next(self._pieces, None)
        if isinstance(piece, dict):
            self._headers = piece
            return None
        return piece


def _answer(outcome: _Outcome) -> Response:
    """The response of PS3.18, 10.5.3: what was stored, what failed, and why."""
    failed = [_failed(refusal) for refusal in outcome.refused if refusal.sop is not None]
    unknown = [_sop(None, ("00081197", refusal.answer.status)) for refusal in outcome.refused if refusal.sop is None]
    stored = [
        _sop((one.sop_class_uid, one.sop_uid), ("00081196", DISCARDED) if one.status == "ignored" else None)
        for one in outcome.taken
    ]
    content: dict[str, Any] = {"00081190": {"vr": "UR"}}  # nothing is retrieved from here
    for tag, items in (("00081198", failed), ("00081199", stored), ("0008119A", unknown)):
        if items:
            content[tag] = {"vr": "SQ", "Value": items}
    return Response(json_text(content), _http_status(outcome), media_type=_JSON)


def _http_status(outcome: _Outcome) -> int:
    if outcome.taken:
        ignored = any(one.status == "ignored" for one in outcome.taken)
        return 202 if outcome.refused or ignored else 200
    if len({refusal.answer.http for refusal in outcome.refused}) == 1:
        return outcome.refused[0].answer.http
    return 409 if outcome.refused else 400


def _failed(refusal: RefusedInstanceError) -> dict[str, Any]:
    return _sop(refusal.sop, ("00081197", refusal.answer.status))


def _sop(sop: tuple[str, str] | None, reason: tuple[str, int] | None) -> dict[str, Any]:
    item: dict[str, Any] = {}
    if sop is not None:
        item |= {"00081150": {"vr": "UI", "Value": [sop[0]]}, "00081155": {"vr": "UI", "Value": [sop[1]]}}
    if reason is not None:
        item[reason[0]] = {"vr": "US", "Value": [reason[1]]}
    return item


def _failure(status: int, message: str) -> Response:
    return Response(json_text({"error": message}), status, media_type="application/json")
