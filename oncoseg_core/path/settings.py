"""What can be set of the path that an image takes into a model. Light: no torch."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from oncoseg_core.contract.geometry import Fit
from oncoseg_core.contract.interfaces import Settings
from oncoseg_core.path.channels import ChannelChoice

MIXED = "+"
"""Joins the modalities of an image whose channels differ: ``ct+pet``."""


class PathSettings(Settings):
    """``normalizers``: settings by modality. ``channels``: which three are taken. ``fit``: into the model's square."""

    normalizers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    channels: ChannelChoice | None = None
    fit: Fit = "letterbox"


def parts_of(modality: str) -> list[str]:
    """The modalities of an image's channels: one for all, or ``ct+pet`` one for each."""
    return modality.split(MIXED)
