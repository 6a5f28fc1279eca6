"""Why the server does not do what a client wants: a code for programs, a sentence for people."""

from __future__ import annotations

from typing import Literal, TypeAlias

from oncoseg_core import OncoSegError

Code: TypeAlias = Literal[
    "bad_request",
    "busy",
    "cancelled",
    "forbidden_host",
    "forbidden_origin",
    "lease_expired",
    "lease_taken",
    "model_unavailable",
    "not_found",
    "out_of_memory",
    "prompt_refused",
    "timed_out",
    "too_large",
    "too_many_sessions",
    "unauthorized",
    "unknown_model",
    "unknown_session",
    "unknown_source",
    "unknown_volume",
    "image_refused",
    "version_mismatch",
]


class Refusal(OncoSegError):  # noqa: N818 - nothing went wrong in the server
    """A request that is not served; ``code`` says which kind of reason."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code
