"""Images and segmentations in memory, always with their geometry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from oncoseg_core.contract.errors import DataError, GeometryError
from oncoseg_core.contract.geometry import Geometry
from oncoseg_core.contract.records import Header

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Volume:
    """An image: ``voxels`` ``(channel, z, y, x)`` of any real dtype, C-contiguous; a 2-D image has z = 1.

    ``physical`` is False where the file tells no size in millimetres (PNG, JPEG, TIFF); spacing then reads 1.
    ``channel_names`` say what the channels are, where that is known. ``headers`` are what the files tell of values that
    are still as stored: one for all channels, or one per channel; none once the values are calibrated. ``notes`` are
    what a reader found worth telling of the image (missing slices, a tilted gantry), without a word about the patient.
    ``handle`` is what the reader keeps of what it parsed, for the exporters and readers of its own format, so that they
    need not parse the files again; nothing else looks into it, and it may be missing.
    """

    voxels: npt.NDArray[np.generic]
    geometry: Geometry
    modality: str
    source: Path | None = None
    physical: bool = True
    channel_names: tuple[str, ...] = ()
    headers: tuple[Header, ...] = ()
    notes: tuple[str, ...] = ()
    handle: object | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.voxels.ndim != 4 or self.voxels.shape[1:] != self.geometry.shape:
            raise GeometryError(
                f"voxels are (channel, z, y, x) on a grid of {self.geometry.shape}, found shape {self.voxels.shape}"
            )
        channels = self.voxels.shape[0]
        if len(self.channel_names) not in (0, channels):
            raise DataError(
                f"{self.name}: has {channels} channels, but {len(self.channel_names)} channel names "
                f"({', '.join(self.channel_names)})"
            )
        if len(self.headers) not in (0, 1, channels):
            raise DataError(f"{self.name}: has {channels} channels, but {len(self.headers)} headers")

    @property
    def name(self) -> str:
        """The file's name for messages; ``the image`` for one that never was a file."""
        return str(self.source) if self.source is not None else "the image"


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Masks bool ``(z, y, x)`` by target name, on one geometry, with the model's own score for each.

    ``provenance`` says what made it (model, weights, prompts, versions), for whoever writes it to a file.
    ``image_handle`` is the :attr:`Volume.handle` of the image that was segmented, where there is one. ``details`` are
    what a structure's file said of it (colour, who drew it), by name, in the words of that format's exporters.
    """

    masks: Mapping[str, BoolArray]
    geometry: Geometry
    scores: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    image_handle: object | None = field(default=None, repr=False)
    details: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, mask in self.masks.items():
            if mask.shape != self.geometry.shape or mask.dtype != bool:
                raise GeometryError(
                    f"mask {name!r} is {mask.dtype} of shape {mask.shape}, expected bool {self.geometry.shape}"
                )
