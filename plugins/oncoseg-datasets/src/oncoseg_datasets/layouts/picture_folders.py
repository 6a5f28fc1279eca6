"""Pictures and mask pictures in folders: BUSI, DDTI, HAM10000, ISIC 2018, both Kvasirs, Montgomery, Shenzhen."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from oncoseg_core import BoolArray, Case, DataError, Split, Volume
from oncoseg_core.imaging import read_volume
from oncoseg_datasets.folders import ANY, files_in, folders_named, one_file_named
from oncoseg_datasets.layouts.base import BadCaseError, LayoutAdapter, made_or_fault, union_of_parts, with_fault
from oncoseg_datasets.layouts.files import FilesByName
from oncoseg_datasets.pictures import union_of_masks
from oncoseg_datasets.tables import read_table

Description: TypeAlias = Callable[[str], tuple[str, str | None]]
"""Gives patient and category by an image's name; raises BadCaseError for an image that it does not know."""


def _nothing_known(_: Path) -> Description:
    """Each image counts as a patient of its own, without a category."""
    return lambda name: (name, None)


@dataclass(frozen=True)
class Part:
    """A folder of images and what belongs to it.

    ``masks`` are the folders that hold its masks, each with the label value of what they mark. ``category`` is that of
    all its images.
    """

    images: str
    masks: Mapping[str, int]
    split: Split | None = None
    category: str | None = None


@dataclass(frozen=True)
class PictureLayout:
    """How a dataset names its folders and files.

    ``image`` is what the names of images look like in full; other files (superpixels, licences) are left alone.
    ``mask_ending`` is what the name of a mask has after its image's, before the suffix. ``signs`` tell datasets of one
    layout apart: names of a file beside, or of the folder around, the folder of images. ``every_image_has_masks`` is
    False where some images are unlabelled in the published set. ``describe`` reads what the folder tells of patients.
    ``any_folder``: names alone tell images and masks, so that they may lie anywhere where the parts' folders are not
    all there (archives without a folder inside, unpacked into one).
    """

    parts: tuple[Part, ...]
    image: str
    mask_ending: str = ""
    signs: tuple[str, ...] = ()
    every_image_has_masks: bool = True
    describe: Callable[[Path], Description] = _nothing_known
    any_folder: bool = False


def _by_last_digit(_: Path) -> Description:
    """NLM names end in 0 for normal and 1 for tuberculosis; one film per patient."""
    return lambda name: (name, "tuberculosis" if name.endswith("1") else "normal")


def _ham10000(root: Path) -> Description:
    """HAM10000 has several photographs of one lesion; the lesion is the closest to a patient that it tells."""
    path = one_file_named(root, "HAM10000_metadata", "HAM10000_metadata.csv", "HAM10000_metadata.tab")
    if path is None:
        raise DataError(f"{root}: lacks HAM10000_metadata(.csv or .tab), which tells the lesion of each image")
    rows = read_table(path, ("lesion_id", "image_id", "dx"))
    known = {row["image_id"]: (row["lesion_id"], row["dx"] or None) for row in rows}

    def describe(name: str) -> tuple[str, str | None]:
        if name not in known:
            raise BadCaseError("wrong-table", f"{path}: has no row for {name}")
        return known[name]

    return describe


LAYOUTS: dict[str, PictureLayout] = {
    "busi": PictureLayout(
        parts=tuple(Part(name, {name: 1}, category=name) for name in ("benign", "malignant", "normal")),
        image=r"(benign|malignant|normal) \(\d+\)\.png",
        mask_ending=r"_mask(_\d+)?",
    ),
    "ddti": PictureLayout(
        parts=(Part("1_or_data/image", {"1_or_data/mask": 1}),),
        image=r"\d+\.png",
    ),
    "ham10000": PictureLayout(
        parts=tuple(
            Part(f"HAM10000_images_part_{number}", {"HAM10000_segmentations_lesion_tschandl": 1}) for number in (1, 2)
        ),
        image=r"ISIC_\d+\.jpg",
        mask_ending="_segmentation",
        describe=_ham10000,
        any_folder=True,
    ),
    "hyper-kvasir": PictureLayout(
        parts=(Part("images", {"masks": 1}),),
        image=r".+\.jpg",
        signs=("segmented-images", "bounding-boxes.json"),
    ),
    "isic-2018": PictureLayout(
        parts=(
            Part("ISIC2018_Task1-2_Training_Input", {"ISIC2018_Task1_Training_GroundTruth": 1}, "train"),
            Part("ISIC2018_Task1-2_Validation_Input", {"ISIC2018_Task1_Validation_GroundTruth": 1}, "validation"),
            Part("ISIC2018_Task1-2_Test_Input", {"ISIC2018_Task1_Test_GroundTruth": 1}, "test"),
        ),
        image=r"ISIC_\d+\.jpg",
        mask_ending="_segmentation",
    ),
    "kvasir-seg": PictureLayout(
        parts=(Part("images", {"masks": 1}),),
        image=r".+\.jpg",
        # The name of the second is spelled so in the archive.
        signs=("Kvasir-SEG", "kavsir_bboxes.json"),
    ),
    "montgomery-cxr": PictureLayout(
        parts=(Part("CXR_png", {"ManualMask/leftMask": 1, "ManualMask/rightMask": 2}),),
        image=r"MCUCXR_\d+_[01]\.png",
        describe=_by_last_digit,
    ),
    "shenzhen-cxr": PictureLayout(
        parts=(Part("CXR_png", {"mask": 1}),),
        image=r"CHNCXR_\d+_[01]\.png",
        mask_ending="_mask",
        every_image_has_masks=False,
        describe=_by_last_digit,
    ),
}
"""The layout of each dataset of this family, by its name."""

