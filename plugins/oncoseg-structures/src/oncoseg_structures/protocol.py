"""A protocol: what is contoured for a site, how it is shown, and what is plausible of it."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from oncoseg_core import Name, Record

Byte: TypeAlias = Annotated[int, Field(ge=0, le=255)]
Colour: TypeAlias = tuple[Byte, Byte, Byte]
InterpretedType: TypeAlias = Literal[
    "ORGAN", "EXTERNAL", "AVOIDANCE", "CAVITY", "GTV", "CTV", "PTV", "SUPPORT", "MARKER"
]


class Code(Record):
    """What a structure is, by a coding scheme such as SNOMED CT (``SCT``): for DICOM SEG."""

    value: str
    scheme: str
    meaning: str


class ProtocolStructure(Record):
    """One structure: its ``name`` by TG-263, and what it is asked by of a model that takes text.

    ``volume_ml`` is the range outside of which it is doubtful, ``most_parts`` the most connected components, ``side``
    the side of the patient on which its centre lies.
    """

    name: Annotated[str, Field(min_length=1, max_length=16)]
    colour: Colour
    interpreted_type: InterpretedType = "ORGAN"
    text: str | None = None
    volume_ml: tuple[float, float] | None = None
    most_parts: Annotated[int, Field(ge=1)] = 1
    side: Literal["left", "right"] | None = None
    code: Code | None = None


class Protocol(Record):
    """The structures of a site, in the order in which they are written."""

    name: Name
    title: str
    modality: str = "CT"
    body_parts: tuple[str, ...] = ()
    structures: tuple[ProtocolStructure, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_once(self) -> Protocol:
        names = [one.name for one in self.structures]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"named twice: {', '.join(twice)}")
        return self


class Doubt(Record):
    """Why a structure is doubtful: a kind, a sentence, and how plausible it remains, in [0, 1]."""

    kind: Literal["empty", "volume", "parts", "side", "position", "pair", "cut off"]
    message: str
    plausibility: Annotated[float, Field(ge=0, le=1)]
