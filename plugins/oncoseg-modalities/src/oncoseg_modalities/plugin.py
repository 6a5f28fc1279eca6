"""What this distribution provides: one record per modality."""

from collections.abc import Iterator

from oncoseg_core import NormalizerSpec, hookimpl


@hookimpl
def oncoseg_normalizers() -> Iterator[NormalizerSpec]:
    """The intensity normalizers."""
    yield NormalizerSpec(
        modality="ct",
        factory="oncoseg_modalities.ct:CTNormalizer",
        summary="Hounsfield window, linear",
    )
    yield NormalizerSpec(
        modality="mri",
        factory="oncoseg_modalities.mri:MRINormalizer",
        summary="1st to 99th percentile of each channel without its air, linear",
    )
