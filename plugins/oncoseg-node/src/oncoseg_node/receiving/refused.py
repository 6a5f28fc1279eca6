"""Why an instance is not taken, and how each door says so."""

from __future__ import annotations

from typing import NamedTuple

from oncoseg_core import OncoSegError


class Answer(NamedTuple):
    """A refusal in DIMSE's words (PS3.4, B.2.3) and in HTTP's: ``status`` of C-STORE, ``http`` of a lone instance."""

    status: int
    http: int


ANSWERS = {
    "full": Answer(0xA700, 507),
    "too large": Answer(0xC001, 413),
    "unreadable": Answer(0xC000, 409),
    "no uid": Answer(0x0117, 409),
    "mismatch": Answer(0xA900, 409),
    "different": Answer(0x0111, 409),
    "late": Answer(0x0110, 409),
    "too many": Answer(0xC002, 409),
    "no image": Answer(0x0122, 409),
}
"""By kind. All but ``full``, which passes, are failures that sending again does not mend."""

DISCARDED = 0xB006
"""The warning of C-STORE and STOW for an object that is no image: it was understood, and nothing is kept of it."""


class RefusedInstanceError(OncoSegError):
    """An instance that is not taken: ``kind`` is one of :data:`ANSWERS`; the message names no patient.

    ``sop`` are its class and UID, None where they cannot be read.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.sop: tuple[str, str] | None = None

    @property
    def answer(self) -> Answer:
        """What its sender is answered."""
        return ANSWERS[self.kind]
