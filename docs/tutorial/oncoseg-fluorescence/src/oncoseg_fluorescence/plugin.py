"""What this distribution provides. Every ``oncoseg`` command loads this module, so it imports records only."""

from collections.abc import Iterator

from oncoseg_core import NormalizerSpec, hookimpl

SPEC = NormalizerSpec(
    modality="fluorescence",
    factory="oncoseg_fluorescence.normalizer:FluorescenceNormalizer",
    summary="Between two percentiles of each channel, then a square root",
)


@hookimpl
def oncoseg_normalizers() -> Iterator[NormalizerSpec]:
    """The intensity normalizer."""
    yield SPEC
