"""Magnetic resonance: arbitrary units, so each channel is scaled by its own percentiles."""

from oncoseg_modalities.percentile import Percent, PercentileNormalizer, PercentileSettings, Share


class MRISettings(PercentileSettings):
    """By default 1st to 99th percentile; a bottom value held by 2 % of the voxels or more is air.

    2 % is twice the share that lies at or below a 1st percentile by itself. Leaving masked air out is what nnU-Net
    (z-score in the non-zero mask, Isensee et al., Nature Methods 2021) and MedSAM (percentiles of the non-zero voxels,
    Ma et al., Nature Communications 2024) do.
    """

    percentiles: tuple[Percent, Percent] = (1.0, 99.0)
    background_share: Share = 0.02


class MRINormalizer(PercentileNormalizer):
    """Each channel's 1st to 99th percentile, without its air background, linear to [0, 1]."""

    Settings = MRISettings
