"""Properties of every normalizer, on generated voxels, and proof that each property can fail.

A property is a plain function of a normalizer and voxels. Each runs on the first-party normalizers, and on a
deliberately broken one that it must catch.
"""

import json
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oncoseg_core import Normalizer
from oncoseg_modalities.ct import CTNormalizer
from oncoseg_modalities.cxr import CXRNormalizer
from oncoseg_modalities.dermoscopy import DermoscopyNormalizer
from oncoseg_modalities.endoscopy import EndoscopyNormalizer
from oncoseg_modalities.intensity.linear import to_unit
from oncoseg_modalities.intensity.percentile import PercentileNormalizer, PercentileSettings
from oncoseg_modalities.mammography import MammographyNormalizer
from oncoseg_modalities.mri import MRINormalizer
from oncoseg_modalities.pet import PETNormalizer
from oncoseg_modalities.srh import SRHNormalizer
from oncoseg_modalities.ultrasound import UltrasoundNormalizer
from oncoseg_modalities.xray import XRayNormalizer

DTYPES = ["|i1", "|u1", "<i2", ">i2", "<u2", ">u2", "<i4", ">u4", "<i8", "<f2", "<f4", ">f4", "<f8", ">f8"]


class ByRank(PercentileNormalizer):
    """The base class with all voxels, as a later modality will use it."""

    class Settings(PercentileSettings):
        percentiles: tuple[float, float] = (2.0, 98.0)


SEPARATE = [MRINormalizer, PETNormalizer, SRHNormalizer, ByRank]
PICTURES = [
    CXRNormalizer,
    DermoscopyNormalizer,
    EndoscopyNormalizer,
    MammographyNormalizer,
    UltrasoundNormalizer,
    XRayNormalizer,
]
BY_PERCENTILE = [*SEPARATE, *PICTURES]
FIRST_PARTY = [CTNormalizer, *BY_PERCENTILE]


@st.composite
def volumes(draw, dtypes=DTYPES):
    """Voxels (channel, z, y, x): any dtype and byte order, contiguous or not, now and then with a flat background."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)))
    if dtype.kind == "f":
        largest = {2: 65504.0, 4: 2.0**127, 8: 2.0**1000}[dtype.itemsize]
        elements = st.floats(-largest, largest, width=8 * dtype.itemsize) | st.sampled_from([0.0, -1000.0, 1000.0])
    else:
        info = np.iinfo(dtype)
        elements = st.integers(int(info.min), int(info.max)) | st.integers(0, 20)
    voxels = draw(hnp.arrays(dtype, shape, elements=elements))
    if draw(st.booleans()):
        voxels[draw(hnp.arrays(bool, shape))] = voxels.min()
    order = draw(st.permutations([1, 2, 3]))
    step = draw(st.sampled_from([1, -1, 2]))
    return voxels.transpose(0, *order)[..., ::step]


@st.composite
def small_integers(draw):
    """int32 voxels small enough that multiplying and adding is exact, with or without a flat background."""
    voxels = draw(hnp.arrays(np.int32, (2, 3, 5, 5), elements=st.integers(-200, 200)))
    if draw(st.booleans()):
        voxels[:, :, : draw(st.integers(1, 4))] = -300
    return voxels


def stays_in_range(normalizer, voxels):
    unit = normalizer.apply(voxels, normalizer.fit(voxels))
    assert unit.dtype == np.float32, "not float32"
    assert unit.shape == voxels.shape, "another shape"
    assert np.isfinite(unit).all(), "not finite"
    assert unit.min() >= 0, "below 0"
    assert unit.max() <= 1, "above 1"


def leaves_input_alone(normalizer, voxels):
    before = voxels.copy()
    normalizer.apply(voxels, normalizer.fit(voxels))
    assert voxels.tobytes() == before.tobytes()


def is_monotone(normalizer, voxels):
    for values, units in zip(voxels, normalizer.apply(voxels, normalizer.fit(voxels)), strict=True):
        order = np.argsort(values, axis=None)
        assert (np.diff(units.ravel()[order]) >= 0).all()
        assert np.unique(np.stack([values.ravel().astype(np.float64), units.ravel()]), axis=1).shape[1] == len(
            np.unique(values)
        ), "equal values became different"


def slice_equals_volume(normalizer, voxels):
    stats = normalizer.fit(voxels)
    whole = normalizer.apply(voxels, stats)
    for k in range(voxels.shape[1]):
        np.testing.assert_array_equal(normalizer.apply(voxels[:, k], stats), whole[:, k])


def stats_survive_json(normalizer, voxels):
    stats = normalizer.fit(voxels)
    try:
        read_back = json.loads(json.dumps(stats))
    except TypeError as error:
        raise AssertionError(error) from error
    np.testing.assert_array_equal(normalizer.apply(voxels, read_back), normalizer.apply(voxels, stats))


def layout_and_dtype_do_not_matter(normalizer, voxels):
    """Where float64 holds the same numbers it gives the same result; so do byte order and strides."""
    native = np.ascontiguousarray(voxels.astype(voxels.dtype.newbyteorder("=")))
    for same in (native, np.asfortranarray(native), native.astype(np.float64)):
        np.testing.assert_array_equal(
            normalizer.apply(same, normalizer.fit(same)), normalizer.apply(voxels, normalizer.fit(voxels))
        )


def channels_are_independent(normalizer, voxels):
    together = normalizer.apply(voxels, normalizer.fit(voxels))
    for c in range(voxels.shape[0]):
        alone = voxels[c : c + 1]
        np.testing.assert_array_equal(normalizer.apply(alone, normalizer.fit(alone))[0], together[c])


def constant_becomes_zero(normalizer, voxels):
    flat = np.full_like(voxels, voxels.flat[0])
    assert not normalizer.apply(flat, normalizer.fit(flat)).any()


def ignores_scale_and_offset(normalizer, voxels):
    expected = normalizer.apply(voxels, normalizer.fit(voxels))
    for a, b in ((1, 300), (7, 0), (50, -12345)):
        changed = a * voxels + b
        np.testing.assert_allclose(normalizer.apply(changed, normalizer.fit(changed)), expected, rtol=0, atol=1e-6)


def agrees_with_numpy(normalizer, voxels):
    """The limits are numpy's percentiles of the float64 values, without the background where there is one."""
    stats = normalizer.fit(voxels)
    rules = normalizer.settings
    for channel, low, high in zip(voxels, stats["low"], stats["high"], strict=True):
        values = np.sort(channel.astype(np.float64), axis=None)
        bottom, top = (values[int(percent / 100 * (values.size - 1))] for percent in rules.percentiles)
        noisy = values > bottom + rules.noise_level * (top - bottom)
        flat = values > bottom
        for share, above in ((rules.noise_share, noisy), (rules.background_share, flat)):
            if share < 1 and 1 - above.mean() >= share and above.any():
                values = values[above]
                break
        expected = np.percentile(values, rules.percentiles)
        if expected[0] == expected[1]:
            expected[0] = bottom
        np.testing.assert_array_equal((low, high), expected)


