"""What this distribution offers to OncoSeg."""

from collections.abc import Iterator

from oncoseg_core import CommandSpec, DatasetSpec, Target, hookimpl
from oncoseg_datasets.records import (
    brats,
    breast_mri,
    ct,
    cxr,
    dermoscopy,
    endoscopy,
    generic,
    lesion_ct,
    mammography,
    mr,
    msd,
    pet_ct,
    srh,
    ultrasound,
    xray,
)

SAMPLES = DatasetSpec(
    name="samples",
    factory="oncoseg_datasets.sources.samples:SamplesAdapter",
    summary="Seven real CT and MR scans with one target each, from the package index: first run, tests, benchmark",
    modalities=("ct", "mri"),
    targets=(
        Target(name="lung tumour", labels=frozenset({1}), kind="lesion"),
        Target(name="brain tumour", labels=frozenset({1}), kind="lesion"),
        Target(name="breast tumour", labels=frozenset({1}), kind="lesion"),
        # The vertebra in the middle of each spine image: 22 in the CT, 6 in the MR; neither value occurs in the other.
        Target(name="vertebra", labels=frozenset({6, 22}), kind="organ"),
    ),
    licence="BSD-3-Clause (tumours, pyradiomics 3.0.1) and Apache-2.0 (spines, tptbox 1.1.0)",
    url="https://github.com/AIM-Harvard/pyradiomics",
    citation="van Griethuysen et al., Cancer Research 77(21), e104-e107, 2017, doi:10.1158/0008-5472.CAN-17-0339",
)

RECORDS = (
    brats,
    breast_mri,
    ct,
    cxr,
    dermoscopy,
    endoscopy,
    generic,
    lesion_ct,
    mammography,
    mr,
    msd,
    pet_ct,
    srh,
    ultrasound,
    xray,
)
"""The modules that hold the records of public datasets, by what they show, and of one's own data."""


@hookimpl
def oncoseg_datasets() -> Iterator[DatasetSpec]:
    """The sample scans, the datasets of the OncoSeg paper, and one's own data."""
    yield SAMPLES
    for records in RECORDS:
        yield from records.SPECS


@hookimpl
def oncoseg_commands() -> Iterator[CommandSpec]:
    """``oncoseg samples`` and ``oncoseg datasets``."""
    yield CommandSpec(
        name="samples",
        factory="oncoseg_datasets.cli.samples:app",
        summary="Fetch or list the real sample scans, pinned and hash-checked",
    )
    yield CommandSpec(
        name="datasets",
        factory="oncoseg_datasets.cli.datasets:app",
        summary="List the datasets, look at one, check a copy of it, make it ready for training",
    )
