"""Dermoscopy: skin lesions. The label value 1 is what the mask picture marks."""

from oncoseg_core import DatasetSpec, Target
from oncoseg_datasets.records.overlaps import overlaps_of

_LESION = (Target(name="skin lesion", labels=frozenset({1}), kind="lesion"),)
HAM10000 = DatasetSpec(
    name="ham10000",
    factory="oncoseg_datasets.layouts.picture_folders:PictureFolders",
    summary="10,015 dermoscopy photographs of pigmented skin lesions, each with the lesion's mask",
    modalities=("dermoscopy",),
    targets=_LESION,
    licence="CC BY-NC 4.0",
    url="https://doi.org/10.7910/DVN/DBW86T",
    citation="Tschandl et al. 2018 Sci Data 5:180161; Tschandl et al. 2020 Nat Med (masks)",
    n_cases=10_015,
    access="open",
    phase="F2",
    overlaps=overlaps_of("ham10000"),
    doubts=("whether it shares near duplicates with isic-2018 was not checked on the images",),
)

ISIC_2018 = DatasetSpec(
    name="isic-2018",
    factory="oncoseg_datasets.layouts.picture_folders:PictureFolders",
    summary="ISIC 2018 challenge, task 1: dermoscopy photographs with the lesion's mask, official splits",
    modalities=("dermoscopy",),
    targets=_LESION,
    licence="CC0 or CC BY-NC, per image (ATTRIBUTION.txt)",
    url="https://challenge.isic-archive.com/data/#2018",
    citation="Codella et al. 2019 arXiv:1902.03368",
    n_cases=3_694,
    access="open",
    phase="eval",
    overlaps=overlaps_of("isic-2018"),
    doubts=(
        "the counts (2,594 training, 100 validation, 1,000 test images) were not checked against the archive",
        "the licence was not checked against ATTRIBUTION.txt",
        "lesion and patient ids are not in the archive: two images of one lesion count as two patients",
    ),
)

SPECS: tuple[DatasetSpec, ...] = (HAM10000, ISIC_2018)
