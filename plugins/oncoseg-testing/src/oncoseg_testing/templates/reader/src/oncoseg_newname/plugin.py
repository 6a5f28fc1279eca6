"""What this distribution provides. Every ``oncoseg`` command loads this module, so it imports records only."""

from collections.abc import Iterator

from oncoseg_core import ReaderSpec, hookimpl

SPEC = ReaderSpec(
    format="newname",
    suffixes=(".npz",),
    factory="oncoseg_newname.reader:NewnameReader",
    summary="Voxels, affine and structures as NumPy arrays in one file",
)


@hookimpl
def oncoseg_readers() -> Iterator[ReaderSpec]:
    """The reader."""
    yield SPEC
