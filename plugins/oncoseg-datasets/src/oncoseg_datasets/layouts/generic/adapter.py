"""One's own data, described by settings instead of a record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from oncoseg_core import BoolArray, Case, Volume
from oncoseg_core.imaging import read_volume, target_mask
from oncoseg_datasets.layouts.files import require_folder
from oncoseg_datasets.layouts.generic.dicom import dicom_cases
from oncoseg_datasets.layouts.generic.folders import folder_cases
from oncoseg_datasets.layouts.generic.manifest import manifest_cases
from oncoseg_datasets.layouts.generic.nnunet import nnunet_cases, nnunet_values
from oncoseg_datasets.layouts.generic.settings import GenericSettings
from oncoseg_datasets.layouts.generic.structures import needs_reader, read_by_plugins
from oncoseg_datasets.layouts.label_images import LabelImageAdapter, require_known_values
from oncoseg_datasets.pictures import label_of_colours


class Generic(LabelImageAdapter):
    """Cases as :class:`GenericSettings` say. One without a label is not annotated, which is not the same as empty."""

    Settings = GenericSettings

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield the cases in natural order; those of a manifest in its own.

        Raises:
            DataError: the folder does not hold the layout.
            MissingDependencyError: the plugin that reads the layout is not installed.
        """
        root = require_folder(root, "the folder of your data")
        settings: GenericSettings = self.settings
        read = {
            "nnunet": nnunet_cases,
            "folders": folder_cases,
            "manifest": manifest_cases,
            "dicom": dicom_cases,
        }[settings.layout]
        found = [case.model_copy(update={"dataset": self.record.name}) for case in read(root, settings)]
        return iter(found)

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        """Read a case, through the readers of other plugins where the core does not read its files.

        Raises:
            ImageReadError, GeometryError, DataError: as for :class:`LabelImageAdapter`, or as the reader raises them.
            MissingDependencyError: the plugin that reads the files is not installed.
        """
        settings: GenericSettings = self.settings
        if needs_reader(case, settings):
            return read_by_plugins(case, settings)
        if settings.colours and case.labels:
            volume = replace(read_volume(case.images, case.modality), channel_names=case.channel_names)
            label = label_of_colours(case.labels[0], volume, settings.colours)
            require_known_values(label, self.known_values(case), case.labels[0])
            return volume, {target.name: target_mask(label, target) for target in case.targets}
        return super().load(case)

    def known_values(self, case: Case) -> frozenset[int]:
        """The values of all targets and those that the settings say belong to none."""
        settings: GenericSettings = self.settings
        if settings.layout == "nnunet":
            return nnunet_values(case.labels[0].parent.parent, settings)
        return settings.ignored.union(*settings.targets.values())

    def channels_are_the_last_axis(self) -> bool:
        """True where several channels are named: a file with a fourth axis then holds them there."""
        return len(self.settings.channel_names) > 1
