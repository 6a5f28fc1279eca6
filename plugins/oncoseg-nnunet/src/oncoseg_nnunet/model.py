"""A trained nnU-Net folder as an automatic model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from oncoseg_core import (
    AutomaticModel,
    AutomaticResult,
    BoolArray,
    DataError,
    Geometry,
    Licence,
    Progress,
    Settings,
    UsageError,
    Volume,
    close_matches,
)
from oncoseg_core.inference import choose_device
from oncoseg_nnunet.folder import channel_names, open_folder
from oncoseg_nnunet.names import structures_of
from oncoseg_nnunet.network import build_predictor, is_trainer_of_nnunet
from oncoseg_nnunet.plugin import NNUNET
from oncoseg_nnunet.prediction import Labels, Prediction, predict

Float64 = npt.NDArray[np.float64]

RAS = Geometry.from_parts((1, 1, 1), direction=((-1, 0, 0), (0, -1, 0), (0, 0, 1)))
"""Axes as NIfTI has them: x to the right, y to the front, z to the head."""

MODALITIES = {
    "ct": ("ct",),
    "mri": ("mr", "mri", "t1", "t1c", "t1ce", "t1gd", "t1n", "t2", "t2f", "t2w", "flair", "adc", "dwi"),
    "pet": ("pet", "pt", "suv"),
}
"""Our modalities by what nnU-Net's channels are called."""


class NnunetSettings(Settings):
    """Which model, and how it runs.

    ``folder``: of a trained model (``Trainer__Plans__configuration``), or one that holds exactly one. ``folds``:
    numbers, or ``all``; by default all numbered ones, whose logits are averaged. ``checkpoint``: the file of a fold.
    ``names``: structures by label, or the built-in ``totalsegmentator``; by default the labels' own names.
    ``trust``: run what checkpoints and plans bring as code. ``mirroring``: average over mirrored images as well, along
    the axes that the training mirrored. ``step_size``: of the sliding window, as a share of its size. ``turn``: how the
    image is turned first: as the reader of the plans turns it (``as-trained``), or to ``ras`` as TotalSegmentator does.
    """

    folder: Path
    folds: tuple[int | Literal["all"], ...] = ()
    checkpoint: str = Field("checkpoint_final.pth", pattern=r"^[\w.-]+$")
    names: str | dict[str, str] = Field(default_factory=dict)
    trust: bool = False
    mirroring: bool = True
    step_size: float = Field(0.5, gt=0, le=1)
    turn: Literal["as-trained", "ras"] = "as-trained"
    device: str = "auto"


