"""Breast MR. The label value 1 is the annotated box."""

from oncoseg_core import DatasetSpec, Target
from oncoseg_datasets.records.overlaps import overlaps_of

DUKE_BREAST_MRI = DatasetSpec(
    name="duke-breast-mri",
    factory="oncoseg_datasets.layouts.duke_breast_mri:DukeBreastMri",
    summary="Contrast-enhanced breast MR of 922 patients with a box around the index tumour (no masks)",
    modalities=("mri",),
    targets=(Target(name="breast tumour", labels=frozenset({1}), synonyms=("breast tumor",), kind="lesion"),),
    licence="CC BY-NC 4.0",
    url="https://www.cancerimagingarchive.net/collection/duke-breast-cancer-mri/",
    citation="Saha et al. 2018 Br J Cancer; TCIA doi:10.7937/TCIA.e3sv-re93",
    annotation="boxes",
    n_cases=922,
    access="open",
    phase="E1",
    overlaps=overlaps_of("duke-breast-mri"),
    doubts=(
        "the licence is quoted from general knowledge",
        (
            "the workbook does not say whether rows, columns and slices count from 0 or from 1, nor in which order "
            "slices count; readers of it disagree: look at a few cases before relying on a voxel (settings index_base, "
            "slice_order)"
        ),
    ),
)

SPECS: tuple[DatasetSpec, ...] = (DUKE_BREAST_MRI,)
