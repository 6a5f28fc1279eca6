"""autoPET III, and the layout of the FDG part as TCIA has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from oncoseg_core import Case, DataError, Settings, Split
from oncoseg_datasets.layouts.base import with_fault
from oncoseg_datasets.layouts.files import by_stem, either, listed, natural, require_folder
from oncoseg_datasets.layouts.label_images import LabelImageAdapter
from oncoseg_datasets.layouts.nnunet_folds import fold_sides

_FOLDERS = ("", "psma-fdg-pet-ct-lesions", "FDG-PET-CT-Lesions", "nifti/FDG-PET-CT-Lesions")
"""Where the data lie below what the user points at."""

_TRACERS = {"fdg", "psma"}


class AutoPETSettings(Settings):
    """``fold``: which fold of ``splits_final.json`` validates, 0 to 4; the others train. None: no split."""

    fold: Annotated[int, Field(ge=0, le=4)] | None = None


class AutoPET(LabelImageAdapter):
    """``imagesTr/TRACER_PATIENT_STUDY_0000.nii.gz`` (CT) and ``_0001`` (SUV) with ``labelsTr/TRACER_PATIENT_STUDY``.

    Also ``PETCT_ID/STUDY/{CTres,SUV,SEG}.nii.gz``. A study without lesions has an empty mask, which is its truth.
    """

    Settings = AutoPETSettings

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield the studies in natural order.

        Raises:
            DataError: neither layout is there, or a fold is asked for and ``splits_final.json`` does not have it.
        """
        root = require_folder(root, f"the folder of autoPET III ({self.record.url})")
        folders = [folder for name in _FOLDERS if (folder := root / name).is_dir()]
        for folder in folders:
            if (folder / "imagesTr").is_dir():
                yield from self._nnunet(folder)
                return
        for folder in folders:
            patients = [path for path in listed(folder) if path.is_dir() and path.name.startswith("PETCT_")]
            if patients:
                yield from self._tcia(patients)
                return
        raise DataError(
            f"{root}: holds neither imagesTr nor PETCT_ID folders; expected psma-fdg-pet-ct-lesions ({self.record.url})"
        )

    def _nnunet(self, folder: Path) -> Iterator[Case]:
        images, labels = by_stem(folder / "imagesTr"), by_stem(folder / "labelsTr")
        studies = {name.rpartition("_")[0] for name in images if name.endswith(("_0000", "_0001"))} | labels.keys()
        splits = fold_sides(folder / "splits_final.json", self.settings.fold)
        if not studies:
            raise DataError(f"{folder}: imagesTr holds no STUDY_0000.nii.gz; expected autoPET III ({self.record.url})")
        for study in sorted(studies, key=natural):
            tracer, _, rest = study.partition("_")
            patient = f"{tracer}_{rest.partition('_')[0]}"
            pair = tuple(images.get(f"{study}_{n}", folder / f"imagesTr/{study}_{n}.nii.gz") for n in ("0000", "0001"))
            case = self._case(study, patient, tracer.lower(), pair, labels.get(study), splits.get(study))
            clashes = images.clashes.get(f"{study}_0000") or images.clashes.get(f"{study}_0001")
            yield with_fault(case, "twice", clashes or labels.clashes.get(study))

    def _tcia(self, patients: list[Path]) -> Iterator[Case]:
        if self.settings.fold is not None:
            raise DataError(f"{patients[0].parent}: this layout has no splits_final.json, so fold cannot be set")
        for patient in patients:
            for study in listed(patient):
                label = either(study, "SEG")
                if study.is_dir():
                    name = f"{patient.name}_{study.name}"
                    pair = (either(study, "CTres"), either(study, "SUV"))
                    yield self._case(name, patient.name, "fdg", pair, label if label.is_file() else None, None)

    def _case(
        self, name: str, patient: str, tracer: str, pair: tuple[Path, ...], label: Path | None, split: Split | None
    ) -> Case:
        (target,) = self.record.targets
        # A prompt that names a tracer must name the study's own.
        others = _TRACERS - {tracer}
        synonyms = tuple(text for text in target.synonyms if text.lower().partition("-")[0] not in others)
        own = target.model_copy(update={"synonyms": synonyms})
        return Case(
            dataset=self.record.name,
            case_id=name,
            patient_id=patient,
            modality="ct+pet",
            images=pair,
            channel_names=("ct", "pet"),
            labels=() if label is None else (label,),
            targets=() if label is None else (own,),
            split=split,
            category=tracer,
        )
