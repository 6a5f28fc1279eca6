"""The node's settings, as its YAML file spells them. Every key is read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from oncoseg_core import Name, Settings

AeTitle: TypeAlias = Annotated[
    str, Field(pattern=r"^ *[!-\[\]-~][ -\[\]-~]*$", max_length=16, description="1 to 16 characters, no backslash")
]
Port: TypeAlias = Annotated[int, Field(ge=0, le=65535)]
Hour: TypeAlias = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="HH:MM")]

Positive: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Formats: TypeAlias = Annotated[tuple[Literal["rtstruct", "seg", "pdf"], ...], Field(min_length=1)]


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d{1,2})?", text):
        raise ValueError("expected cpu, cuda, or cuda:0 and so on")
    return text


Device: TypeAlias = Annotated[str, AfterValidator(_device)]


class TlsSettings(Settings):
    """Certificate and key as PEM files; ``authorities`` asks the other side for a certificate of these."""

    certificate: Path
    key: Path
    authorities: Path | None = None


class Peer(Settings):
    """Who may send: by AE title, by address (an address or a network such as ``10.1.0.0/16``), or both."""

    ae_title: AeTitle | None = None
    address: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Peer:
        if self.ae_title is None and self.address is None:
            raise ValueError("give ae_title, address, or both")
        return self


class DicomReceiver(Settings):
    """The C-STORE SCP. Without ``allowed`` only this machine may send."""

    ae_title: AeTitle = "ONCOSEG"
    host: str = "127.0.0.1"
    port: Port = 11112
    allowed: tuple[Peer, ...] = ()
    tls: TlsSettings | None = None
    most_associations: PositiveInt = 10
    silent_seconds: Positive = 60.0


class WebReceiver(Settings):
    """STOW-RS and the status page. Outside this machine a token and TLS are needed."""

    host: str = "127.0.0.1"
    port: Port = 8043
    token_file: Path | None = None
    tls: TlsSettings | None = None
    stow: bool = True


class FolderReceiver(Settings):
    """A watched folder: files that no longer grow are taken from it, the others stay."""

    path: Path
    settle_seconds: Positive = 2.0


class ReceiveSettings(Settings):
    """Where series come from, and how much of them is taken."""

    dicom: DicomReceiver | None = None
    web: WebReceiver | None = None
    folder: FolderReceiver | None = None
    most_instance_bytes: PositiveInt = 2**30
    most_instances: PositiveInt = 20_000
    """Of one series."""
    others: Literal["ignored", "refused"] = "ignored"
    """Objects that are no images (structure sets, reports): ``ignored`` answers a warning, and their sender goes on;
    ``refused`` a failure. Nothing is kept of them."""


class Condition(Settings):
    """What a tag has to be; all that is given must hold. An absent tag fulfils ``absent: true`` alone."""

    equals: str | Finite | None = None
    any_of: tuple[str | Finite, ...] | None = None
    matches: str | None = None
    """A regular expression, found anywhere in the value."""
    at_least: Finite | None = None
    at_most: Finite | None = None
    absent: bool | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Condition:
        if not self.model_fields_set:
            raise ValueError("give at least one of equals, any_of, matches, at_least, at_most, absent")
        return self


class Requirements(Settings):
    """What a series that a rule matches must be, or is refused by name."""

    contrast: Literal["any", "with", "without"] = "any"
    kernel: Condition | None = None
    body_part: Condition | None = None
    slices: tuple[PositiveInt, PositiveInt] = (10, 2000)
    """Fewest and most."""
    spacing_mm: tuple[Positive, Positive] = (0.3, 6.0)
    """Between slices, least and most."""
    derived: bool = True
    """Whether images that were computed from others (``DERIVED``: a mean of phases, virtual energies) are taken.
    Projections and reformats never are."""


class RuleSettings(Settings):
    """A kind of series and what is done with it. The first rule that matches, in order of the file, is taken.

    ``when`` is by DICOM keyword. ``structures`` are those of the protocol when omitted; ``models`` are asked in turn:
    each makes those structures that no one before it makes.
    """

    name: Name
    when: dict[str, Condition] = Field(min_length=1)
    require: Requirements = Requirements()
    protocol: str
    structures: tuple[str, ...] | None = None
    models: tuple[Name, ...] = Field(min_length=1)
    destinations: tuple[Name, ...] = ()
    priority: int = 0
    off_peak: bool = False


class ModelSettings(Settings):
    """A model that makes structures.

    ``kind``: ``automatic`` is one without prompts (``atlas``, ``nnunet``, ``ct-thresholds``), ``text`` a promptable
    one that is asked by text. ``structures`` map names of the protocol to the model's own, or to the text; all that
    the model makes under the protocol's names when omitted. ``minimum_confidence`` leaves out what is less sure.
    """

    kind: Literal["automatic", "text"] = "automatic"
    model: Name
    settings: dict[str, Any] = Field(default_factory=dict)
    adapter: str | None = None
    structures: dict[str, str] | None = None
    minimum_confidence: Annotated[float, Field(ge=0, le=1)] = 0.0
    marked_below: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Less sure than that: written, and marked as doubtful."""


