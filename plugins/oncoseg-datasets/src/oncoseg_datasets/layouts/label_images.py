"""Cases whose annotation is one label image of known values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from oncoseg_core import BoolArray, Case, DataError, GeometryError, Settings, Volume
from oncoseg_core.imaging import read_label, read_volume, target_mask
from oncoseg_datasets.layouts.base import LayoutAdapter


class LabelSettings(Settings):
    """``trust_image_grid``: a label has its image's grid whatever its own header says, if it has as many voxels along
    each axis. For published data with broken label headers: look at a few cases, because nothing else says that image
    and label belong together, or that no axis is turned.
    """

    trust_image_grid: bool = False


class LabelImageAdapter(LayoutAdapter):
    """Reads image and label image, and refuses a label that holds a value the dataset does not have."""

    def known_values(self, case: Case) -> frozenset[int]:  # noqa: ARG002
        """The values that a case's label may hold besides 0. Default: those of the record's targets."""
        return frozenset().union(*(target.labels for target in self.record.targets))

    def why_unknown(self) -> str:
        """What to add to the message about a value that is not known. Default: nothing."""
        return ""

    def channels_are_the_last_axis(self) -> bool:
        """Whether a NIfTI file's fourth axis holds the channels. Default: it has none."""
        return False

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        """Read the image and one mask per target of the case.

        Raises:
            ImageReadError, GeometryError: as for :func:`oncoseg_core.imaging.formats.read_volume` and ``read_label``.
            DataError: the label holds a value that the dataset does not have.
        """
        volume = read_volume(case.images, case.modality, channels_last_axis=self.channels_are_the_last_axis())
        volume = replace(volume, channel_names=case.channel_names)
        if not case.labels:
            return volume, {}
        volume, label = _read_label(case.labels[0], volume, getattr(self.settings, "trust_image_grid", None))
        require_known_values(label, self.known_values(case), case.labels[0], self.why_unknown())
        return volume, {target.name: target_mask(label, target) for target in case.targets}


def _read_label(path: Path, image: Volume, trusted: bool | None) -> tuple[Volume, npt.NDArray[np.generic]]:
    """The label, and the image with a note where the label was given the image's grid on request.

    Args:
        path: the label's file.
        image: its image.
        trusted: whether that was requested; None where it cannot be.

    Raises:
        ImageReadError, GeometryError: as for :func:`oncoseg_core.imaging.formats.read_label`.
    """
    try:
        return image, read_label(path, image)
    except GeometryError as error:
        label = read_label(path, image, any_place=True)  # refuses other shapes
        if not trusted:
            hint = "" if trusted is None else "; if only the label's header is wrong, set `trust_image_grid`: true"
            raise GeometryError(f"{error}{hint}") from error
    note = f"{path.name}: its header says another grid; it was given its image's (`trust_image_grid`)"
    return replace(image, notes=(*image.notes, note)), label


def require_known_values(label: npt.NDArray[np.generic], known: frozenset[int], path: Path, why: str = "") -> None:
    """Refuse a label ``(z, y, x)`` with other values than 0 and the known ones.

    Args:
        label: whole numbers.
        known: the values that may occur.
        path: the label's file, for the message.
        why: what to add to the message.

    Raises:
        DataError: there are others; the message says which and in how many voxels.
    """
    expected = sorted(known | {0})
    strange: set[int] = set()
    voxels = 0
    for plane in label:  # by plane: a mask of the whole label would need as much memory as the label itself
        other = np.isin(plane, expected, invert=True)
        if other.any():
            voxels += int(np.count_nonzero(other))
            strange.update(int(value) for value in np.unique(plane[other]))
    if strange:
        found = ", ".join(map(str, sorted(strange)[:10])) + (", …" if len(strange) > 10 else "")
        raise DataError(
            f"{path}: holds the value {found} in {voxels} voxels; expected only {', '.join(map(str, expected))}"
            + (f": {why}" if why else "")
        )
