"""What this distribution provides. Every ``oncoseg`` command loads this module, so it imports records only."""

from collections.abc import Iterator

from oncoseg_core import NormalizerSpec, hookimpl

SPEC = NormalizerSpec(
    modality="newname",
    factory="oncoseg_newname.normalizer:NewnameNormalizer",
    summary="Linear between two percentiles of each channel",
)


@hookimpl
def oncoseg_normalizers() -> Iterator[NormalizerSpec]:
    """The intensity normalizer."""
    yield SPEC
