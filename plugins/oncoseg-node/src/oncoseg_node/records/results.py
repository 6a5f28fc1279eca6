"""What became of each structure, and of each object that was sent."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from oncoseg_core import Name, Record


class MadeStructure(Record):
    """A structure as a model made it. ``name`` is the protocol's, ``source`` the model's own name or the text.

    ``confidence`` in [0, 1] by ``method``; None where the model does not tell. ``left_out``: why it was not made.
    """

    name: str
    model: Name
    source: str
    confidence: float | None = None
    method: str = ""
    left_out: str | None = None


class UsedModel(Record):
    """A model that took part: its key in the settings, component, version, digest of its weights, and seconds.

    ``licence`` is that of code and weights, in a line; empty where the component states none.
    """

    key: Name
    component: str
    version: str
    weights_sha256: str
    licence: str = ""
    seconds: float
    notes: tuple[str, ...] = ()


class Made(Record):
    """All that segmenting left in ``job.masks`` beside the masks themselves."""

    structures: tuple[MadeStructure, ...]
    models: tuple[UsedModel, ...]
    seconds: dict[str, float] = Field(default_factory=dict)
    findings: tuple[str, ...] = ()
    """Of the image."""


class CheckedStructure(Record):
    """A structure after the checks: ``written``, written and ``marked`` as doubtful, or ``left out``; and why.

    ``confidence`` is the lowest of those in ``confidences`` (by method); None where nothing judges it.
    """

    name: str
    decision: Literal["written", "marked", "left out"]
    reasons: tuple[str, ...] = ()
    model: Name
    source: str
    confidence: float | None = None
    confidences: dict[str, float] = Field(default_factory=dict)
    volume_ml: float | None = None
    slices: tuple[int, int] | None = None
    colour: tuple[int, int, int] = (255, 0, 0)
    interpreted_type: str = "ORGAN"


class WrittenObject(Record):
    """A file that is to be sent, compared with the masks after it was written."""

    format: Literal["rtstruct", "seg", "pdf"]
    path: Path
    sha256: str
    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class_uid: str
    notes: tuple[str, ...] = ()


class Delivery(Record):
    """What a destination did with an object: ``stored`` is its word, ``confirmed`` the proof, by ``how``."""

    destination: Name
    format: Literal["rtstruct", "seg", "pdf"]
    sop_uid: str
    status: Literal["stored", "confirmed", "failed"]
    how: str = ""
    message: str = ""
