"""The Medical Segmentation Decathlon: ten tasks of one layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from oncoseg_core import Case, DataError
from oncoseg_datasets.layouts.base import with_fault
from oncoseg_datasets.layouts.files import by_stem, folder_that_holds, natural
from oncoseg_datasets.layouts.label_images import LabelImageAdapter


class _Task(NamedTuple):
    """The folder of the task's archive, how its ids begin, and its channels where an image has several."""

    folder: str
    prefix: str
    channels: tuple[str, ...] = ()


_TASKS = {
    "msd-brain-tumour": _Task("Task01_BrainTumour", "BRATS_", ("flair", "t1w", "t1gd", "t2w")),
    "msd-heart": _Task("Task02_Heart", "la_"),
    "msd-liver": _Task("Task03_Liver", "liver_"),
    "msd-hippocampus": _Task("Task04_Hippocampus", "hippocampus_"),
    "msd-prostate": _Task("Task05_Prostate", "prostate_", ("t2", "adc")),
    "msd-lung": _Task("Task06_Lung", "lung_"),
    "msd-pancreas": _Task("Task07_Pancreas", "pancreas_"),
    "msd-hepatic-vessel": _Task("Task08_HepaticVessel", "hepaticvessel_"),
    "msd-spleen": _Task("Task09_Spleen", "spleen_"),
    "msd-colon": _Task("Task10_Colon", "colon_"),
}
"""Folders, names and channel orders as the archives and their dataset.json have them."""


class MSDTask(LabelImageAdapter):
    """``imagesTr/ID.nii.gz`` with ``labelsTr/ID.nii.gz``; ``imagesTs`` has no labels and is the official test part.

    Several channels lie along the file's fourth axis. No patient ids were published: each case is taken as a patient.
    """

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield training cases, then test cases, in natural order, from the task's folder or the one above it.

        Raises:
            DataError: there is no ``imagesTr`` with an image in it, or it is another task's.
        """
        record, task = self.record, _TASKS[self.record.name]
        what = f"the unpacked archive {task.folder}.tar ({record.url})"
        folder = folder_that_holds(root, "imagesTr", (task.folder,), what)
        images, labels, tests = (by_stem(folder / name) for name in ("imagesTr", "labelsTr", "imagesTs"))
        if not images:
            raise DataError(f"{folder}: imagesTr holds no .nii.gz; expected {what}")
        strange = {
            name: f"{path}: is not of {record.name}, whose ids begin with {task.prefix}"
            for name, path in images.items()
            if not name.startswith(task.prefix)
        }
        if len(strange) == len(images):
            raise DataError(next(iter(strange.values())))
        for name in sorted(images.keys() | labels.keys(), key=natural):
            # A label without an image stays a case: reading it says which file is missing.
            image = images.get(name, folder / "imagesTr" / f"{name}.nii.gz")
            clash = images.clashes.get(name) or labels.clashes.get(name)
            case = with_fault(self._case(name, image, labels.get(name)), "unclear", strange.get(name))
            yield with_fault(case, "twice", clash)
        for name, image in tests.items():
            yield with_fault(self._case(name, image, None, test=True), "twice", tests.clashes.get(name))

    def channels_are_the_last_axis(self) -> bool:
        """True for the tasks with several channels."""
        return bool(_TASKS[self.record.name].channels)

    def _case(self, name: str, image: Path, label: Path | None, *, test: bool = False) -> Case:
        return Case(
            dataset=self.record.name,
            case_id=name,
            patient_id=name,
            modality=self.record.modalities[0],
            images=(image,),
            channel_names=_TASKS[self.record.name].channels,
            labels=() if label is None else (label,),
            targets=() if label is None else self.record.targets,
            split="test" if test else None,
        )
