"""The percentile rule of MR: its background, its statistics, its settings. Images here are generated."""

import tracemalloc

import numpy as np
import pytest

from oncoseg_core import ConfigError, DataError
from oncoseg_core.plugins.configuration import validate
from oncoseg_modalities.mri import MRINormalizer, MRISettings


def head(dtype=np.uint16, air=0):
    """A bright block (500 to 1500) in flat air, two channels, 78 % air."""
    voxels = np.full((2, 6, 40, 40), air, dtype)
    voxels[:, :, 10:30, 11:28] = np.random.default_rng(1).integers(500, 1500, (2, 6, 20, 17))
    return voxels


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64])
def test_air_does_not_drag_the_percentiles(dtype):
    voxels = head(dtype)
    stats = MRINormalizer().fit(voxels)
    for channel, low, high in zip(voxels, stats["low"], stats["high"], strict=True):
        assert (low, high) == tuple(np.percentile(channel[channel > 0].astype(np.float64), (1, 99)))


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_air_need_not_be_zero(dtype):
    voxels = head(dtype, air=-7)
    stats = MRINormalizer().fit(voxels)
    assert stats["low"][0] == np.percentile(voxels[0][voxels[0] > -7], 1)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_few_strays_below_the_air_do_not_bring_it_back(dtype):
    voxels = head(dtype)
    stats = MRINormalizer().fit(voxels)
    voxels[:, 0, 0, :40] = -30000  # 0.4 % of a channel
    moved = MRINormalizer().fit(voxels)
    assert moved == stats


def test_a_few_bright_voxels_move_the_result_by_no_more_than_their_share():
    voxels = head(np.int32)
    inside = np.sort(voxels[0][voxels[0] > 0])
    voxels[0, 0, 10, 11:16] = 10**6  # 5 of 2040, within the block
    high = MRINormalizer().fit(voxels)["high"][0]
    assert np.percentile(inside, 99) <= high <= np.percentile(inside, 99 + 100 * 6 / inside.size)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_air_with_noise_in_it_is_left_out(dtype):
    voxels = head(np.float64)
    air = voxels == 0
    noise = np.random.default_rng(3).rayleigh(9, voxels.shape)
    voxels = np.where(air, noise, voxels).astype(dtype)
    stats = MRINormalizer().fit(voxels)
    for channel, outside, low, high in zip(voxels, air, stats["low"], stats["high"], strict=True):
        tissue = np.percentile(channel[~outside].astype(float), (1, 99))
        np.testing.assert_allclose((low, high), tissue, rtol=0.01)


@pytest.mark.parametrize("dark", [0.2, 0.3])
def test_a_quarter_of_dark_voxels_are_air(dark):
    voxels = np.random.default_rng(4).integers(400, 1000, (1, 1, 100, 100)).astype(np.int16)
    voxels.reshape(-1)[: int(dark * voxels.size)] //= 64
    low = MRINormalizer().fit(voxels)["low"][0]
    assert low == np.percentile(voxels[voxels > 15] if dark > 0.25 else voxels.astype(float), 1)


def test_no_flat_background_means_all_voxels():
    voxels = np.random.default_rng(2).integers(0, 5000, (1, 8, 50, 50)).astype(np.int16)
    stats = MRINormalizer().fit(voxels)
    assert (stats["low"][0], stats["high"][0]) == tuple(np.percentile(voxels.astype(float), (1, 99)))


@pytest.mark.parametrize("zeros", [1, 2])
def test_two_percent_at_the_bottom_are_air(zeros):
    """100 voxels: 0 to 99, where the lowest two are made air in one case."""
    voxels = np.arange(100, dtype=np.int16).reshape(1, 1, 10, 10)
    voxels[voxels < zeros] = 0
    expected = np.percentile(voxels[voxels > 0] if zeros == 2 else voxels.astype(float), 1)
    assert MRINormalizer().fit(voxels)["low"] == (expected,)


def test_shares_of_one_take_all_voxels():
    voxels = head()
    stats = MRINormalizer(MRISettings(background_share=1, noise_share=1)).fit(voxels)
    assert stats["low"] == (0.0, 0.0)
    assert stats["high"][0] == np.percentile(voxels[0].astype(float), 99)


def test_one_single_bright_value_stays_apart_from_the_air():
    voxels = np.zeros((1, 2, 10, 10), np.uint8)
    voxels[:, :, 3:5, 3:5] = 9
    normalizer = MRINormalizer()
    unit = normalizer.apply(voxels, normalizer.fit(voxels))
    np.testing.assert_array_equal(unit, voxels == 9)


def test_what_lies_above_a_flat_interval_becomes_one():
    voxels = np.zeros((1, 1, 20, 20), np.uint8)
    voxels[0, 0, 0, 0] = 9
    normalizer = MRINormalizer(MRISettings(background_share=1, noise_share=1))
    unit = normalizer.apply(voxels, normalizer.fit(voxels))
    np.testing.assert_array_equal(unit, voxels == 9)


def test_a_large_offset_costs_no_precision():
    """float32 alone could not tell these values apart once shifted."""
    voxels = np.arange(100.0).reshape(1, 1, 10, 10) + 1e9
    normalizer = MRINormalizer()
    unit = normalizer.apply(voxels, normalizer.fit(voxels))
    assert len(np.unique(unit)) == 100


def test_statistics_of_other_channels_are_refused():
    voxels = head()
    normalizer = MRINormalizer()
    with pytest.raises(DataError, match="statistics of 1 channels given for an image of 2"):
        normalizer.apply(voxels, normalizer.fit(voxels[:1]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"percentiles": (99, 1)},
        {"percentiles": (5, 5)},
        {"percentiles": (-1, 99)},
        {"percentiles": (1, 101)},
        {"background_share": 0},
        {"background_share": 1.5},
        {"noise_level": 1},
        {"noise_level": -0.1},
        {"noise_share": 0},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        validate(MRISettings, wrong, "settings")


@pytest.mark.parametrize(("dtype", "limit"), [(np.int16, 0.25), (np.float32, 0.25), (np.float64, 0.25)])
def test_fit_needs_no_wider_copy(dtype, limit):
    """Peak memory over the input's: values are counted a block at a time."""
    voxels = np.random.default_rng(3).integers(0, 4000, (1, 160, 256, 256)).astype(dtype)
    normalizer = MRINormalizer()
    tracemalloc.start()
    try:
        normalizer.fit(voxels)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= limit * voxels.nbytes


def test_apply_needs_little_more_than_its_output():
    voxels = np.ones((1, 64, 256, 256), np.int16)
    normalizer = MRINormalizer()
    stats = normalizer.fit(voxels)
    tracemalloc.start()
    try:
        unit = normalizer.apply(voxels, stats)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= unit.nbytes + voxels.nbytes / 4
