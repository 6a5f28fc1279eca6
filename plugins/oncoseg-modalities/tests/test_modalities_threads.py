"""Threads change nothing but the time. The images are generated."""

import numpy as np
import pytest

from oncoseg_core.system import threads
from oncoseg_modalities.ct import CTNormalizer
from oncoseg_modalities.mri import MRINormalizer
from oncoseg_modalities.srh import SRHNormalizer


@pytest.mark.parametrize("normalizer", [CTNormalizer(), MRINormalizer(), SRHNormalizer()])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_large_volume_gives_what_its_parts_give(normalizer, dtype, monkeypatch):
    voxels = np.random.default_rng(0).normal(200, 400, (2, 30, 64, 48)).astype(dtype)
    stats = normalizer.fit(voxels)
    alone = normalizer.apply(voxels, stats)
    monkeypatch.setattr(threads, "_LARGE", 0)
    monkeypatch.setattr(threads, "_processors", lambda: 3)
    assert normalizer.fit(voxels) == stats
    np.testing.assert_array_equal(normalizer.apply(voxels, stats), alone)
