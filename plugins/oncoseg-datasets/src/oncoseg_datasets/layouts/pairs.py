"""Images and labels that differ in their names alone, anywhere below the root: LiTS, PROMISE12, BTCV."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from oncoseg_core import Case, DataError
from oncoseg_datasets.layouts.base import with_fault
from oncoseg_datasets.layouts.files import FilesByName, natural, require_folder, walked
from oncoseg_datasets.layouts.label_images import LabelImageAdapter, LabelSettings


class _Names(NamedTuple):
    """``image`` and ``label`` match a whole file name; ``id`` is the case's number, ``case`` makes its id.

    ``test`` finds the official test parts in a path below the root; what it finds as ``part`` begins their cases' ids.
    """

    image: re.Pattern[str]
    label: re.Pattern[str]
    test: re.Pattern[str]
    case: str
    looked_for: str


_NAMES = {
    "lits": _Names(
        image=re.compile(r"(test-)?volume-(?P<id>\d+)\.nii(\.gz)?"),
        label=re.compile(r"segmentation-(?P<id>\d+)\.nii(\.gz)?"),
        test=re.compile(r"(^|/)(?P<part>test)-volume-"),
        case="volume-{}",
        looked_for="volume-0.nii with segmentation-0.nii (Training Batch 1 and 2)",
    ),
    "promise12": _Names(
        image=re.compile(r"Case(?P<id>\d\d)\.mhd"),
        label=re.compile(r"Case(?P<id>\d\d)_segmentation\.mhd", re.IGNORECASE),
        test=re.compile(r"(^|/)(?P<part>test|live)", re.IGNORECASE),  # test_data, livechallenge_test_data
        case="Case{}",
        looked_for="Case00.mhd with Case00_segmentation.mhd",
    ),
    "btcv": _Names(
        image=re.compile(r"img(?P<id>\d{4})\.nii(\.gz)?"),
        label=re.compile(r"label(?P<id>\d{4})\.nii(\.gz)?"),
        test=re.compile(r"(^|/)(?P<part>test)ing/", re.IGNORECASE),
        case="{}",
        looked_for="Training/img/img0001.nii.gz with Training/label/label0001.nii.gz",
    ),
}

_TEST_PARTS = ("test-", "live-")


class PairedFiles(LabelImageAdapter):
    """An image and its label by the number in their names. Images of the test parts have no labels.

    Each case is taken as a patient of its own. Numbers of a test part may occur in training too, so its cases are
    called ``test-…`` (of PROMISE12's live challenge ``live-…``).
    """

    Settings = LabelSettings

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield training cases, then test cases, in natural order.

        A number that is there twice, or a label without its image, is a bad case.

        Raises:
            DataError: there is no image.
        """
        names = _NAMES[self.record.name]
        root = require_folder(root, f"the unpacked archives of {self.record.name} ({self.record.url})")
        images, labels = FilesByName(), FilesByName()
        for path in walked(root):
            for pattern, found in ((names.label, labels), (names.image, images)):
                match = pattern.fullmatch(path.name)
                if match is not None:
                    test = names.test.search(path.relative_to(root).as_posix())
                    part = "" if test is None else f"{test['part'].lower()}-"
                    found.add(part + names.case.format(match["id"]), path)
        if not images:
            raise DataError(f"{root}: holds no {names.looked_for}; expected the unpacked archives ({self.record.url})")
        for name in sorted(
            images.keys() | labels.keys(), key=lambda name: (name.startswith(_TEST_PARTS), natural(name))
        ):
            label = labels.get(name)
            case = self.case(
                case_id=name,
                patient_id=name,
                images=(images.get(name) or labels[name],),
                labels=() if label is None else (label,),
                targets=() if label is None else self.record.targets,
                split="test" if name.startswith(_TEST_PARTS) else None,
            )
            if name not in images:
                case = with_fault(
                    case, "missing-image", f"{label}: a label without its image; expected {names.looked_for}"
                )
            yield with_fault(case, "twice", images.clashes.get(name) or labels.clashes.get(name))
