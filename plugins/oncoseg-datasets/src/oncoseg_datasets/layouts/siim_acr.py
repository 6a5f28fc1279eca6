"""SIIM-ACR pneumothorax challenge: DICOM films and run lengths in a CSV file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from oncoseg_core import BoolArray, Case, DataError, Volume
from oncoseg_datasets.dicom_images import read_film
from oncoseg_datasets.folders import folders_named, is_leftover, one_file_named
from oncoseg_datasets.layouts.base import BadCaseError, LayoutAdapter, made_or_fault, with_fault
from oncoseg_datasets.layouts.files import FilesByName
from oncoseg_datasets.run_lengths import EMPTY, decode_relative
from oncoseg_datasets.tables import rows_by
from oncoseg_dicom import read_header

_FOLDERS = ("dicom-images-train", "dicom-images-test", "stage_2_images")
_TABLES = ("train-rle.csv", "stage_2_train.csv")
_ID, _CODE = "ImageId", "EncodedPixels"


class SiimAcr(LayoutAdapter):
    """``dicom-images-train/<study>/<series>/<SOPInstanceUID>.dcm`` with ``train-rle.csv`` (or ``stage_2_train.csv``).

    An image can have several rows, whose runs are joined; the code -1 says that nothing was found. An image without a
    row is of a test set whose labels were not published: it is unlabelled.
    """

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield one case per image, sorted by its id. Reads the patient's pseudonym from each file's header.

        An image that is there twice, -1 beside runs, or a header that cannot be read make a bad case.

        Raises:
            DataError: images or table are missing.
        """
        root = Path(root)
        images = FilesByName()
        for folder in (found for name in _FOLDERS for found in folders_named(root, name)):
            for path in sorted(folder.rglob("*.dcm")):
                if not is_leftover(path.name):
                    images.add(path.stem, path)
        table = one_file_named(root, *_TABLES)
        if not images or table is None:
            raise self.refusal(root, f"{' or '.join(_TABLES)} and .dcm files below {', '.join(_FOLDERS)}")
        rows = rows_by(table, _ID, (_CODE,))
        if not rows.keys() & images.keys():
            raise DataError(f"{table}: is of none of the {len(images)} images; it belongs to another stage")
        for name, path in sorted(images.items()):
            codes = [row[_CODE] for row in rows.get(name, ())]
            case = made_or_fault(partial(self._case, name, path, table, codes), partial(self.named_case, name, path))
            yield with_fault(case, "twice", images.clashes.get(name))

    def _case(self, name: str, path: Path, table: Path, codes: list[str]) -> Case:
        if EMPTY in codes and set(codes) != {EMPTY}:
            raise BadCaseError("wrong-table", f"{table}: has both {EMPTY} (nothing) and runs for {name}")
        return self.case(
            case_id=name,
            patient_id=str(read_header(path, ["PatientID"]).get("PatientID") or name),
            images=(path,),
            labels=(table,) if codes else (),
            targets=self.record.targets if codes else (),
            category=None if not codes else "negative" if EMPTY in codes else "positive",
        )

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        """Read a film and decode its runs."""
        volume = read_film(case.images[0], case.modality)
        if not case.labels:
            return volume, {}
        height, width = volume.geometry.shape[1:]
        mask = np.zeros(volume.geometry.shape, dtype=bool)
        for row in rows_by(case.labels[0], _ID, (_CODE,))[case.case_id]:
            mask[0] |= decode_relative(row[_CODE], height, width, f"{case.labels[0]}: {case.case_id}")
        return volume, {target.name: mask for target in case.targets}