class NnunetModel(AutomaticModel[NnunetSettings]):
    """Any trained nnU-Net v2 folder that is no cascade; its label image equals that of ``nnUNetv2_predict``.

    Raises:
        UsageError: the settings do not fit the folder, or it needs code that is not trusted.
        WeightsError: the folder is incomplete, damaged, or its weights are of another network.
    """

    Settings = NnunetSettings
    spec = NNUNET

    def __init__(self, settings: NnunetSettings | None = None) -> None:
        if settings is None:
            raise UsageError("`folder`: expected the folder of a trained nnU-Net v2 model")
        super().__init__(settings)
        folder = open_folder(settings.folder, settings.folds, settings.checkpoint)
        self.weights_sha256 = folder.sha256
        self._labels = structures_of(folder.dataset, settings.names)
        self._channels = channel_names(folder.dataset)
        self._predictor: Any = build_predictor(
            folder, trust=settings.trust, mirroring=settings.mirroring, step_size=settings.step_size,
            device=choose_device(settings.device),
        )  # fmt: skip
        self._turns = settings.turn == "ras" or folder.plans.get("image_reader_writer") == "NibabelIOWithReorient"
        self._notes = _trainer_notes(str(self._predictor.trainer_name))
        self.spec = NNUNET.model_copy(
            update={
                "structures": tuple(self._labels),
                "modalities": _modalities(self._channels),
                "spacing": _spacing(self._predictor),
                "weights": f"{folder.path.name}, folds {', '.join(folder.folds)}",
                "licence": _licence(folder.dataset),
            }
        )

    def segment(self, volume: Volume, structures: Sequence[str], progress: Progress) -> AutomaticResult:
        """See :meth:`AutomaticModel.segment`. The masks are made from one label image, each when it is asked for."""
        for name in structures:
            if name not in self._labels:
                raise UsageError(f"the model has no structure {name!r}{close_matches(name, self._labels)}")
        self._require_image(volume)
        grid, voxels = volume.geometry.along(RAS, volume.voxels) if self._turns else (volume.geometry, volume.voxels)
        # NIfTI keeps spacings in 32 bits, and that is what nnU-Net would be given
        z, y, x = (float(np.float32(side)) for side in grid.spacing)
        found = predict(
            self._predictor, voxels.astype(np.float32), (z, y, x), lambda done, total: progress("nnunet", done, total)
        )
        _, labels = grid.along(volume.geometry, found.labels) if self._turns else (grid, found.labels)
        return AutomaticResult(
            LabelMasks(labels, {name: self._labels[name] for name in structures}),
            self._confidences(found, structures),
            "mean probability that the network gives the structure inside its mask, over the folds' mean logits",
            (*self._notes, *_geometry_notes(volume.geometry, turned=self._turns)),
        )

    def _require_image(self, volume: Volume) -> None:
        expected = ", ".join(self._channels)
        if volume.voxels.shape[0] != len(self._channels):
            raise DataError(
                f"{volume.name}: has {volume.voxels.shape[0]} channels, the nnU-Net model expects "
                f"{len(self._channels)}: {expected}"
            )
        given = [name.casefold() for name in volume.channel_names]
        if len(given) > 1 and given != [name.casefold() for name in self._channels]:
            raise DataError(
                f"{volume.name}: has the channels {', '.join(volume.channel_names)}, the nnU-Net model expects "
                f"{expected}, in this order"
            )
        if volume.geometry.slice_origins is not None:
            raise DataError(f"{volume.name}: its slices are not evenly spaced, which nnU-Net cannot work on")
        if not volume.physical:
            raise DataError(f"{volume.name}: has no size in mm, which nnU-Net needs")

    def _confidences(self, found: Prediction, structures: Sequence[str]) -> dict[str, float]:
        """By structure; of a model of regions its own head's, else the label's."""
        if self._predictor.label_manager.has_regions:
            heads = {name: head for head, name in enumerate(self._labels)}
        else:
            heads = {name: values[0] for name, values in self._labels.items()}
        return {name: found.confidences[heads[name]] for name in structures if heads[name] in found.confidences}


class LabelMasks(Mapping[str, BoolArray]):
    """The masks bool ``(z, y, x)`` of a label image; none is kept."""

    def __init__(self, labels: Labels, values: Mapping[str, tuple[int, ...]]) -> None:
        self._labels, self._values = labels, dict(values)

    def __getitem__(self, name: str) -> BoolArray:
        values = self._values[name]
        return self._labels == values[0] if len(values) == 1 else np.isin(self._labels, values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _modalities(channels: Sequence[str]) -> tuple[str, ...]:
    """Our names of them; none where a channel is called otherwise, since any image may then be meant."""
    of = {word: modality for modality, words in MODALITIES.items() for word in words}
    names = [of.get(channel.casefold()) for channel in channels]
    return () if None in names else tuple(dict.fromkeys(name for name in names if name))


def _spacing(predictor: Any) -> tuple[float, float, float] | None:
    """In mm along the image's own axes ``(z, y, x)``; None of a model of slices."""
    spacing = predictor.configuration_manager.spacing
    if len(spacing) != 3:
        return None
    z, y, x = (float(spacing[axis]) for axis in predictor.plans_manager.transpose_backward)
    return (z, y, x)


def _licence(dataset: Mapping[str, Any]) -> Licence | None:
    text = next((dataset[key] for key in ("licence", "license") if isinstance(dataset.get(key), str)), "").strip()
    return Licence(code="Apache-2.0 (nnU-Net)", weights=text) if text else None


def _trainer_notes(trainer: str) -> tuple[str, ...]:
    if is_trainer_of_nnunet(trainer):
        return ()
    return (f"trainer {trainer} is none of nnU-Net's own: the network is the one of its plans, and its weights fit",)


def _geometry_notes(geometry: Geometry, *, turned: bool) -> tuple[str, ...]:
    """What the image's grid means for it: nnU-Net knows no directions, only axes."""
    reason = geometry.irregularity
    tilt = () if reason is None else (f"nnU-Net takes no notice of it: {reason}",)
    if turned:
        return tilt
    towards = (_towards(axis) for axis in geometry.direction.T)
    return (
        *tilt,
        f"nnU-Net saw x, y, z as stored, to {', '.join(towards)}: right for a model that was trained on such",
    )


def _towards(axis: Float64) -> str:
    """The side of the patient to which an axis in LPS runs."""
    along = int(np.abs(axis).argmax())
    return (("left", "right"), ("back", "front"), ("head", "feet"))[along][int(axis[along] < 0)]
