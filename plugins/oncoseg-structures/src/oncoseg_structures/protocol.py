"""A protocol: what is contoured for a site, how it is shown, and what is plausible of it."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PositiveFloat, model_validator

from oncoseg_core import Name, Record

Byte: TypeAlias = Annotated[int, Field(ge=0, le=255)]
Colour: TypeAlias = tuple[Byte, Byte, Byte]
InterpretedType: TypeAlias = Literal[
    "ORGAN", "EXTERNAL", "AVOIDANCE", "CAVITY", "GTV", "CTV", "PTV", "SUPPORT", "MARKER"
]
Side: TypeAlias = Literal["left", "right"]
DoubtKind: TypeAlias = Literal["empty", "volume", "parts", "side", "pair", "position", "overlap", "outside", "cut off"]


class Code(Record):
    """What a structure is, by a coding scheme such as SNOMED CT (``SCT``): for DICOM SEG."""

    value: str
    scheme: str
    meaning: str


class ProtocolStructure(Record):
    """One structure: its ``name`` by TG-263, and by which ``text`` a model that takes text is asked for it.

    ``volume_ml`` is the range of the whole organ outside of which it is doubtful, ``most_parts`` the most connected
    parts (None where they are not judged), ``side`` the side of the patient on which its centre lies.
    """

    name: Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[!-~]+$")]
    colour: Colour
    interpreted_type: InterpretedType = "ORGAN"
    text: str | None = None
    volume_ml: tuple[PositiveFloat, PositiveFloat] | None = None
    most_parts: Annotated[int, Field(ge=1)] | None = 1
    side: Side | None = None
    code: Code | None = None

    @model_validator(mode="after")
    def _ranges(self) -> ProtocolStructure:
        if self.volume_ml is not None and self.volume_ml[0] >= self.volume_ml[1]:
            raise ValueError(f"volume_ml of {self.name} is from the least to the most")
        return self


class Protocol(Record):
    """The structures of a site, in the order in which they are written."""

    name: Name
    title: str
    modality: str = "CT"
    body_parts: tuple[str, ...] = ()
    structures: tuple[ProtocolStructure, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_once(self) -> Protocol:
        names = [one.name.casefold() for one in self.structures]
        if twice := sorted({one.name for one in self.structures if names.count(one.name.casefold()) > 1}):
            raise ValueError(f"named twice (capital letters do not count): {', '.join(twice)}")
        return self


class Doubt(Record):
    """Why a structure is doubtful: a kind, a sentence, and how plausible it remains, in [0, 1].

    ``cut off`` tells that only a part of the organ is imaged; it remains as plausible as it was.
    """

    kind: DoubtKind
    message: str
    plausibility: Annotated[float, Field(ge=0, le=1)]