def nan_is_least_and_changes_nothing_else(normalizer, voxels):
    """A plane of NaN more: it becomes 0, and all others what they were without it."""
    gap = np.full_like(voxels[:, :1], np.nan)
    alone = normalizer.apply(voxels, normalizer.fit(voxels))
    padded = np.concatenate([voxels[:, :1], gap, voxels[:, 1:]], axis=1)
    unit = normalizer.apply(padded, normalizer.fit(padded))
    assert not unit[:, 1].any(), "NaN is not 0"
    np.testing.assert_array_equal(np.delete(unit, 1, axis=1), alone)


def infinity_lies_outside(normalizer, voxels):
    """Infinite voxels are clipped like any that lie outside, and count for nothing."""
    edges = np.full_like(voxels[:, [0, 0]], np.inf)
    edges[:, 1] = -np.inf
    alone = normalizer.apply(voxels, normalizer.fit(voxels))
    padded = np.concatenate([voxels, edges], axis=1)
    unit = normalizer.apply(padded, normalizer.fit(padded))
    np.testing.assert_array_equal(unit[:, :-2], alone)
    assert (unit[:, -2] == 1).all()
    assert not unit[:, -1].any()


def outliers_move_limits_by_their_share(normalizer, voxels):
    """Two voxels of the region that is looked at become as bright as can be: percentiles move by two ranks."""
    before = normalizer.fit(voxels)
    region = normalizer.region(voxels) if hasattr(normalizer, "region") else voxels
    changed = voxels.copy()
    inside = normalizer.region(changed) if hasattr(normalizer, "region") else changed
    inside[:, 0, 1, 1:3] = 2**30
    after = normalizer.fit(changed)
    low, high = normalizer.settings.percentiles
    share = 100 * 3 / region[0].size
    for channel, *limits in zip(region, before["low"], before["high"], after["low"], after["high"], strict=True):
        for percent, moved in ((low, limits[2]), (high, limits[3])):
            least, most = np.percentile(channel, [max(0, percent - share), min(100, percent + share)])
            assert least <= moved <= most, f"percentile {percent} moved to {moved}, beyond {least} to {most}"


class WithoutClip(ByRank):
    def apply(self, voxels, stats):
        low, high = (np.reshape(stats[k], (-1,) + (1,) * (voxels.ndim - 1)) for k in ("low", "high"))
        return ((voxels.astype(np.float64) - low) / np.maximum(high - low, 1e-30)).astype(np.float32)


class DividesByZero(ByRank):
    def apply(self, voxels, stats):
        low, high = (np.reshape(stats[k], (-1,) + (1,) * (voxels.ndim - 1)) for k in ("low", "high"))
        return ((np.clip(voxels.astype(np.float64), low, high) - low) / (high - low)).astype(np.float32)


class Float64Out(ByRank):
    def apply(self, voxels, stats):
        return super().apply(voxels, stats).astype(np.float64)


class WritesItsInput(ByRank):
    def apply(self, voxels, stats):
        voxels[...] = np.maximum(voxels, 1)
        return super().apply(voxels, stats)


