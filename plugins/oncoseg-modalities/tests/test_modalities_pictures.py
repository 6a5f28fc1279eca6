"""Pictures: colour and grey, bit depths, borders, compression. The images are generated."""

import numpy as np
import pytest

from oncoseg_core import ConfigError
from oncoseg_core.plugins.configuration import validate
from oncoseg_modalities.cxr import CXRNormalizer, CXRSettings
from oncoseg_modalities.dermoscopy import DermoscopyNormalizer
from oncoseg_modalities.endoscopy import EndoscopyNormalizer
from oncoseg_modalities.intensity.colour import is_grey
from oncoseg_modalities.intensity.compression import logarithmic
from oncoseg_modalities.mammography import MammographyNormalizer
from oncoseg_modalities.mri import MRINormalizer
from oncoseg_modalities.pet import PETNormalizer
from oncoseg_modalities.srh import SRHNormalizer, SRHSettings
from oncoseg_modalities.ultrasound import UltrasoundNormalizer
from oncoseg_modalities.xray import XRayNormalizer, XRaySettings

GREY = [CXRNormalizer, MammographyNormalizer, UltrasoundNormalizer, XRayNormalizer]
COLOUR = [DermoscopyNormalizer, EndoscopyNormalizer]


def unit(normalizer, voxels):
    return normalizer.apply(voxels, normalizer.fit(voxels))


def picture(channels=1, seed=0, low=20, high=230):
    rng = np.random.default_rng(seed)
    return rng.integers(low, high, (channels, 1, 60, 80)).astype(np.uint8)


