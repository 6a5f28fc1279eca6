"""The CT window, and telling Hounsfield units from other values. Images here are generated."""

import numpy as np
import pytest

from oncoseg_core import ConfigError
from oncoseg_core.plugins.configuration import validate
from oncoseg_modalities.ct import CTNormalizer, CTSettings

DTYPES = [np.int16, np.int32, np.float32, np.float64, ">i2", ">f4"]


def patient(dtype=np.int16, shape=(1, 8, 64, 64)):
    """A block of soft tissue with bone in air, in Hounsfield units with noise."""
    rng = np.random.default_rng(0)
    hu = rng.normal(-1000, 10, shape)
    hu[:, :, 16:48, 16:48] = rng.normal(40, 15, (*shape[:2], 32, 32))
    hu[:, :, 30:34, 30:34] = 900
    return hu.round().astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_window_is_exact_at_its_ends_and_middle(dtype):
    hu = np.array([-3024, -1001, -1000, 0, 1000, 1001, 3071], dtype).reshape(1, 1, 1, -1)
    normalizer = CTNormalizer()
    unit = normalizer.apply(hu, normalizer.fit(hu))
    assert unit.ravel().tolist() == [0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 1.0]


def test_window_is_linear_and_does_not_depend_on_the_volume():
    normalizer = CTNormalizer(CTSettings(window=(-160, 240)))
    unit = normalizer.apply(np.array([[[-160, -60, 40, 140, 240]]], np.int16), normalizer.fit(patient()))
    np.testing.assert_array_equal(unit[0, 0], np.float32([0, 0.25, 0.5, 0.75, 1]))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, ">i2"])
@pytest.mark.parametrize(
    "window",
    [
        (-1000, 1000),
        (-2000, -1500),
        (300, 40_000),
        (-32_768, 32_767),
        (-40_000, 40_000),
        (0, 255),
        (-128, 127),
        (5.5, 9),
        (70_000, 80_000),
    ],
)
def test_every_whole_number_is_mapped_as_the_same_number_in_float64(dtype, window):
    """All values of the type, and windows within it, across its ends and beyond."""
    limits = np.iinfo(dtype)
    values = np.arange(limits.min, limits.max + 1).astype(dtype).reshape(1, 1, 1, -1)
    normalizer = CTNormalizer(CTSettings(window=window))
    np.testing.assert_array_equal(normalizer.apply(values, {}), normalizer.apply(values.astype(np.float64), {}))


@pytest.mark.parametrize("window", [(100, 100), (1000, -1000), (float("nan"), 0), (-1000, float("inf")), (1,)])
def test_impossible_window_is_refused(window):
    with pytest.raises(ConfigError, match="window"):
        validate(CTSettings, {"window": window}, "settings")


@pytest.mark.parametrize("dtype", DTYPES)
def test_hounsfield_units_are_recognised(dtype):
    assert CTNormalizer().recognises(patient(dtype))


@pytest.mark.parametrize("padding", [-1024, -2000, -3024])
def test_padding_outside_the_scanner_is_allowed(padding):
    voxels = patient()
    voxels[:, :, :4] = padding
    assert CTNormalizer().recognises(voxels)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(patient() + 1024, id="stored values without the rescale intercept"),
        pytest.param(patient(np.float32) + np.float32(0.5), id="fractions"),
        pytest.param(patient() // 2, id="another scale"),
        pytest.param(np.where(patient() == patient().min(), -4096, patient()), id="below any padding"),
        pytest.param(np.minimum(patient(), 99), id="no bone"),
        pytest.param(np.where(patient() < -900, -800, patient()), id="no air"),
        pytest.param(
            np.random.default_rng(0).normal(0, 250, (1, 8, 64, 64)).round(), id="signed, one tail reaches -1000"
        ),
        pytest.param(np.where(np.abs(patient()) < 150, 600, patient()), id="no soft tissue"),
        pytest.param(np.linspace(-3141, 3141, 8 * 64 * 64).round().reshape(1, 8, 64, 64), id="phase"),
        pytest.param(np.zeros((1, 1, 4, 4), np.uint8), id="nothing"),
    ],
)
def test_other_values_are_not_recognised(other):
    assert not CTNormalizer().recognises(other)


def test_recognising_looks_at_a_sample_only(monkeypatch):
    """A view of 512 x 512 x 1000 voxels that is never copied: only the sample is ever materialised."""
    seen = []
    count_nonzero = np.count_nonzero
    monkeypatch.setattr(np, "count_nonzero", lambda a: seen.append(a.size) or count_nonzero(a))
    volume = np.broadcast_to(np.repeat(patient(), 8, axis=-1).repeat(8, axis=-2)[:, :1], (1, 1000, 512, 512))
    assert CTNormalizer().recognises(volume)
    assert seen
    assert max(seen) <= 1 << 18


def test_sample_visits_the_whole_width():
    """Air only in the outermost columns of an even width is still seen."""
    volume = np.full((1, 64, 256, 256), 40, np.int16)
    volume[..., :8] = -1000
    volume[..., 128:140] = 700
    for shift in range(1, 256, 8):
        assert CTNormalizer().recognises(np.roll(volume, shift, axis=-1))
