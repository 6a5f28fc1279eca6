"""What a server answers when it does not do what it was asked for."""

from __future__ import annotations


class ServerError(Exception):
    """``code`` is for programs, such as ``lease_expired``; the message says what is wrong and what to do.

    ``status`` is HTTP's, None where there was no answer at all (``code`` is then ``unreachable``).
    """

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
