"""What this distribution provides. Every ``oncoseg`` command loads this module, so it imports records only."""

from collections.abc import Iterator

from oncoseg_core import DatasetSpec, Target, hookimpl

SPEC = DatasetSpec(
    name="newname",
    factory="oncoseg_newname.adapter:NewnameAdapter",
    summary="Pairs of files in images/ and labels/",
    modalities=("mri",),
    targets=(Target(name="tumour", labels=frozenset({1})),),
    licence="say under which terms it may be used",
    url="https://example.org/newname",
    citation="say what users have to cite",
)


@hookimpl
def oncoseg_datasets() -> Iterator[DatasetSpec]:
    """The dataset."""
    yield SPEC