_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff")


class _Masks(NamedTuple):
    """Masks by their image's name, sorted; and of an image that has one of them twice, a message."""

    files: dict[str, list[Path]]
    clashes: dict[str, str]


class PictureFolders(LayoutAdapter):
    """A dataset whose images and masks are pictures in folders, described by its entry in ``LAYOUTS``.

    All masks of an image in one folder are joined (BUSI ``_mask``, ``_mask_1``). A mask with nothing marked says that
    there is nothing. An image without a mask is unlabelled where the published set has such images, or where a whole
    folder of masks is missing; elsewhere it is a bad case.
    """

    @property
    def layout(self) -> PictureLayout:
        """How this dataset names its folders and files."""
        return LAYOUTS[self.record.name]

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield one case per image, sorted by part and name. One that is there twice, or lacks its mask, is a bad case.

        Raises:
            DataError: no folder of images is found, or a table is missing.
        """
        root = Path(root)
        parts = self._parts(root)
        found = [(part, images) for part in parts if (images := self._images(root, part))]
        if not found:
            looked_for = ", ".join(part.images for part in self.layout.parts)
            signs = f" (with or in {' or '.join(self.layout.signs)})" if self.layout.signs else ""
            raise self.refusal(root, f"the folders {looked_for}{signs} with images such as {self.layout.image}")
        describe = self.layout.describe(root)
        folders = sorted({entry for part, _ in found for entry in part.masks.items()})
        masks = {entry: self._masks(root, entry[0]) for entry in folders}
        for part, images in found:
            for name in sorted(images):
                yield self._case(name, part, images, masks, describe)

    def _case(
        self,
        name: str,
        part: Part,
        images: FilesByName,
        masks: Mapping[tuple[str, int], _Masks | None],
        describe: Description,
    ) -> Case:
        own = [masks[entry] for entry in part.masks.items()]
        labels = [[] if each is None else each.files.get(name, []) for each in own]

        def make() -> Case:
            published = any(each is not None for each in own)
            if published and not all(labels) and (any(labels) or self.layout.every_image_has_masks):
                lacking = next(folder for folder, paths in zip(part.masks, labels, strict=True) if not paths)
                raise BadCaseError(
                    "missing-label", f"{images[name]}: has no mask in {lacking}; the copy is incomplete, get it again"
                )
            patient, category = describe(name)
            labelled = all(labels)
            return self.case(
                case_id=name,
                patient_id=patient,
                images=(images[name],),
                labels=tuple(path for paths in labels for path in paths) if labelled else (),
                targets=self.record.targets if labelled else (),
                split=part.split,
                category=part.category or category,
            )

        clashes = [images.clashes.get(name), *(each.clashes.get(name) for each in own if each is not None)]
        case = made_or_fault(make, lambda: self.named_case(name, images[name], split=part.split))
        return with_fault(case, "twice", next(filter(None, clashes), None))

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        """Read an image and its masks."""
        volume = read_volume(case.images, case.modality)
        if not case.labels:
            return volume, {}
        parts = {
            value: union_of_masks([path for path in case.labels if self._is_in(path, folder)], volume)
            for part in self.layout.parts
            for folder, value in part.masks.items()
            if any(self._is_in(path, folder) for path in case.labels)
        }
        return volume, union_of_parts(case.targets, parts, np.zeros(volume.geometry.shape, dtype=bool))

    def _parts(self, root: Path) -> tuple[Part, ...]:
        """The parts as they are published; one of all folders where those are not all there and names are enough."""
        parts = self.layout.parts
        if not self.layout.any_folder or all(folders_named(root, part.images) for part in parts):
            return parts
        return (Part(ANY, dict.fromkeys([ANY], next(iter(parts[0].masks.values())))),)

    def _is_in(self, path: Path, folder: str) -> bool:
        inner = Path(folder).parts
        return self.layout.any_folder or path.parent.parts[-len(inner) :] == inner

    def _images(self, root: Path, part: Part) -> FilesByName:
        """The images of a part by their name without suffix."""
        images = FilesByName()
        for folder in filter(self._is_ours, folders_named(root, part.images)):
            for path in files_in(folder):
                if re.fullmatch(self.layout.image, path.name, re.IGNORECASE):
                    images.add(path.stem, path)
        return images

    def _is_ours(self, folder: Path) -> bool:
        signs, around = self.layout.signs, folder.resolve().parent
        return not signs or around.name in signs or any((around / sign).is_file() for sign in signs)

    def _masks(self, root: Path, name: str) -> _Masks | None:
        """The masks in all folders of that name; None if there is no such folder."""
        pattern = re.compile(rf"(?P<image>.+?){self.layout.mask_ending}", re.IGNORECASE)
        masks = _Masks({}, {})
        seen: dict[str, Path] = {}
        folders = [folder for folder in folders_named(root, name) if self._is_ours(folder)]
        for folder in folders:
            for path in files_in(folder, _PICTURES):
                match = pattern.fullmatch(path.stem)
                if match is None:
                    continue
                if path.name in seen:
                    masks.clashes[match["image"]] = f"{seen[path.name]} and {path}: found twice; keep one"
                seen[path.name] = path
                masks.files.setdefault(match["image"], []).append(path)
        return masks if folders else None
