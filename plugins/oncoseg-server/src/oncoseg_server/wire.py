"""What goes over the wire: requests and replies of ``/api/v1``, as pydantic models that OpenAPI shows.

Pixels are continuous coordinates of a slice as it is stored: ``x`` to the right, ``y`` down, the centre of the first
pixel at (0.5, 0.5). ``slice`` is the index of a slice in the order of :attr:`ImageInfo.instances`. Millimetres are LPS.
A mask is a rectangle of bits (:mod:`oncoseg_client.masks`).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Coordinate = Annotated[float, Field(ge=-1e6, le=1e6)]
Point = Annotated[list[Coordinate], Field(min_length=2, max_length=3)]
"""``[x, y]`` in pixels of the slice, or ``[x, y, z]`` in LPS mm."""
Name = Annotated[str, Field(min_length=1, max_length=64)]


def _writable(name: str) -> str:
    """Refuse at the first step what no SEG could be saved under at the last."""
    if name != name.strip() or "\\" in name or not name.isprintable():
        raise ValueError(
            "expected printable characters without a backslash, and no blanks before or after: DICOM has "
            "no room for others; choose another name"
        )
    return name


StructureName = Annotated[Name, AfterValidator(_writable)]
Uid = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)*$", max_length=64)]
Label = Annotated[str, Field(max_length=16, pattern=r"^[^\\\x00-\x20\x7f-\x9f][^\\\x00-\x1f\x7f-\x9f]*$")]
"""A name that DICOM has room for: printable, without a backslash, not of blanks."""
SliceIndex = Annotated[int, Field(ge=0, le=1_000_000)]


class Message(BaseModel):
    """Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Bits(Message):
    """A rectangle of a mask; its width and height are 0 where it is empty."""

    x: int = Field(ge=0, le=65_535)
    y: int = Field(ge=0, le=65_535)
    width: int = Field(ge=0, le=65_535)
    height: int = Field(ge=0, le=65_535)
    bits: str = Field(max_length=4_000_000)


# Steps: the state of a session is the list of these.


class HintMessage(Message):
    """One hint: a point, two corners of a box or exemplar, or the points of a lasso or scribble."""

    kind: Literal["point", "box", "lasso", "scribble", "exemplar"]
    points: list[Point] = Field(min_length=1, max_length=10_000)
    positive: bool = True


class PromptStep(Message):
    """Prompt one structure on one slice (``slice``), or in millimetres where the points say it.

    The hints are added to those that the structure has on that slice; with ``replace`` they take their place. A text
    counts on this slice.
    """

    step: Literal["prompt"] = "prompt"
    structure: StructureName
    slice: SliceIndex | None = None
    hints: list[HintMessage] = Field(default_factory=list, max_length=1_000)
    text: Annotated[str, Field(max_length=200)] | None = None
    units: Literal["pixel", "mm"] = "pixel"
    replace: bool = False


class SliceMask(Message):
    """A mask on a slice."""

    slice: SliceIndex
    mask: Bits


class EditStep(Message):
    """The mask of a structure on a slice as a hand drew it: it stands as it is, and is the next prompt there.

    ``more`` are other slices that the same stroke changed, each of them once.
    """

    step: Literal["edit"] = "edit"
    structure: StructureName
    slice: SliceIndex
    mask: Bits
    more: list[SliceMask] = Field(default_factory=list, max_length=100_000)

    @model_validator(mode="after")
    def _each_slice_once(self) -> Self:
        if len({self.slice, *(one.slice for one in self.more)}) <= len(self.more):
            raise ValueError("an edit gives a slice two masks; send one mask for each")
        return self


class PropagateStep(Message):
    """Follow a structure from each of its slices that has a prompt or an edit; these keep their masks."""

    step: Literal["propagate"] = "propagate"
    structure: StructureName


class RemoveStep(Message):
    """Take a structure out."""

    step: Literal["remove"] = "remove"
    structure: StructureName


Step = Annotated[PromptStep | EditStep | PropagateStep | RemoveStep, Field(discriminator="step")]


# Sessions.


class VolumeHeader(Message):
    """An image that a client sends: the first line of the body, as JSON; the voxels follow, little-endian, in C order.

    ``shape`` is (z, y, x), or (z, y, x, 3) of a colour picture. ``affine`` maps index (x, y, z) to LPS mm, 4 x 4; None
    where nothing tells millimetres. ``slice_origins`` are LPS mm of the first voxel of each slice, where these are
    unevenly spaced. The values are calibrated, such as HU.
    """

    shape: list[Annotated[int, Field(ge=1, le=65_535)]] = Field(min_length=3, max_length=4)
    dtype: Literal["uint8", "int8", "uint16", "int16", "int32", "float32"]
    modality: Name = "unknown"
    affine: list[list[float]] | None = None
    slice_origins: list[list[float]] | None = None

    @model_validator(mode="after")
    def _three_colours(self) -> Self:
        if len(self.shape) == 4 and self.shape[3] != 3:
            raise ValueError(f"a colour picture has three channels, found {self.shape[3]}")
        return self


