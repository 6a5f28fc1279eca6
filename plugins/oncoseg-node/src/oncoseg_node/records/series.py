"""What is known of a received series before anything is done with it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from oncoseg_core import Name, Record


class Refusal(Record):
    """Why a series is not contoured: a ``kind`` under which it is counted, and a line without patient data."""

    kind: Name
    message: str


class SeriesFacts(Record):
    """A series as its headers tell: ``values`` by DICOM keyword, those that rules may ask, of the first slice.

    ``values`` never leave the node: they may name the patient. ``slices`` are images in it, ``spacing_mm`` the usual
    distance between them; None where there is no stack. ``doubts`` are for the report: nothing is refused for them.
    """

    study_uid: str
    series_uid: str
    modality: str
    slices: int
    spacing_mm: float | None = None
    doubts: tuple[str, ...] = ()
    values: dict[str, Any] = Field(default_factory=dict, repr=False)
