"""What the adapters of one dataset or family share: their record, and cases made from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oncoseg_core import BoolArray, Case, DataError, DatasetSpec, FileDataset, PluginError, Target
from oncoseg_datasets.folders import not_the_dataset


class LayoutAdapter(FileDataset):
    """An adapter that takes name, targets, modality and kind of annotation from its record."""

    @property
    def record(self) -> DatasetSpec:
        """The dataset's record.

        Raises:
            PluginError: the adapter was built without one.
        """
        if self.spec is None:
            raise PluginError(f"{type(self).__name__} is built with spec=, the dataset's record")
        return self.spec

    def case(self, **fields: Any) -> Case:
        """A case of this dataset, of its one modality and its kind of annotation unless ``fields`` say otherwise."""
        record = self.record
        return Case(
            **{"dataset": record.name, "modality": record.modalities[0], "annotation": record.annotation, **fields}
        )

    def refusal(self, root: Path, looked_for: str) -> DataError:
        """The error for a folder that is not this dataset."""
        return not_the_dataset(Path(root), self.record, looked_for)


def union_of_parts(targets: tuple[Target, ...], parts: dict[int, BoolArray], empty: BoolArray) -> dict[str, BoolArray]:
    """One mask per target: where any part whose label value belongs to the target is marked. Parts may overlap.

    Args:
        targets: those annotated.
        parts: mask by label value; a value without a part is not marked anywhere.
        empty: a mask of the image's shape with nothing marked; not modified.
    """
    masks = {}
    for target in targets:
        mask = empty.copy()
        for value in sorted(target.labels & parts.keys()):
            mask |= parts[value]
        masks[target.name] = mask
    return masks