class TakenVolume(Message):
    """An image that was sent: sessions open it by ``volume``, while it is in use and for a while after."""

    volume: str


class OpenRequest(Message):
    """Open a series of a source, or a ``volume`` that was sent. ``steps`` are those of an earlier session that is gone
    on with; ``undone`` can be redone.
    """

    source: Name | None = None
    study_uid: Uid | None = None
    series_uid: Uid | None = None
    volume: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    model: Name | None = None
    steps: list[Step] = Field(default_factory=list, max_length=10_000)
    undone: list[Step] = Field(default_factory=list, max_length=10_000)

    @model_validator(mode="after")
    def _one_image(self) -> Self:
        series = (self.source, self.study_uid, self.series_uid)
        if (None in series) if self.volume is None else any(series):
            raise ValueError("give `source`, `study_uid` and `series_uid`, or `volume` alone")
        return self


class Instance(Message):
    """The stored image that a slice is of; ``frame`` counts from 1 in an instance of several."""

    sop_uid: str
    frame: int | None = None


class ImageInfo(Message):
    """The opened image. ``affine`` maps (column, row, slice) indices to LPS mm, 4 x 4.

    ``instances`` are empty where it was sent as voxels. ``spacing_mm`` is between slices, rows and columns. Of an
    unevenly spaced stack both run evenly from the first slice to the last; diameters, areas and volumes are by each
    slice's own place.
    """

    rows: int
    columns: int
    slices: int
    modality: str
    physical: bool
    spacing_mm: list[float]
    affine: list[list[float]]
    instances: list[Instance]
    findings: list[str]


class Opened(Message):
    """A session and its lease: every further call carries ``lease`` in the header ``X-OncoSeg-Lease``."""

    session: str
    lease: str
    lease_seconds: float
    model: str
    image: ImageInfo
    answer: Answer


class Line(Message):
    """A diameter: its ends in pixels of its slice and in LPS mm."""

    mm: float
    ends_pixels: list[list[float]]
    ends_lps_mm: list[list[float]]


class StructureInfo(Message):
    """A structure as it is now. ``slices`` hold some of it; ``long`` and ``short`` are RECIST's diameters."""

    name: str
    slices: list[int]
    score: float | None
    presence: float | None
    edited: bool
    propagated: bool
    voxels: int
    area_mm2: float | None = Field(description="on the slice of this step; None without millimetres")
    volume_ml: float | None = Field(description="None on a single slice, and without millimetres")
    mean: float | None
    unit: str | None
    diameter_slice: int | None
    long: Line | None
    short: Line | None
    findings: list[str]


class Change(Message):
    """A rectangle of a structure's mask on a slice that this step changed: all bits in it are new, none outside."""

    structure: str
    slice: int
    mask: Bits


class Answer(Message):
    """What a step changed, and every structure as it is after it. ``timing_ms`` says how long each stage took."""

    steps: int = Field(description="how many steps make up the state")
    undone: int = Field(description="how many can be redone")
    structures: list[StructureInfo]
    changes: list[Change]
    findings: list[str]
    timing_ms: dict[str, float]


class View(Message):
    """What the user looks at, so that it is encoded before it is asked for; the slice under the mouse first."""

    slice: SliceIndex
    hover: SliceIndex | None = None


SavedFormat = Literal["seg", "rtstruct", "sr"]


class SaveRequest(Message):
    """Which objects to write; ``label`` names the series of the objects."""

    formats: list[SavedFormat] = Field(default=["seg", "rtstruct", "sr"], min_length=1, max_length=3)
    label: Label = "OncoSeg"


class SavedObject(Message):
    """An object that the archive has given back as it was sent; ``notes`` say what to know of it."""

    format: str
    series_uid: str
    sop_uid: str
    notes: list[str] = Field(default_factory=list)


class Saved(Message):
    """All that was saved and read back."""

    objects: list[SavedObject]
    timing_ms: dict[str, float]


class Progress(Message):
    """How far a propagation is, as an event of its stream."""

    done: int
    total: int


class Failure(Message):
    """An error: ``code`` for programs, ``message`` for people, in one sentence with what to do."""

    code: str
    message: str


class ModelInfo(Message):
    """A model that the server answers with."""

    name: str
    model: str
    adapter: str | None
    prompts: list[str]
    precision: str
    engine: str
    notice: str | None


class SourceInfo(Message):
    """A source of series."""

    name: str
    kind: str


class SeriesInfo(Message):
    """A series that can be opened; nothing of the patient."""

    study_uid: str
    series_uid: str
    modality: str
    instances: int
    description: str


class ServerInfo(Message):
    """What this server is; ``api`` changes when a client written for another number would go wrong."""

    api: Literal[1] = 1
    version: str
    models: list[ModelInfo]
    sources: list[SourceInfo]
    limits: dict[str, float]


Opened.model_rebuild()
