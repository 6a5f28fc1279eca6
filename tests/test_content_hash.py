"""One scan has one content hash, however it is stored; another scan has another. The voxels are generated, but for one."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oncoseg_core import DatasetSpec, Geometry, load_plugins
from oncoseg_core.imaging import voxel_hash as module
from oncoseg_core.imaging.formats import read_volume
from oncoseg_core.imaging.voxel_hash import content_hash

SHAPES = st.tuples(*[st.integers(1, 5)] * 4)
DTYPES = ["u1", "i1", "<i2", ">i2", "<u2", "<i4", ">i4", "<i8", "<f4", ">f4", "<f8", ">f8"]


@pytest.fixture(scope="module")
def samples():
    return load_plugins().build(DatasetSpec, "samples").fetch(lambda *_: None)


def hashed(voxels, affine=None):
    geometry = Geometry(voxels.shape[1:], np.eye(4) if affine is None else affine)
    return content_hash(voxels, geometry)


@given(hnp.arrays(np.int64, SHAPES, elements=st.integers(0, 127)), st.sampled_from(DTYPES), st.sampled_from("CF"))
def test_equal_numbers_have_one_hash_in_any_dtype_byte_order_and_layout(voxels, dtype, order):
    assert hashed(voxels) == hashed(np.array(voxels, dtype=dtype, order=order))


@given(hnp.arrays(np.float32, SHAPES, elements=st.floats(width=32)))
def test_a_float_is_the_same_in_double_and_zeros_and_nans_are_of_one_kind(voxels):
    expected = hashed(voxels)
    assert hashed(voxels.astype(np.float64)) == expected
    assert hashed(voxels.astype(">f4")) == expected
    with np.errstate(invalid="ignore"):
        assert hashed(np.where(voxels == 0, -voxels, voxels)) == expected
    other_nan = np.array([0x7FC00001], np.uint32).view(np.float32)[0]
    assert hashed(np.where(np.isnan(voxels), other_nan, voxels).astype(np.float32)) == expected


@given(hnp.arrays(np.float64, SHAPES, elements=st.floats()), st.data())
def test_another_number_or_shape_or_place_is_another_scan(voxels, data):
    changed = voxels.copy()
    position = data.draw(st.integers(0, voxels.size - 1))
    changed.flat[position] = data.draw(st.floats().filter(lambda x: not np.array_equal(x, voxels.flat[position], True)))
    assert hashed(changed) != hashed(voxels)
    assert hashed(np.concatenate([voxels, voxels], axis=1)) != hashed(voxels)
    if voxels.shape[1] != voxels.shape[2]:
        assert hashed(voxels.reshape(voxels.shape[0], voxels.shape[2], voxels.shape[1], -1)) != hashed(voxels)


BEYOND_DOUBLES = [2**53, 2**53 + 1, 2**63 - 1, 2**63 - 1024, -(2**63), -(2**53) - 1, 2**31, 2**40]


@given(st.lists(st.sampled_from(BEYOND_DOUBLES), min_size=1, max_size=4))
def test_whole_numbers_too_long_for_a_float_keep_every_digit(numbers):
    voxels = np.array(numbers, np.int64).reshape(1, 1, 1, -1)
    if all(float(number) == number for number in numbers):
        assert hashed(voxels) == hashed(voxels.astype(np.float64))
    if min(numbers) >= 0:
        assert hashed(voxels) == hashed(voxels.astype(np.uint64))
    for position, step in itertools.product(range(len(numbers)), (-1, 1)):
        near = [number + step * (place == position) for place, number in enumerate(numbers)]
        if -(2**63) <= near[position] < 2**63:
            assert hashed(np.array(near, np.int64).reshape(1, 1, 1, -1)) != hashed(voxels)


@settings(deadline=None)
@given(
    hnp.arrays(np.int16, SHAPES, elements=st.integers(-1000, 1000)),
    st.permutations(range(3)),
    st.tuples(*[st.booleans()] * 3),
    st.integers(1, 300),
)
def test_a_scan_saved_with_other_axes_is_the_same_scan(voxels, order, flips, block):
    """ITK reorders the axes and keeps the place of every voxel: an independent tool, as another program would save it."""
    images = []
    for channel in voxels:
        image = sitk.GetImageFromArray(channel)
        image.SetSpacing((0.7, 0.8, 3.0))
        image.SetOrigin((-10.0, 20.0, 30.0))
        images.append(sitk.Flip(sitk.PermuteAxes(image, order), flips))
    turned = np.stack([sitk.GetArrayFromImage(image) for image in images])
    geometry = Geometry.from_parts(
        turned.shape[1:], images[0].GetSpacing()[::-1], images[0].GetDirection(), images[0].GetOrigin()
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_BYTES", block)  # so small that a volume takes several blocks
        assert content_hash(turned, geometry) == hashed(voxels)


def test_a_real_scan_is_found_again_in_another_format_dtype_and_orientation(tmp_path, samples):
    original = read_volume(samples / "brain1_image.nrrd", "mri")
    expected = content_hash(original.voxels, original.geometry)
    image = sitk.ReadImage(str(samples / "brain1_image.nrrd"))
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    sitk.WriteImage(sitk.DICOMOrient(sitk.Cast(image, sitk.sitkFloat64), "PIR"), str(tmp_path / "b.mha"))
    for name in ("a.nii.gz", "b.mha"):
        volume = read_volume(tmp_path / name, "mri")
        assert content_hash(volume.voxels, volume.geometry) == expected
    other = read_volume(samples / "brain2_image.nrrd", "mri")
    assert content_hash(other.voxels, other.geometry) != expected