class TurnsAround(ByRank):
    def apply(self, voxels, stats):
        return 1 - super().apply(voxels, stats)


class FitsEachSlice(ByRank):
    def apply(self, voxels, stats):
        return super().apply(voxels, self.fit(voxels))


class KeepsArrays(ByRank):
    def fit(self, voxels):
        return {name: np.array(values) for name, values in super().fit(voxels).items()}


class BlindToByteOrder(ByRank):
    def apply(self, voxels, stats):
        return super().apply(np.ascontiguousarray(voxels).view(voxels.dtype.newbyteorder("=")), stats)


class MixesChannels(ByRank):
    def fit(self, voxels):
        one = super().fit(voxels.reshape(1, -1, *voxels.shape[2:]))
        return {name: values * len(voxels) for name, values in one.items()}


class KeepsConstants(ByRank):
    def apply(self, voxels, stats):
        flat = [low == high for low, high in zip(stats["low"], stats["high"], strict=True)]
        return to_unit(voxels, [x - f for x, f in zip(stats["low"], flat, strict=True)], stats["high"])


class ZeroIsBackground(MRINormalizer):
    def fit(self, voxels):
        limits = [np.percentile(c[c != 0] if c.any() else c, self.settings.percentiles) for c in voxels]
        return {"low": tuple(float(x[0]) for x in limits), "high": tuple(float(x[1]) for x in limits)}


class NearestRank(MRINormalizer):
    def fit(self, voxels):
        limits = [np.percentile(c.astype(float), self.settings.percentiles, method="nearest") for c in voxels]
        return {"low": tuple(float(x[0]) for x in limits), "high": tuple(float(x[1]) for x in limits)}


class KeepsNan(ByRank):
    def apply(self, voxels, stats):
        return np.where(np.isnan(voxels), np.nan, super().apply(voxels, stats)).astype(np.float32)


class NanIsAValue(ByRank):
    def fit(self, voxels):
        return super().fit(np.nan_to_num(voxels, posinf=1e30, neginf=-1e30))


class FromLeastToMost(ByRank):
    class Settings(PercentileSettings):
        percentiles: tuple[float, float] = (0.0, 99.0)

    def fit(self, voxels):
        return {**super().fit(voxels), "high": tuple(float(channel.max()) for channel in voxels)}


ANY, SMALL = volumes(), small_integers()
FLOATS = volumes([d for d in DTYPES if "f" in d])
# Without a background: the same values once and in any order, so that no share of them is flat or dark.
SPREAD = st.permutations(range(1000)).map(
    lambda order: np.stack([1000 + 2 * np.reshape(order, (1, 25, 40)).astype(np.int32)] * 2)
)
CASES = [  # property, voxels, normalizers it holds for, one that breaks it
    (stays_in_range, ANY, FIRST_PARTY, WithoutClip),
    (stays_in_range, ANY, FIRST_PARTY, DividesByZero),
    (stays_in_range, ANY, FIRST_PARTY, Float64Out),
    (leaves_input_alone, ANY, FIRST_PARTY, WritesItsInput),
    (is_monotone, ANY, FIRST_PARTY, TurnsAround),
    (slice_equals_volume, ANY, FIRST_PARTY, FitsEachSlice),
    (stats_survive_json, ANY, FIRST_PARTY, KeepsArrays),
    (layout_and_dtype_do_not_matter, volumes([d for d in DTYPES if d != "<i8"]), FIRST_PARTY, BlindToByteOrder),
    (channels_are_independent, ANY, [CTNormalizer, *SEPARATE], MixesChannels),
    (constant_becomes_zero, ANY, BY_PERCENTILE, KeepsConstants),
    (ignores_scale_and_offset, SMALL, BY_PERCENTILE, ZeroIsBackground),
    (agrees_with_numpy, ANY, SEPARATE, NearestRank),
    (nan_is_least_and_changes_nothing_else, FLOATS, FIRST_PARTY, KeepsNan),
    (nan_is_least_and_changes_nothing_else, FLOATS, FIRST_PARTY, NanIsAValue),
    (infinity_lies_outside, FLOATS, FIRST_PARTY, NanIsAValue),
    (outliers_move_limits_by_their_share, SPREAD, BY_PERCENTILE, FromLeastToMost),
]


def run(prop, strategy, normalizer: Normalizer, phases=(Phase.generate, Phase.shrink)) -> None:
    @settings(
        phases=phases,
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=75,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def over_examples(voxels):
        prop(normalizer, voxels)

    over_examples()


def ids(case):
    return f"{case[0].__name__}-{case[3].__name__}"


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    ("prop", "strategy", "normalizer"),
    [
        pytest.param(case[0], case[1], normalizer, id=f"{case[0].__name__}-{normalizer.__name__}")
        for case in {case[0].__name__: case for case in CASES}.values()
        for normalizer in case[2]
    ],
)
def test_property_holds(prop, strategy, normalizer):
    run(prop, strategy, normalizer())


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_property_catches_a_broken_normalizer(case):
    prop, strategy, _, broken = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(AssertionError):
            run(prop, strategy, broken(), phases=[Phase.generate])