@pytest.mark.parametrize("normalizer", [*GREY, *COLOUR, SRHNormalizer])
def test_bit_depths_agree(normalizer):
    """An 8-bit picture, the same in 12 and 16 bits, and as a float from 0 to 1."""
    eight = picture()
    twelve, sixteen = eight.astype(np.uint16) * 16, eight.astype(np.uint16) * 257
    expected = unit(normalizer(), eight)
    for other in (twelve, sixteen, eight / 255, (eight / 255).astype(np.float32)):
        np.testing.assert_allclose(unit(normalizer(), other), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("normalizer", [*GREY, *COLOUR])
def test_grey_that_is_stored_as_rgb_is_grey(normalizer):
    grey = picture()[..., :6, :7]  # so few pixels that the percentiles of three times as many are others
    rgb = np.repeat(grey, 3, axis=0)
    assert is_grey(rgb)
    percents = normalizer().settings.percentiles
    assert tuple(np.percentile(rgb.astype(float), percents)) != tuple(np.percentile(grey.astype(float), percents))
    np.testing.assert_array_equal(unit(normalizer(), rgb), np.repeat(unit(normalizer(), grey), 3, axis=0))


@pytest.mark.parametrize("normalizer", [*GREY, *COLOUR])
def test_rounding_of_jpeg_colours_brings_no_tint(normalizer):
    rgb = np.repeat(picture(), 3, axis=0)
    rgb[1:] += np.random.default_rng(1).integers(0, 3, rgb[1:].shape).astype(np.uint8)
    assert is_grey(rgb)
    stats = normalizer().fit(rgb)
    assert len(set(stats["low"])) == len(set(stats["high"])) == 1


def test_a_colour_picture_is_not_grey():
    assert not is_grey(picture(3))
    slightly = np.repeat(picture(), 3, axis=0)
    slightly[0, 0, 5, 5] += 9
    assert not is_grey(slightly)


def test_what_is_not_finite_does_not_make_a_picture_colourful():
    rgb = np.repeat(picture().astype(np.float32), 3, axis=0)
    rgb[0, 0, 3, 3] = np.nan
    rgb[:, 0, 4, 4] = np.inf
    assert is_grey(rgb)
    assert is_grey(np.full((3, 1, 2, 2), np.nan))


@pytest.mark.parametrize("normalizer", COLOUR)
def test_colours_are_stretched_one_by_one(normalizer):
    """A red cast goes: each channel has its own limits."""
    rgb = np.stack([picture(seed=s, low=lo, high=hi)[0] for s, (lo, hi) in enumerate([(90, 250), (40, 160), (10, 90)])])
    stats = normalizer().fit(rgb)
    percents = normalizer().settings.percentiles
    for channel, low, high in zip(rgb, stats["low"], stats["high"], strict=True):
        assert (low, high) == tuple(np.percentile(channel.astype(float), percents))


@pytest.mark.parametrize("normalizer", [MRINormalizer, PETNormalizer, SRHNormalizer])
def test_channels_that_are_images_of_their_own_are_never_taken_for_grey(normalizer):
    """Two echoes that hardly differ: still each by its own limits."""
    echoes = np.concatenate([picture().astype(np.int16)] * 2)
    echoes[1] += 2
    assert is_grey(echoes)
    stats = normalizer().fit(echoes)
    assert stats["low"][1] == stats["low"][0] + 2
    assert stats["high"][1] == stats["high"][0] + 2


def test_doppler_keeps_its_hue():
    """Colour on a grey picture: one pair of limits, so grey stays grey and the red overlay stays as red."""
    rgb = np.repeat(picture(), 3, axis=0)
    rgb[:, 0, 10:30, 10:30] = np.array([250, 5, 5], np.uint8)[:, None, None]
    pooled = tuple(np.percentile(rgb.astype(float), (2, 98)))
    stats = UltrasoundNormalizer().fit(rgb)
    assert list(zip(stats["low"], stats["high"], strict=True)) == [pooled] * 3
    assert all(tuple(np.percentile(channel.astype(float), (2, 98))) != pooled for channel in rgb)
    out = unit(UltrasoundNormalizer(), rgb)
    assert np.ptp(out[:, 0, 40, 40]) == 0
    assert out[0, 0, 15, 15] > 0.9
    assert out[1, 0, 15, 15] < 0.1


def test_the_border_of_a_chest_radiograph_does_not_count():
    chest = np.random.default_rng(2).integers(1000, 3000, (1, 1, 400, 300)).astype(np.uint16)
    expected = CXRNormalizer().fit(chest)
    chest[..., :20, :], chest[..., 380:, :] = 0, 0
    chest[..., :15], chest[..., 285:] = 4095, 4095
    assert CXRNormalizer().fit(chest) == expected
    everything = CXRNormalizer(CXRSettings(border=0, background_share=1)).fit(chest)
    assert (everything["low"], everything["high"]) == ((0,), (4095,))


def test_the_border_is_a_share_of_the_rows_and_of_the_columns():
    voxels = np.random.default_rng(0).integers(0, 4095, (2, 1, 400, 60)).astype(np.uint16)
    assert np.array_equal(CXRNormalizer().region(voxels), voxels[:, :, 20:380, 3:57])
    assert np.array_equal(CXRNormalizer(CXRSettings(border=0.25)).region(voxels), voxels[:, :, 100:300, 15:45])


def test_a_tiny_picture_keeps_its_border():
    voxels = np.arange(1, 10, dtype=np.uint8).reshape(1, 1, 3, 3)
    settings = CXRSettings(border=0.3, background_share=1)
    assert CXRNormalizer(settings).fit(voxels)["low"] == (np.percentile(np.arange(1.0, 10), 1),)
    assert CXRNormalizer(CXRSettings(border=0.49)).fit(voxels[..., :1, :1])["low"] == (1,)


@pytest.mark.parametrize("air", ["flat", "noisy"])
def test_the_air_beside_the_breast_does_not_count(air):
    rng = np.random.default_rng(5)
    film = rng.normal(120, 25, (1, 1, 200, 160)) if air == "noisy" else np.zeros((1, 1, 200, 160))
    film[..., 40:160, :70] = rng.normal(2200, 500, (120, 70))
    film = film.clip(0, 4095).astype(np.uint16)
    breast = film[..., 40:160, :70].astype(float)
    stats = MammographyNormalizer().fit(film)
    np.testing.assert_allclose(
        (*stats["low"], *stats["high"]), np.percentile(breast, (1, 99)), rtol=0.12 if air == "noisy" else 0.001
    )


@pytest.mark.parametrize(("normalizer", "settings"), [(XRayNormalizer, XRaySettings), (SRHNormalizer, SRHSettings)])
def test_compression_lifts_the_dark_and_keeps_the_ends(normalizer, settings):
    ramp = np.linspace(0, 1000, 1001).reshape(1, 1, 7, 143)
    straight = unit(normalizer(settings(compression=0)), ramp)
    bent = unit(normalizer(), ramp)
    inside = (straight > 0) & (straight < 1)
    assert (bent[inside] > straight[inside]).all()
    np.testing.assert_array_equal(bent[~inside], straight[~inside])
    c = normalizer().settings.compression
    np.testing.assert_allclose(bent, np.log1p(c * straight) / np.log1p(c), rtol=0, atol=1e-6)


def test_compression_is_the_decimal_logarithm_of_a_decade():
    values = np.array([0.0, 0.1, 0.5, 1.0])
    logarithmic(9)(values)
    np.testing.assert_allclose(values, np.log10([1, 1.9, 5.5, 10]), rtol=1e-15)
    assert logarithmic(0) is None


@pytest.mark.parametrize("wrong", [-1, 1e7, "much"])
def test_impossible_compression_is_refused(wrong):
    with pytest.raises(ConfigError, match="compression"):
        validate(XRaySettings, {"compression": wrong}, "settings")


@pytest.mark.parametrize(("normalizer", "percents"), [(UltrasoundNormalizer, (2, 98)), (EndoscopyNormalizer, (5, 95))])
def test_the_papers_percentiles(normalizer, percents):
    voxels = picture()
    stats = normalizer().fit(voxels)
    assert (*stats["low"], *stats["high"]) == tuple(np.percentile(voxels.astype(float), percents))
