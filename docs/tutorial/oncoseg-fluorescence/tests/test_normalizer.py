"""The normalizer keeps the contract, and does what its docstring says."""

import numpy as np
import pytest
from oncoseg_testing import check_normalizer
from pydantic import ValidationError

from oncoseg_fluorescence.normalizer import FluorescenceNormalizer, FluorescenceSettings
from oncoseg_fluorescence.plugin import SPEC


def test_it_keeps_the_contract():
    check_normalizer(FluorescenceNormalizer(), spec=SPEC)


def test_a_quarter_of_the_way_up_becomes_a_half():
    voxels = np.arange(101.0).reshape(1, 1, 1, 101)
    normalizer = FluorescenceNormalizer(FluorescenceSettings(percentiles=(0, 100)))
    unit = normalizer.apply(voxels, normalizer.fit(voxels)).ravel()
    np.testing.assert_allclose(unit[[0, 25, 100]], [0, 0.5, 1], atol=1e-7)


def test_scale_and_offset_of_the_camera_do_not_matter():
    voxels = np.random.default_rng(0).poisson(30, (3, 2, 8, 8))
    normalizer = FluorescenceNormalizer()
    unit, other = (normalizer.apply(v, normalizer.fit(v)) for v in (voxels, 7 * voxels + 100))
    np.testing.assert_allclose(other, unit, atol=1e-6)


def test_photon_noise_becomes_alike_in_dim_and_in_bright_places():
    rng = np.random.default_rng(0)
    voxels = np.stack([rng.poisson(count, 10_000) for count in (20, 100)]).reshape(1, 2, 100, 100)
    noise = {
        gamma: FluorescenceNormalizer(FluorescenceSettings(percentiles=(0, 100), gamma=gamma))
        .apply(voxels, {"low": (0.0,), "high": (200.0,)})
        .std((0, 2, 3))
        for gamma in (0.5, 1.0)
    }
    assert noise[0.5][1] == pytest.approx(noise[0.5][0], rel=0.05)
    assert noise[1.0][1] == pytest.approx(5**0.5 * noise[1.0][0], rel=0.05)


@pytest.mark.parametrize("wrong", [{"percentiles": (99, 1)}, {"gamma": 0}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        FluorescenceSettings(**wrong)
