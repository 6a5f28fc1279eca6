"""The BraTS challenges of 2023 and UCSF-PDGM, which follows their older coding.

The coding of the labels depends on the year (:mod:`oncoseg_datasets.regions`). The record of brats-gli has the values
of both codings of its exams, 3 (2023) and 4 (up to 2021) for the enhancing tumour; each case has only those of its own.
"""

from __future__ import annotations

from oncoseg_core import DatasetSpec, Target
from oncoseg_datasets.records.overlaps import overlaps_of
from oncoseg_datasets.records.targets import lesion, target

_SYNAPSE = "Synapse challenge terms (click-through)"


def _regions(*enhancing: int) -> tuple[Target, ...]:
    """The paper's regions and the edema, for the values that enhancing tumour has."""
    return (
        lesion("whole brain tumour", 1, 2, *enhancing, also=("brain tumor", "whole tumor", "WT")),
        target("brain tumour core", 1, *enhancing, also=("brain tumor core", "tumor core", "TC")),
        target("enhancing brain tumour", *enhancing, also=("enhancing brain tumor", "enhancing tumor", "ET")),
        target("peritumoral brain edema", 2, also=("edema",)),
    )


SPECS: tuple[DatasetSpec, ...] = (
    DatasetSpec(
        name="brats-gli",
        factory="oncoseg_datasets.layouts.brats:BraTS",
        summary="BraTS 2023 adult glioma, or the same exams under the names of BraTS 2021; T1, T1c, T2, FLAIR",
        modalities=("mri",),
        targets=_regions(3, 4),
        licence=_SYNAPSE,
        url="https://www.synapse.org/#!Synapse:syn51514105",
        citation="Baid et al., arXiv:2107.02314, 2021; Menze et al., IEEE TMI 34:1993, 2015; Bakas et al., 2017",
        n_cases=1251,
        access="registration",
        phase="C",
        overlaps=overlaps_of("brats-gli"),
        doubts=(
            "The official data of 2018 to 2020 are read by their names too, but were not compared with any archive.",
        ),
    ),
    DatasetSpec(
        name="brats-ssa",
        factory="oncoseg_datasets.layouts.brats:BraTS",
        summary="BraTS 2023 Sub-Saharan Africa glioma; T1, T1c, T2, FLAIR; 55 of 60 have label 1",
        modalities=("mri",),
        targets=_regions(3),
        licence=_SYNAPSE,
        url="https://www.synapse.org/#!Synapse:syn51514109",
        citation="Adewole et al., arXiv:2305.19369, 2023",
        n_cases=60,
        access="registration",
        phase="C",
        overlaps=overlaps_of("brats-ssa"),
        doubts=(
            "The TCIA release BraTS-Africa is said to be larger (146 exams) and to hold other neoplasms than glioma.",
        ),
    ),
    DatasetSpec(
        name="brats-ped",
        factory="oncoseg_datasets.layouts.brats:BraTS",
        summary="BraTS 2023 paediatric glioma; T1, T1c, T2, FLAIR; edema in 57 and enhancement in 88 of 99",
        modalities=("mri",),
        targets=_regions(3),
        licence=_SYNAPSE,
        url="https://www.synapse.org/#!Synapse:syn51514108",
        citation="Kazerooni et al., arXiv:2305.17033, 2023",
        n_cases=99,
        access="registration",
        phase="C",
        overlaps=overlaps_of("brats-ped"),
        doubts=(
            "That it is the third member of the paper's phase C is inferred from the sum of cases, 1,410.",
            "The edition of 2024 is said to code 1 enhancing, 2 non-enhancing, 3 cyst, 4 edema; it is refused.",
            "The edition of 2024 is said to hold the cases of 2023.",
        ),
    ),
    DatasetSpec(
        name="ucsf-pdgm",
        factory="oncoseg_datasets.layouts.brats:BraTS",
        summary="UCSF preoperative diffuse glioma MRI: 501 exams of 495 patients; T1, T1c, T2, FLAIR; labels 1, 2, 4",
        modalities=("mri",),
        targets=_regions(4),
        licence="CC BY 4.0",
        url="https://doi.org/10.7937/tcia.bdgf-8v37",
        citation="Calabrese et al., Radiol Artif Intell 4(6):e220058, 2022",
        n_cases=501,
        access="open",
        phase="F1",
        overlaps=overlaps_of("ucsf-pdgm"),
        doubts=(
            "A case is one exam; the paper's row fits the 495 patients.",
            "Its place in the paper's phase F1 is inferred from the sum of cases.",
        ),
    ),
)
