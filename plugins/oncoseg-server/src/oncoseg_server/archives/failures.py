"""How the DICOMweb routes say that something failed: JSON with a code and one sentence, as the API does."""

from __future__ import annotations

from fastapi import Response
from fastapi.responses import JSONResponse

from oncoseg_dicomweb import Problem

STATUS: dict[Problem, int] = {
    "not_found": 404, "refused": 424, "unreachable": 424, "too_large": 413, "not_stored": 409, "damaged": 424,
    "cancelled": 409,
}  # fmt: skip
"""HTTP status of an archive's problem; 424: what this server depends on has failed."""


def failure(status: int, code: str, message: str) -> Response:
    """An answer that says what failed and what to do."""
    return JSONResponse({"code": code, "message": message}, status)
