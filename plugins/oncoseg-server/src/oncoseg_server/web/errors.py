"""Every error as one sentence with a code: what the client sees of it, and what the log does."""

from __future__ import annotations

import errno
import logging
import re
import secrets
from collections.abc import Callable

import torch
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from oncoseg_core import (
    DataError,
    GeometryError,
    ImageReadError,
    OncoSegError,
    QualityError,
    StorageError,
    UsageError,
    WeightsError,
)
from oncoseg_dicomweb import ArchiveError
from oncoseg_segment.api import SegmentationCancelledError
from oncoseg_server.sessions.refusal import Refusal
from oncoseg_server.wire import Failure

log = logging.getLogger("oncoseg.server")

STATUS = {
    "bad_request": 400,
    "unauthorized": 401,
    "forbidden_host": 403,
    "forbidden_origin": 403,
    "not_found": 404,
    "unknown_model": 404,
    "unknown_session": 404,
    "unknown_source": 404,
    "unknown_volume": 404,
    "not_allowed": 405,
    "lease_taken": 409,
    "cancelled": 409,
    "version_mismatch": 409,
    "lease_expired": 410,
    "too_large": 413,
    "prompt_refused": 422,
    "image_refused": 422,
    "damaged": 422,
    "not_stored": 422,
    "quality_refused": 422,
    "source_refused": 424,
    "source_unreachable": 424,
    "too_many_sessions": 429,
    "internal": 500,
    "busy": 503,
    "model_unavailable": 503,
    "out_of_memory": 503,
    "timed_out": 503,
    "disk_full": 507,
}
"""The status of each code."""

_OF_ARCHIVES = {"unreachable": "source_unreachable", "refused": "source_refused"}
_KINDS: tuple[tuple[type[OncoSegError], str], ...] = (
    (SegmentationCancelledError, "cancelled"),
    (QualityError, "quality_refused"),
    (WeightsError, "model_unavailable"),
    (StorageError, "not_stored"),
    (UsageError, "prompt_refused"),
    (ImageReadError, "image_refused"),
    (GeometryError, "image_refused"),
    (DataError, "image_refused"),
    (OncoSegError, "bad_request"),
)
_FOLDERS = re.compile(r"(?:(?<=^)|(?<=[\s'\"(`=]))(?:/|[A-Za-z]:\\)(?:[^\s/\\'\"`]+[/\\])+")
_SHARED_FAULTS = "; the other sessions go on"


def failure_of(error: BaseException) -> tuple[Failure, bool]:
    """The failure for a client, and whether the error was expected: an unexpected one is logged with an incident."""
    code, message = _explained(error)
    if code is not None:
        return Failure(code=code, message=_without_folders(_one_line(message))), True
    incident = secrets.token_hex(4)
    return Failure(
        code="internal",
        message=f"the server failed in a way that nobody foresaw; its log has the cause under incident {incident}",
    ), False


def _explained(error: BaseException) -> tuple[str | None, str]:
    if isinstance(error, Refusal):
        return error.code, str(error)
    if isinstance(error, ArchiveError):
        return _OF_ARCHIVES.get(error.problem, error.problem), str(error)
    if _in_causes(error, _is_full_disk):
        return "disk_full", f"the server's disk is full: free some space and try again{_SHARED_FAULTS}"
    if _in_causes(error, lambda one: isinstance(one, (MemoryError, torch.OutOfMemoryError))):
        return "out_of_memory", f"the server ran out of memory: try again, or close other series{_SHARED_FAULTS}"
    code = next((code for kind, code in _KINDS if isinstance(error, kind)), None)
    return code, "" if code is None else _one_line(str(error))


def _is_full_disk(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


def _in_causes(error: BaseException | None, holds: Callable[[BaseException], bool]) -> bool:
    while error is not None:
        if holds(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text.encode("utf-8", "replace").decode()).strip()


def _without_folders(text: str) -> str:
    """A message with the last part of each path of the server's disk alone: clients need not know where things lie."""
    return _FOLDERS.sub("", text)


def reply(failure: Failure) -> JSONResponse:
    """A failure as a response."""
    headers = {"WWW-Authenticate": "Bearer"} if failure.code == "unauthorized" else {}
    if failure.code in {"busy", "too_many_sessions"}:
        headers["Retry-After"] = "2"
    return JSONResponse(failure.model_dump(), STATUS.get(failure.code, 500), headers)


def report(error: BaseException) -> Failure:
    """The reply to a client; what nobody foresaw goes to the log, without its message: that may name a patient."""
    failure, expected = failure_of(error)
    if not expected:
        log.error("%s: %s", failure.message.rpartition("incident ")[2], _trace(error))
    return failure


def _trace(error: BaseException) -> str:
    """The kind of an error and the lines of code that it came through; no values."""
    lines = []
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        lines.append(f"{code.co_filename.rpartition('/')[2]}:{step.tb_lineno} {code.co_name}")
        step = step.tb_next
    return f"{type(error).__name__} at {' < '.join(reversed(lines))}"


def add_handlers(app: FastAPI) -> None:
    """Give an app the handlers that turn every error into a failure."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        problems = [
            f"{'.'.join(str(part) for part in one['loc'][1:]) or 'the body'}: {one['msg'][:1].lower()}{one['msg'][1:]}"
            for one in error.errors()[:3]
        ]
        return reply(Failure(code="bad_request", message=_one_line("; ".join(problems))[:500]))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "not_allowed", 413: "too_large"}.get(error.status_code, "bad_request")
        response = reply(Failure(code=code, message=_one_line(str(error.detail))[:500]))
        response.status_code = error.status_code
        return response

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> JSONResponse:
        return reply(report(error))

    for kind in (OncoSegError, OSError, MemoryError, torch.OutOfMemoryError):

        @app.exception_handler(kind)
        async def foreseen(_: Request, error: Exception) -> JSONResponse:
            return reply(report(error))
