"""Datasets of image files whose annotation is one label image. Light: SimpleITK is loaded when a case is read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from oncoseg_core.contract.errors import DataError
from oncoseg_core.contract.interfaces import DatasetAdapter, S
from oncoseg_core.contract.records import Case

if TYPE_CHECKING:
    from oncoseg_core.contract.volume import BoolArray, Volume


class FileDataset(DatasetAdapter[S]):
    """A dataset in the formats of :mod:`oncoseg_core.imaging.formats`: derive from it and define ``discover``."""

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        """Read a case: its image, and one mask per annotated target from the values of one label image.

        Raises:
            ImageReadError, GeometryError: as for :func:`read_volume` and :func:`read_label`.
            DataError: it has several label files, or other channels than it names.
        """
        return load_case(case)


def load_case(case: Case) -> tuple[Volume, dict[str, BoolArray]]:
    """What :meth:`FileDataset.load` does; raises as it does."""
    from oncoseg_core.imaging.formats import read_label, read_volume, target_mask

    volume = replace(read_volume(case.images, case.modality), channel_names=case.channel_names)
    if not case.labels:
        return volume, {}
    if len(case.labels) > 1:
        raise DataError(
            f"case {case.case_id!r} has {len(case.labels)} label files; expected one label image "
            "(the dataset's adapter has to read them itself)"
        )
    label = read_label(case.labels[0], volume)
    return volume, {target.name: target_mask(label, target) for target in case.targets}
