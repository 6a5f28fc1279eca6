"""Dataset adapters that each break one rule; :class:`Folder` breaks none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from oncoseg_core import BoolArray, Case, DataError, DatasetSpec, Fault, FileDataset, Target, Volume
from oncoseg_testing.broken.examples import BrokenExamples
from oncoseg_testing.checks.datasets import check_dataset

SPEC = DatasetSpec(
    name="tiny",
    factory="oncoseg_testing.broken.datasets:Folder",
    summary="Three cases of two patients",
    modalities=("ct",),
    targets=(Target(name="tumour", labels=frozenset({1, 2})),),
    licence="CC0-1.0",
    url="https://example.org/tiny",
    citation="none",
)


def write_tiny_dataset(root: Path) -> None:
    """Three synthetic cases of two patients; the label of the second patient lies on a grid of its own."""
    for name, spacing in (("p1a", 1.0), ("p1b", 1.0), ("p2", 2.0)):
        image = sitk.Image(4, 4, 4, sitk.sitkInt16)
        image.SetSpacing((spacing,) * 3)
        sitk.WriteImage(image, root / f"{name}.nii")
        sitk.WriteImage(sitk.Cast(image, sitk.sitkUInt8), root / f"{name}-label.nii")


def check(broken: type[FileDataset]) -> None:
    """Check a class on a small folder that goes."""
    with tempfile.TemporaryDirectory() as folder:
        write_tiny_dataset(Path(folder))
        check_dataset(broken(spec=SPEC), Path(folder), SPEC)


EXAMPLES = BrokenExamples("dataset", check)


class Folder(FileDataset):
    def case(self, name: str, path: Path) -> Case:
        return Case(
            dataset="tiny",
            case_id=name,
            patient_id=name[:2],
            modality="ct",
            images=(path,),
            labels=(path.with_name(f"{name}-label.nii"),),
            targets=SPEC.targets,
            split="train" if name < "p2" else "test",
        )

    def discover(self, root: Path) -> Iterator[Case]:
        found = sorted(path for path in root.glob("*.nii") if "-" not in path.name)
        if not found:
            raise DataError(f"{root}: no *.nii")
        for path in found:
            yield self.case(path.stem, path)


@EXAMPLES.breaks("in the same order")
class Unsorted(Folder):
    turn = 0

    def discover(self, root: Path) -> Iterator[Case]:
        self.turn += 1
        return iter(list(super().discover(root))[:: (-1) ** self.turn])


@EXAMPLES.breaks("sort what you list")
class AsListed(Folder):
    def discover(self, root: Path) -> Iterator[Case]:
        return iter(
            sorted(
                super().discover(root),
                key=lambda case: [path.name for path in root.iterdir()].index(f"{case.case_id}.nii"),
            )
        )


@EXAMPLES.breaks("sort what you list")
class AsGlobbed(Folder):
    def discover(self, root: Path) -> Iterator[Case]:
        return iter(
            sorted(
                super().discover(root), key=lambda case: [path.stem for path in root.glob("*.nii")].index(case.case_id)
            )
        )


@EXAMPLES.breaks("sort what you list")
class AsWalked(Folder):
    def discover(self, root: Path) -> Iterator[Case]:
        names = [name for _, _, files in os.walk(root) for name in files]
        return iter(sorted(super().discover(root), key=lambda case: names.index(f"{case.case_id}.nii")))


@EXAMPLES.breaks("a bad case has no labels")
class BadWithLabels(Folder):
    def case(self, name: str, path: Path) -> Case:
        fault = Fault(kind="unreadable", message=f"{path}: damaged") if name == "p1b" else None
        return super().case(name, path).model_copy(update={"fault": fault})


@EXAMPLES.breaks("not every case is a bad one")
class AllBad(Folder):
    def case(self, name: str, path: Path) -> Case:
        fault = Fault(kind="unreadable", message=f"{path}: damaged")
        return super().case(name, path).model_copy(update={"fault": fault, "labels": (), "targets": ()})


@EXAMPLES.breaks("an id of its own")
class SameId(Folder):
    def case(self, name: str, path: Path) -> Case:
        return super().case(name, path).model_copy(update={"case_id": name[:2]})


@EXAMPLES.breaks("a patient's cases are all in one split")
class TornPatient(Folder):
    def case(self, name: str, path: Path) -> Case:
        return super().case(name, path).model_copy(update={"split": "train" if name.endswith("a") else "test"})


@EXAMPLES.breaks("targets are those of the record")
class OtherTarget(Folder):
    def case(self, name: str, path: Path) -> Case:
        return super().case(name, path).model_copy(update={"targets": (Target(name="liver", labels={1}),)})


@EXAMPLES.breaks("targets are those of the record")
class OtherLabel(Folder):
    def case(self, name: str, path: Path) -> Case:
        return super().case(name, path).model_copy(update={"targets": (Target(name="tumour", labels={3}),)})


@EXAMPLES.breaks("one of the modalities in the record")
class OtherModality(Folder):
    def case(self, name: str, path: Path) -> Case:
        return super().case(name, path).model_copy(update={"modality": "mri"})


@EXAMPLES.breaks("a case is of the dataset")
class OtherDataset(Folder):
    def case(self, name: str, path: Path) -> Case:
        return super().case(name, path).model_copy(update={"dataset": "small"})


@EXAMPLES.breaks("the files of a case exist")
class NoFile(Folder):
    def case(self, name: str, path: Path) -> Case:
        return super().case(name, path).model_copy(update={"labels": (path.with_name("absent.nii"),)})


@EXAMPLES.breaks("lie on one grid")
class OtherGrid(Folder):
    def case(self, name: str, path: Path) -> Case:
        return super().case(name, path).model_copy(update={"labels": (path.with_name("p2-label.nii"),)})


@EXAMPLES.breaks("discover finds the cases")
class NothingThere(Folder):
    def discover(self, root: Path) -> Iterator[Case]:
        return iter(())


@EXAMPLES.breaks("discover finds the cases")
class NotACase(Folder):
    def discover(self, root: Path) -> Iterator[Case]:
        return iter(sorted(root.glob("*.nii")))  # type: ignore[arg-type]


@EXAMPLES.breaks("refused with DataError")
class SilentlyEmpty(Folder):
    def discover(self, root: Path) -> Iterator[Case]:
        return super().discover(root) if list(root.glob("*.nii")) else iter(())


@EXAMPLES.breaks("of the case's modality")
class LoadsAnotherModality(Folder):
    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        volume, masks = super().load(case)
        return replace(volume, modality="mri"), masks


@EXAMPLES.breaks("one bool mask (z, y, x) for each of its targets")
class LoadsTheLabelItself(Folder):
    def load(self, case: Case) -> tuple[Volume, dict[str, Any]]:
        volume, masks = super().load(case)
        return volume, {name: mask.astype(np.uint8) for name, mask in masks.items()}


@EXAMPLES.breaks("for each of its targets, and no other")
class LoadsMore(Folder):
    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        volume, masks = super().load(case)
        return volume, {**masks, "liver": masks["tumour"]}


@EXAMPLES.breaks("the values of the image are real numbers")
class LoadsComplex(Folder):
    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        volume, masks = super().load(case)
        return replace(volume, voxels=volume.voxels.astype(np.complex64)), masks


@EXAMPLES.breaks("load needs nothing but the case")
class LoadsWhatItDiscovered(Folder):
    def discover(self, root: Path) -> Iterator[Case]:
        self.root = root
        return super().discover(root)

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        return super().load(case.model_copy(update={"images": (self.root / case.images[0].name,)}))


@EXAMPLES.breaks("nothing about it comes from hash()")
class SplitByHash(Folder):
    def case(self, name: str, path: Path) -> Case:
        split = "train" if hash(name[:2]) % 2 else "test"
        return super().case(name, path).model_copy(update={"split": split})


@EXAMPLES.breaks("two patients do not have one and the same annotation")
class OneLabelForAll(Folder):
    def case(self, name: str, path: Path) -> Case:
        return super().case(name, path).model_copy(update={"labels": (path.with_name("p1a-label.nii"),)})

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        volume, _ = super().load(case.model_copy(update={"labels": ()}))
        mask = np.zeros(volume.geometry.shape, dtype=bool)
        mask[0, 0, 0] = case.labels[0].name.startswith("p1a")
        return volume, {"tumour": mask}
