"""KiTS23."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from oncoseg_core import Case, DataError
from oncoseg_datasets.layouts.files import either, listed, require_folder
from oncoseg_datasets.layouts.label_images import LabelImageAdapter

_FOLDERS = ("dataset", "kits23/dataset", "")
"""Where the cases lie below what the user points at: the repository, the folder above it, or the cases' own folder."""


class KiTS23(LabelImageAdapter):
    """``case_00000/imaging.nii.gz`` with ``segmentation.nii.gz``; ``kits23.json`` says malignant or benign.

    The repository has the segmentations alone; its ``kits23_download_data`` fetches the images. A case that lacks its
    image stays in the list, so that it is seen: reading it says which file is missing.
    """

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield the cases in natural order.

        Raises:
            DataError: there is no case, or none has its image.
        """
        root = require_folder(root, f"the clone of {self.record.url}")
        cases: list[Path] = []
        for name in _FOLDERS:
            cases = cases or [path for path in listed(root / name) if path.is_dir() and path.name.startswith("case_")]
        if not cases:
            raise DataError(f"{root}: holds no dataset/case_00000; expected the clone of {self.record.url}")
        if not any(either(case, "imaging").is_file() for case in cases):
            raise DataError(
                f"{cases[0]}: has no imaging.nii.gz, nor has any other case: run kits23_download_data first"
            )
        malignant = _malignant(cases[0].parent / "kits23.json")
        for case in cases:
            label = either(case, "segmentation")
            annotated = label.is_file()
            yield Case(
                dataset=self.record.name,
                case_id=case.name,
                patient_id=case.name,
                modality="ct",
                images=(either(case, "imaging"),),
                labels=(label,) if annotated else (),
                targets=self.record.targets if annotated else (),
                category=malignant.get(case.name),
            )


def _malignant(path: Path) -> dict[str, str]:
    """``malignant`` or ``benign`` by case, as far as the clinical file tells; nothing where there is none.

    Raises:
        DataError: the file is no list of cases.
    """
    if not path.is_file():
        return {}
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        told = {row["case_id"]: row.get("malignant") for row in rows}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: expected a list of cases with case_id ({error})") from error
    return {case: "malignant" if value else "benign" for case, value in told.items() if isinstance(value, bool)}
