"""The normalizer keeps the contract, and does what its docstring says."""

import numpy as np
import pytest
from oncoseg_testing import check_normalizer
from pydantic import ValidationError

from oncoseg_newname.normalizer import NewnameNormalizer, NewnameSettings
from oncoseg_newname.plugin import SPEC


def test_it_keeps_the_contract():
    check_normalizer(NewnameNormalizer(), spec=SPEC)


def test_the_percentiles_become_0_and_1():
    voxels = np.arange(101.0).reshape(1, 1, 1, 101)
    normalizer = NewnameNormalizer(NewnameSettings(percentiles=(10, 90)))
    unit = normalizer.apply(voxels, normalizer.fit(voxels)).ravel()
    np.testing.assert_allclose(unit[[0, 10, 50, 90, 100]], [0, 0, 0.5, 1, 1], atol=1e-7)


def test_scale_and_offset_of_the_scanner_do_not_matter():
    voxels = np.random.default_rng(0).normal(size=(3, 2, 8, 8))
    normalizer = NewnameNormalizer()
    unit, other = (normalizer.apply(v, normalizer.fit(v)) for v in (voxels, 7 * voxels + 100))
    np.testing.assert_allclose(other, unit, atol=1e-6)


def test_wrong_percentiles_are_refused():
    with pytest.raises(ValidationError, match="below the high one"):
        NewnameSettings(percentiles=(99, 1))
