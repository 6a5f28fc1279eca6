"""Finds the cases of newname in a folder."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from oncoseg_core import Case, DataError, FileDataset, Settings
from oncoseg_core.imaging import PICTURE_SUFFIXES, VOLUME_SUFFIXES
from pydantic import Field

from oncoseg_newname.plugin import SPEC

SUFFIXES = VOLUME_SUFFIXES + PICTURE_SUFFIXES


class NewnameSettings(Settings):
    """``modality``: what the images are. ``test_share``: how many of 1 patient are for testing, chosen by name."""

    modality: str = SPEC.modalities[0]
    test_share: Annotated[float, Field(ge=0, le=1)] = 0.2


class NewnameAdapter(FileDataset[NewnameSettings]):
    """``images/PATIENT_NUMBER.nii.gz`` (or another format) with a label image of the same name in ``labels/``."""

    Settings = NewnameSettings

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield one case per image, sorted by name.

        Raises:
            DataError: there is no image, or an image has no label.
        """
        images = sorted(path for path in (root / "images").glob("[!.]*") if path.name.lower().endswith(SUFFIXES))
        if not images:
            raise DataError(f"{root}: holds no images/PATIENT_NUMBER.nii.gz; expected the folders images and labels")
        for image in images:
            label = root / "labels" / image.name
            if not label.is_file():
                raise DataError(f"{image}: has no label; expected {label}")
            yield self._case(image, label)

    def _case(self, image: Path, label: Path) -> Case:
        name = image.name.removesuffix(".gz").rpartition(".")[0]
        patient = name.partition("_")[0]
        # The same side everywhere and always, whatever other patients there are.
        testing = zlib.crc32(patient.encode()) < self.settings.test_share * 2**32
        return Case(
            dataset=SPEC.name,
            case_id=name,
            patient_id=patient,
            modality=self.settings.modality,
            images=(image,),
            labels=(label,),
            targets=SPEC.targets,
            split="test" if testing else "train",
        )
