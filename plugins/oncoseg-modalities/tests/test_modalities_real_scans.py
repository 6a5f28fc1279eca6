"""The normalizers on the real sample scans: two lung CTs, two MRs of the brain with clipped air, a cropped breast MR."""

import numpy as np
import pytest

from oncoseg_core import DatasetSpec, load_plugins
from oncoseg_core.imaging.formats import read_volume
from oncoseg_modalities.ct import CTNormalizer
from oncoseg_modalities.mri import MRINormalizer


@pytest.fixture(scope="module")
def scans():
    registry = load_plugins()
    if "samples" not in [spec.name for spec in registry.specs(DatasetSpec)]:
        pytest.skip("the samples come with oncoseg-datasets, which is not installed")
    adapter = registry.build(DatasetSpec, "samples")
    cases = adapter.discover(adapter.fetch(lambda *_: None))
    return {case.case_id: read_volume(case.images, case.modality) for case in cases}


def test_ct_is_told_from_mr(scans):
    assert {name for name, scan in scans.items() if CTNormalizer().recognises(scan.voxels)} == {"lung1", "lung2"}


@pytest.mark.parametrize(("name", "air", "darkest"), [("brain1", 0.40, 60), ("brain2", 0.44, 35)])
def test_noisy_air_is_left_out(scans, name, air, darkest):
    """The corner of each image is air; its noise lies below all that counts."""
    voxels = scans[name].voxels
    (low,) = MRINormalizer().fit(voxels)["low"]
    assert (voxels < low).mean() == pytest.approx(air, abs=0.02)
    assert low > darkest
    assert (voxels[..., :20, :20] < low).mean() > 0.99


def test_an_image_without_air_keeps_all_its_voxels(scans):
    voxels = scans["breast1"].voxels
    stats = MRINormalizer().fit(voxels)
    assert (*stats["low"], *stats["high"]) == tuple(np.percentile(voxels.astype(float), (1, 99)))


@pytest.mark.parametrize(("name", "normalizer"), [("lung1", CTNormalizer()), ("brain1", MRINormalizer())])
def test_slices_are_those_of_the_volume(scans, name, normalizer):
    voxels = scans[name].voxels
    stats = normalizer.fit(voxels)
    whole = normalizer.apply(voxels, stats)
    assert (whole.min(), whole.max()) == (0, 1)
    for k in range(voxels.shape[1]):
        np.testing.assert_array_equal(normalizer.apply(voxels[:, k], stats), whole[:, k])
