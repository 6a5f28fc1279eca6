"""BraTS and what follows it: one folder per exam with four sequences and a label, named by the year's rule.

The name tells the coding of the labels (:mod:`oncoseg_datasets.regions`), and every label that is read has to agree.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from oncoseg_core import Case, DataError, Settings, Split, Target
from oncoseg_datasets.folders import is_leftover
from oncoseg_datasets.layouts.base import with_fault
from oncoseg_datasets.layouts.files import FilesByName, either, listed, natural, require_folder, stem
from oncoseg_datasets.layouts.label_images import LabelImageAdapter
from oncoseg_datasets.regions import Coding, region_values

_CHANNELS = ("t1n", "t1c", "t2w", "t2f")
"""In this order for every year, whatever the files are called."""


@dataclass(frozen=True)
class _Naming:
    """How a year names an exam's folder (its group ``patient``) and files, and what its label values mean.

    ``exam`` is the start of the file names for a folder's name; ``files`` their ends by channel.
    """

    folder: re.Pattern[str]
    files: Mapping[str, str]
    label: str
    coding: Coding
    folder_suffix: str = ""

    def exam(self, folder: str) -> str:
        """The exam's id: the folder's name, without what follows it."""
        return folder.removesuffix(self.folder_suffix)


def _year_2023(group: str) -> _Naming:
    return _Naming(
        folder=re.compile(rf"(?P<patient>BraTS-{group}-\d+)-\d+"),
        files=MappingProxyType({channel: f"-{channel}" for channel in _CHANNELS}),
        label="-seg",
        coding="2023",
    )


_UNTIL_2021 = _Naming(
    folder=re.compile(r"(?P<patient>brats(20)?(1[789]|2[01])_\w+)", re.IGNORECASE),
    files=MappingProxyType({"t1n": "_t1", "t1c": "_t1ce", "t2w": "_t2", "t2f": "_flair"}),
    label="_seg",
    coding="2021",
)

_UCSF = _Naming(
    folder=re.compile(r"(?P<patient>UCSF-PDGM-\d+)(_FU\d+d)?_nifti"),
    files=MappingProxyType({"t1n": "_T1", "t1c": "_T1c", "t2w": "_T2", "t2f": "_FLAIR"}),
    label="_tumor_segmentation",
    coding="2021",
    folder_suffix="_nifti",
)

_NAMINGS: dict[str, tuple[_Naming, ...]] = {
    "brats-gli": (_year_2023("GLI"), _UNTIL_2021),
    "brats-ssa": (_year_2023("SSA"),),
    "brats-ped": (_year_2023("PED"),),
    "ucsf-pdgm": (_UCSF,),
}

_FOLLOW_UPS = {
    f"UCSF-PDGM-{exam}": f"UCSF-PDGM-{patient}"
    for exam, patient in (
        ("0138", "0429"),
        ("0175", "0396"),
        ("0181", "0409"),
        ("0278", "0431"),
        ("0289", "0391"),
        ("0315", "0433"),
    )
}
"""Patients by the numbers that their follow-up exams had in the first two versions; later ones call them ``_FU…d``."""

_YEAR_UNCLEAR = {"brats-ped"}
"""Datasets whose later editions keep the names of 2023 and give the same values other meanings."""

_YEAR_IN_FOLDER = re.compile(r"brats\D*(20\d\d)", re.IGNORECASE)
_HIDDEN_PART = re.compile(r"(validation|test)(ing)?_?data", re.IGNORECASE)
"""In the names of archives: ``ASNR-MICCAI-BraTS2023-PED-Challenge-ValidationData``."""


class BraTSSettings(Settings):
    """``edition``: the year of a copy whose folder does not say it, for BraTS-PEDs, which was renumbered in 2024."""

    edition: Literal[2023] | None = None


class BraTS(LabelImageAdapter):
    """``EXAM/EXAM-t1n.nii.gz`` … ``EXAM-seg.nii.gz``, anywhere below the root; without a label it is not annotated.

    A patient's exams (the second number of the id counts them) share a patient id.
    """

    Settings = BraTSSettings

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield the exams in natural order of their ids.

        An exam that is there twice is a bad case.

        Raises:
            DataError: there is none; editions are mixed; or the folder does not tell an edition that must be known.
        """
        root = require_folder(root, f"the folder of {self.record.name} ({self.record.url})")
        namings = _NAMINGS[self.record.name]
        found = FilesByName()
        for folder in _exam_folders(root, namings):
            found.add(_naming_of(folder.name, namings).exam(folder.name), folder)
        if not found:
            first = namings[0]
            raise DataError(
                f"{root}: holds no folder named like {first.folder.pattern} with files ending in "
                f"{', '.join(first.files.values())}; expected the unpacked archive ({self.record.url})"
            )
        by_naming = {_naming_of(folder.name, namings).label: folder for folder in found.values()}
        if len(by_naming) > 1:
            one, other = sorted(by_naming.values())[:2]
            raise DataError(
                f"{one} and {other} are named by different years; give one edition: their exams are the same"
            )
        if self.record.name in _YEAR_UNCLEAR:
            for folder in found.values():
                self._require_2023(folder)
        for exam in sorted(found, key=natural):
            yield with_fault(self._case(exam, found[exam], root), "twice", found.clashes.get(exam))

    def known_values(self, case: Case) -> frozenset[int]:
        """The values of the coding that the exam's name tells."""
        naming = _naming_of(case.labels[0].parent.name, _NAMINGS[self.record.name])
        return region_values("WT", naming.coding)

    def why_unknown(self) -> str:
        """What a value of another year means."""
        return (
            "enhancing tumour is 4 until 2021 and 3 from 2023, and in BraTS-GLI 2024 4 is the resection cavity: "
            "this label is of another edition than its name says"
        )

    def _require_2023(self, folder: Path) -> None:
        # The folder's given name counts before the one that it is a link to.
        above = (*folder.parent.resolve().parts, *folder.parent.absolute().parts)
        years = [match[1] for part in above if (match := _YEAR_IN_FOLDER.search(part))]
        edition = self.settings.edition or (int(years[-1]) if years else None)
        if edition is None:
            raise DataError(
                f"{folder}: no folder above it says the edition, and that of 2024 gives the same label values other "
                "meanings: keep the archive's folder (…BraTS2023-PED…), or set edition: 2023 if you know it"
            )
        if edition != 2023:
            raise DataError(
                f"{folder}: is of the edition of {edition}, whose labels are numbered otherwise than in 2023"
            )

    def _case(self, exam: str, folder: Path, root: Path) -> Case:
        naming = _naming_of(folder.name, _NAMINGS[self.record.name])
        match = naming.folder.fullmatch(folder.name)
        label = _label_of(folder, f"{exam}{naming.label}")
        annotated = label.is_file()
        grade = next((part for part in folder.relative_to(root).parts if part in {"HGG", "LGG"}), None)
        return Case(
            dataset=self.record.name,
            case_id=exam,
            patient_id=exam if match is None else _FOLLOW_UPS.get(match["patient"], match["patient"]),
            modality="mri",
            images=tuple(either(folder, f"{exam}{naming.files[channel]}") for channel in _CHANNELS),
            channel_names=_CHANNELS,
            labels=(label,) if annotated else (),
            targets=self._targets(naming.coding) if annotated else (),
            split=None if annotated else _hidden_part(folder.parent, root),
            category=grade,
        )

    def _targets(self, coding: Coding) -> tuple[Target, ...]:
        """The record's targets with the values of one coding."""
        known = region_values("WT", coding)
        return tuple(target.model_copy(update={"labels": target.labels & known}) for target in self.record.targets)


