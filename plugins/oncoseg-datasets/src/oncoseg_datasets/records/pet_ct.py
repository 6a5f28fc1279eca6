"""PET-CT."""

from __future__ import annotations

from oncoseg_core import DatasetSpec
from oncoseg_datasets.records.overlaps import overlaps_of
from oncoseg_datasets.records.targets import lesion

SPECS: tuple[DatasetSpec, ...] = (
    DatasetSpec(
        name="autopet-iii",
        factory="oncoseg_datasets.layouts.autopet:AutoPET",
        summary="autoPET III: tumour lesions on FDG and PSMA PET-CT; 573 of 1,611 studies have none",
        modalities=("ct+pet",),
        targets=(
            lesion(
                "tumour lesion",
                1,
                also=("tumor lesion", "FDG-avid tumor lesion", "PSMA-avid tumor lesion"),
            ),
        ),
        licence="FDG: TCIA terms, PSMA: CC BY-NC 4.0 (see the record of fdat)",
        url="https://fdat.uni-tuebingen.de/records/6gjsg-zcg93",
        citation="Gatidis et al., Sci Data 9:601, 2022; Jeblick et al., TCIA PSMA-PET-CT-Lesions, 2023",
        n_cases=1611,
        access="open",
        phase="F1",
        overlaps=overlaps_of("autopet-iii"),
        doubts=(
            "Licences: the FDG part is TCIA restricted or CC BY-NC 4.0, the PSMA part CC BY-NC 4.0; neither checked.",
            "Sources disagree on the number of studies: 1,611 by fdat, 1,614 elsewhere.",
        ),
    ),
)
