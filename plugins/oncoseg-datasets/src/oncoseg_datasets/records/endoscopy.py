"""Endoscopy: polyps. The label value 1 is what the mask picture marks."""

from oncoseg_core import DatasetSpec, Target
from oncoseg_datasets.records.overlaps import overlaps_of

_POLYP = (Target(name="polyp", labels=frozenset({1}), kind="lesion"),)
KVASIR_SEG = DatasetSpec(
    name="kvasir-seg",
    factory="oncoseg_datasets.layouts.picture_folders:PictureFolders",
    summary="1,000 colonoscopy frames with polyps, each with a mask",
    modalities=("endoscopy",),
    targets=_POLYP,
    licence="research and educational use (site terms)",
    url="https://datasets.simula.no/kvasir-seg/",
    citation="Jha et al. 2020 MMM, arXiv:1911.07069",
    n_cases=1_000,
    access="open",
    phase="F2",
    overlaps=overlaps_of("kvasir-seg"),
    doubts=(
        "the licence is quoted from general knowledge; sources disagree",
        "whether its images are those of hyper-kvasir was not checked on the images",
        "no patient ids are published: frames of one patient count as several patients",
    ),
)

HYPER_KVASIR = DatasetSpec(
    name="hyper-kvasir",
    factory="oncoseg_datasets.layouts.picture_folders:PictureFolders",
    summary="HyperKvasir, segmented part: 1,000 colonoscopy frames with polyps, each with a mask",
    modalities=("endoscopy",),
    targets=_POLYP,
    licence="CC BY 4.0",
    url="https://datasets.simula.no/hyper-kvasir/",
    citation="Borgli et al. 2020 Sci Data 7:283",
    n_cases=1_000,
    access="open",
    phase="F2",
    overlaps=overlaps_of("hyper-kvasir"),
    doubts=(
        "whether its images are those of kvasir-seg was not checked on the images",
        "no patient ids are published: frames of one patient count as several patients",
    ),
)

SPECS: tuple[DatasetSpec, ...] = (KVASIR_SEG, HYPER_KVASIR)
