"""What this distribution offers to OncoSeg."""

from collections.abc import Iterator

from oncoseg_core import CommandSpec, DatasetSpec, Target, hookimpl

SAMPLES = DatasetSpec(
    name="samples",
    factory="oncoseg_datasets.samples:SamplesAdapter",
    summary="Seven real CT and MR scans with one target each, from the package index: first run, tests, benchmark",
    modalities=("ct", "mri"),
    targets=(
        Target(name="lung tumour", labels=frozenset({1})),
        Target(name="brain tumour", labels=frozenset({1})),
        Target(name="breast tumour", labels=frozenset({1})),
        # The vertebra in the middle of each spine image: 22 in the CT, 6 in the MR; neither value occurs in the other.
        Target(name="vertebra", labels=frozenset({6, 22})),
    ),
    licence="BSD-3-Clause (tumours, pyradiomics 3.0.1) and Apache-2.0 (spines, tptbox 1.1.0)",
    url="https://github.com/AIM-Harvard/pyradiomics",
    citation="van Griethuysen et al., Cancer Research 77(21), e104-e107, 2017, doi:10.1158/0008-5472.CAN-17-0339",
)


@hookimpl
def oncoseg_datasets() -> Iterator[DatasetSpec]:
    """The sample scans."""
    yield SAMPLES


@hookimpl
def oncoseg_commands() -> Iterator[CommandSpec]:
    """``oncoseg samples`` and ``oncoseg datasets``."""
    yield CommandSpec(
        name="samples",
        factory="oncoseg_datasets.command:app",
        summary="Fetch or list the real sample scans, pinned and hash-checked",
    )
    yield CommandSpec(
        name="datasets",
        factory="oncoseg_datasets.commands:app",
        summary="Make a dataset ready for training",
    )
