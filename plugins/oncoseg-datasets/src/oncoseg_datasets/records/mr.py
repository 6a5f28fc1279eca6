"""MRI other than of the brain."""

from __future__ import annotations

from oncoseg_core import DatasetSpec
from oncoseg_datasets.records.overlaps import overlaps_of
from oncoseg_datasets.records.targets import target

SPECS: tuple[DatasetSpec, ...] = (
    DatasetSpec(
        name="promise12",
        factory="oncoseg_datasets.layouts.pairs:PairedFiles",
        summary="PROMISE12: prostate on T2w MRI, partly with endorectal coil; evaluation only",
        modalities=("mri",),
        targets=(target("prostate", 1),),
        licence="challenge terms, research use (LICENSE.TXT)",
        url="https://zenodo.org/records/8026660",
        citation="Litjens et al., Med Image Anal 18:359, 2014",
        n_cases=50,
        access="open",
        phase="eval",
        overlaps=overlaps_of("promise12"),
        doubts=("Multi-site prostate benchmarks (SAML) are said to reuse 12 or more of its cases.",),
    ),
)
