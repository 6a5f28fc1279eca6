"""How to segment: which model with which adapter, on what, and what becomes of its answers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from oncoseg_core import Fit, Settings
from oncoseg_core.inference import Precision
from oncoseg_core.path import ChannelChoice, ZoomSettings
from oncoseg_segment.engine.overlaps import Overlaps
from oncoseg_segment.engine.propagation import PropagationSettings


class SegmentSettings(Settings):
    """Settings of the engine; the command's options are these, one by one.

    ``adapter``: a LoRA adapter's folder, or the name of a pulled one. ``modality``: what the intensities are, such as
    ``ct``; else what the image's file says, or what its values can only be. ``channels``: which three the model sees of
    an image with more. ``fit``: how a slice fills the model's square; when None as the adapter was trained, or without
    one ``letterbox``. ``zoom``: show the model a window around a small object; the whole slice when None.
    ``propagation``: how structures are followed that ask for it. ``overlaps``: what becomes of voxels that several
    structures claim. ``minimum_score``: structures with a lower score of the model are left out; no limit when None.
    """

    model: str
    model_settings: dict[str, Any] = Field(default_factory=dict)
    adapter: str | None = None
    modality: str | None = None
    channels: ChannelChoice | None = None
    fit: Fit | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Precision = "fp32"
    zoom: ZoomSettings | None = Field(default_factory=ZoomSettings)
    propagation: PropagationSettings = Field(default_factory=PropagationSettings)
    overlaps: Overlaps = "keep"
    minimum_score: float | None = None
