"""The ten tasks of the Medical Segmentation Decathlon."""

from __future__ import annotations

from oncoseg_core import DatasetSpec, Target
from oncoseg_datasets.records.overlaps import overlaps_of
from oncoseg_datasets.records.targets import LIVER_TUMOUR, lesion, target

_ABOUT_BRATS_2016 = (
    "The labels were made from BraTS 2016/17, whose own coding until 2016 (1 necrosis, 2 edema, 3 non-enhancing, "
    "4 enhancing) was not checked."
)
_ABOUT_PROSTATE_ZONES = (
    "One loader (SAT-DS) has peripheral and transition zone the other way round; the record follows the dataset.json "
    "that is distributed."
)


def _task(
    name: str, modality: str, n_cases: int, summary: str, targets: tuple[Target, ...], doubts: tuple[str, ...] = ()
) -> DatasetSpec:
    return DatasetSpec(
        name=name,
        factory="oncoseg_datasets.layouts.msd:MSDTask",
        summary=summary,
        modalities=(modality,),
        targets=targets,
        licence="CC BY-SA 4.0",
        url="http://medicaldecathlon.com/",
        citation="Antonelli et al., Nat Commun 13:4128, 2022; Simpson et al., arXiv:1902.09063, 2019",
        n_cases=n_cases,
        access="open",
        phase="B",
        overlaps=overlaps_of(name),
        doubts=doubts,
    )


SPECS: tuple[DatasetSpec, ...] = (
    _task(
        "msd-brain-tumour",
        "mri",
        484,
        "MSD Task01: glioma on FLAIR, T1w, T1gd and T2w, with the regions of BraTS",
        (
            lesion("whole brain tumour", 1, 2, 3, also=("brain tumor", "whole tumor", "WT")),
            target("brain tumour core", 2, 3, also=("brain tumor core", "tumor core", "TC")),
            target("enhancing brain tumour", 3, also=("enhancing brain tumor", "enhancing tumor", "ET")),
            target("peritumoral brain edema", 1, also=("edema",)),
        ),
        doubts=(_ABOUT_BRATS_2016,),
    ),
    _task("msd-heart", "mri", 20, "MSD Task02: left atrium on MRI", (target("left atrium", 1),)),
    _task(
        "msd-liver",
        "ct",
        131,
        "MSD Task03: liver and liver tumours on CT; the scans of LiTS; 13 of 131 have no tumour",
        (target("liver", 1, 2), lesion("liver tumour", 2, also=LIVER_TUMOUR)),
        doubts=("That the case numbers are those of LiTS, so that 28-44 and 46-48 are 3D-IRCADb, is assumed.",),
    ),
    _task(
        "msd-hippocampus",
        "mri",
        260,
        "MSD Task04: anterior and posterior hippocampus on cropped MRI; no tumours",
        (
            target("hippocampus", 1, 2),
            target("anterior hippocampus", 1),
            target("posterior hippocampus", 2),
        ),
    ),
    _task(
        "msd-prostate",
        "mri",
        32,
        "MSD Task05: prostate zones on T2 and ADC; the peripheral zone is missing in 2 cases",
        (
            target("prostate", 1, 2),
            target("peripheral zone of prostate", 1, also=("peripheral zone",)),
            target("transition zone of prostate", 2, also=("transition zone",)),
        ),
        doubts=(_ABOUT_PROSTATE_ZONES,),
    ),
    _task(
        "msd-lung",
        "ct",
        63,
        "MSD Task06: lung cancer on CT",
        (lesion("lung tumour", 1, also=("lung tumor", "lung cancer")),),
        doubts=("That the scans are the Stanford NSCLC cohort of TCIA, not NSCLC-Radiomics, was not checked.",),
    ),
    _task(
        "msd-pancreas",
        "ct",
        281,
        "MSD Task07: pancreas and pancreatic masses on CT",
        (target("pancreas", 1, 2), lesion("pancreatic tumour", 2, also=("pancreatic tumor",))),
        doubts=("That label 2 covers cysts (IPMN) and neuroendocrine tumours besides cancer was not checked.",),
    ),
    _task(
        "msd-hepatic-vessel",
        "ct",
        303,
        "MSD Task08: hepatic vessels and liver tumours on CT; the liver itself is not labelled",
        (target("hepatic vessel", 1), lesion("liver tumour", 2, also=LIVER_TUMOUR)),
        doubts=("It may share patients (Memorial Sloan Kettering) with MSD Spleen and MSD Pancreas.",),
    ),
    _task("msd-spleen", "ct", 41, "MSD Task09: spleen on CT", (target("spleen", 1),)),
    _task(
        "msd-colon",
        "ct",
        126,
        "MSD Task10: primary colon cancer on CT",
        (lesion("colon cancer", 1, also=("colon tumor", "colon tumour")),),
    ),
)