def _label_of(folder: Path, name: str) -> Path:
    """The exam's label: the file of that name, or the one that is left with the name it was drawn under.

    BraTS20_Training_355 has ``W39_1998.09.19_Segm.nii``.
    """
    label = either(folder, name)
    drawn = [] if label.is_file() else [path for path in listed(folder) if (stem(path) or "").endswith("_Segm")]
    return drawn[0] if len(drawn) == 1 else label


def _hidden_part(folder: Path, root: Path) -> Split | None:
    """The official part whose labels are kept back, by the name of the archive: the root's, or of a folder below."""
    names = (root.absolute().name, *folder.relative_to(root).parts) if folder.is_relative_to(root) else ()
    found = [match[1].lower() for name in names if (match := _HIDDEN_PART.search(name))]
    return None if not found else "validation" if found[-1] == "validation" else "test"


def _naming_of(folder: str, namings: tuple[_Naming, ...]) -> _Naming:
    return next(naming for naming in namings if naming.folder.fullmatch(folder))


def _exam_folders(root: Path, namings: tuple[_Naming, ...]) -> Iterator[Path]:
    """Folders named like an exam that hold a file of one, in natural order, without what lies inside one."""
    for above, folders, files in os.walk(root, followlinks=True):
        here = Path(above)
        naming = next((naming for naming in namings if naming.folder.fullmatch(here.name)), None)
        if naming is not None:
            starts = tuple(f"{naming.exam(here.name)}{end}." for end in (*naming.files.values(), naming.label))
            if any(name.startswith(starts) for name in files):
                folders.clear()
                yield here
        folders[:] = sorted((name for name in folders if not is_leftover(name)), key=natural)
