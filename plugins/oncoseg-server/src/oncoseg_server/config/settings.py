"""What the server's YAML file says. Every key is read; an unknown one is refused."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from oncoseg_core import Settings
from oncoseg_segment.api import SegmentSettings

MEGABYTE = 1_000_000
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable: secrets never stand in the file."""


class TlsSettings(Settings):
    """A certificate and its key, PEM files."""

    certificate: Path
    key: Path


class DicomwebSettings(Settings):
    """A DICOMweb origin. A token or a user with a password is read from the environment.

    ``certificates``: a PEM file of authorities to trust in place of the system's. ``timeout_seconds`` without a byte
    end a request, ``series_seconds`` and ``series_mb`` bound the retrieval of one series.
    """

    url: str = Field(pattern=r"^https?://[^/?#@\s]+(/[^?#@\s]*)?$")
    token_env: Variable | None = None
    user_env: Variable | None = None
    password_env: Variable | None = None
    certificates: Path | None = None
    timeout_seconds: float = Field(default=30.0, gt=0, le=600)
    series_seconds: float = Field(default=600.0, gt=0)
    series_mb: int = Field(default=4_000, ge=1)

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if (self.user_env is None) != (self.password_env is None):
            raise ValueError("`user_env` and `password_env` go together; give both or none")
        if self.token_env is not None and self.user_env is not None:
            raise ValueError("give `token_env`, or `user_env` with `password_env`, not both")
        return self


class FolderSettings(Settings):
    """A folder of DICOM files; nothing outside it is read."""

    path: Path


class UploadsSettings(Settings):
    """Series that clients send: one upload, all of them, and how long they stay; they are gone when the server ends."""

    max_mb: int = Field(default=2_000, ge=1, le=100_000)
    total_mb: int = Field(default=8_000, ge=1)
    idle_seconds: float = Field(default=3_600.0, gt=0)


class SourceSettings(Settings):
    """A source: exactly one of the three."""

    dicomweb: DicomwebSettings | None = None
    folder: FolderSettings | None = None
    uploads: UploadsSettings | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(one is not None for one in (self.dicomweb, self.folder, self.uploads)) != 1:
            raise ValueError("a source is exactly one of `dicomweb`, `folder` and `uploads`")
        return self


class Limits(Settings):
    """What one server gives at most; who wants more is refused with the reason."""

    sessions: int = Field(default=64, ge=1)
    sessions_per_owner: int = Field(default=16, ge=1)
    structures: int = Field(default=50, ge=1)
    steps: int = Field(default=10_000, ge=1, le=10_000)
    lease_seconds: float = Field(default=120.0, gt=0)
    volumes_mb: int = Field(default=8_000, ge=1)
    volume_idle_seconds: float = Field(default=300.0, ge=0)
    volumes_per_owner: int = Field(default=32, ge=1)
    embeddings_mb: int = Field(default=1_024, ge=1)
    body_mb: int = Field(default=16, ge=1)
    waiting: int = Field(default=64, ge=1)
    request_seconds: float = Field(default=60.0, gt=0)
    long_seconds: float = Field(default=900.0, gt=0)


class EncodeAheadSettings(Settings):
    """Whether slices are encoded before they are prompted, and how many to each side of the shown one."""

    enabled: bool = True
    neighbours: int = Field(default=8, ge=0, le=1_000)


class ServerSettings(Settings):
    """All of it. ``origins`` are the addresses under which a proxy publishes this server.

    ``preload``: the first model is loaded when the server starts; else every model when it is first used.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8765, ge=0, le=65_535)
    origins: list[Annotated[str, Field(pattern=r"^https?://[^/?#@\s]+$")]] = Field(default_factory=list)
    token_env: Variable | dict[Name, Variable] | None = None
    tls: TlsSettings | None = None
    models: dict[Name, SegmentSettings] = Field(
        default_factory=lambda: {"litemedsam": SegmentSettings(model="litemedsam")}, min_length=1
    )
    sources: dict[Name, SourceSettings] = Field(default_factory=dict)
    limits: Limits = Field(default_factory=Limits)
    encode_ahead: EncodeAheadSettings = Field(default_factory=EncodeAheadSettings)
    preload: bool = True
    viewer: bool = False

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(self.host)

    @property
    def tokens_required(self) -> bool:
        """Whether clients need a bearer token: everywhere but on loopback without a proxy, or where one is named."""
        return self.token_env is not None or not self.loopback or bool(self.origins)


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is that of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