class DicomDestination(Settings):
    """A node that takes C-STORE. ``confirm``: how it proves that it has what was sent."""

    kind: Literal["dicom"]
    host: str
    port: Port
    ae_title: AeTitle
    calling_ae_title: AeTitle = "ONCOSEG"
    tls: TlsSettings | None = None
    formats: Formats = ("rtstruct",)
    confirm: Literal["commitment", "query"] = "query"
    """``query``: C-FIND, then C-GET and comparison where the destination offers it."""
    silent_seconds: Positive = 60.0


class DicomwebDestination(Settings):
    """A DICOMweb root; what was stored is read back and compared."""

    kind: Literal["dicomweb"]
    url: str
    user: str | None = None
    password_file: Path | None = None
    token_file: Path | None = None
    certificates: Path | None = None
    formats: Formats = ("rtstruct",)
    silent_seconds: Positive = 60.0


class FolderDestination(Settings):
    """A folder; files are written whole or not at all, read back and compared."""

    kind: Literal["folder"]
    path: Path
    formats: Formats = ("rtstruct",)


Destination: TypeAlias = Annotated[
    DicomDestination | DicomwebDestination | FolderDestination, Field(discriminator="kind")
]


class WorkSettings(Settings):
    """How the work is done: one worker process for each device, killed when it is silent for too long."""

    devices: tuple[Device, ...] = Field(("cpu",), min_length=1)
    silent_seconds: Positive = 900.0
    attempts: PositiveInt = 5
    backoff_seconds: tuple[Positive, ...] = Field((10.0, 60.0, 300.0, 1800.0), min_length=1)
    off_peak: tuple[Hour, Hour] = ("19:00", "06:00")
    """In the machine's own time."""


class KeepSettings(Settings):
    """What is kept, and for how long."""

    images_days: Positive = 2.0
    """After a series ended, its images are deleted; refused and failed ones too."""
    results_days: Positive = 30.0
    free_bytes: PositiveInt = 5 * 2**30
    """With less room on the disk nothing is received: senders are told that it is full."""


class ReportSettings(Settings):
    """What is written beside the structure set, and how it is called."""

    pdf: bool = True
    """Where a browser is installed."""
    label: str = Field("OncoSeg", max_length=40)


class NodeSettings(Settings):
    """The whole file. ``data`` is the folder of everything that the node keeps."""

    data: Path
    receive: ReceiveSettings
    quiet_seconds: Positive = 30.0
    """A series to which nothing was added for so long is taken for complete, and then examined."""
    rules: tuple[RuleSettings, ...] = Field(min_length=1)
    models: dict[Name, ModelSettings] = Field(min_length=1)
    destinations: dict[Name, Destination] = Field(default_factory=dict)
    work: WorkSettings = WorkSettings()
    keep: KeepSettings = KeepSettings()
    report: ReportSettings = ReportSettings()
    again: bool = False
    """Whether a series that has a structure set gets a second one when it is received again with other images."""
