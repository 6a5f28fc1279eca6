"""NIfTI: which of a header's statements counts, what is told of the others, and masks that lie where the image does."""

import gzip
import struct

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from oncoseg_core import ImageReadError, Segmentation
from oncoseg_core.imaging import read_label, read_volume, write_segmentation

SHAPE = (6, 5, 4)  # x, y, z


def nifti(path, *, qcode=0, scode=0, pixdim=(0.8, 0.7, 2.5), qfac=1.0, quatern=(0, 0, 0), qoffset=(0, 0, 0), srow=None,
          units=2, slope=1.0, intercept=0.0, shape=SHAPE, dtype=np.int16):  # fmt: skip
    """Write a NIfTI-1 file with any header, byte by byte."""
    voxels = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<2h", header, 70, {"int16": 4, "uint8": 2}[voxels.dtype.name], voxels.itemsize * 8)
    struct.pack_into("<8f", header, 76, qfac, *pixdim, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, 352, slope, intercept)
    header[123] = units
    struct.pack_into("<2h", header, 252, qcode, scode)
    struct.pack_into("<6f", header, 256, *quatern, *qoffset)
    if srow is not None:
        struct.pack_into("<12f", header, 280, *np.asarray(srow, float).ravel())
    header[344:348] = b"n+1\0"
    path.write_bytes(bytes(header) + voxels.tobytes(order="F"))
    return path


MIRRORED = {
    "srow": [[0.8, 0, 0, -50], [0, 0.7, 0, -40], [0, 0, 2.5, -100]],
    "quatern": (0, 1, 0), "qoffset": (50, -40, -100), "qfac": -1.0,
}  # fmt: skip
"""The sform says that x grows to the right, the qform that it grows to the left."""


def ras(volume):
    return np.diag([-1, -1, 1, 1]) @ volume.geometry.affine


@pytest.mark.parametrize(("qcode", "scode"), [(1, 1), (1, 4), (4, 1), (2, 1), (1, 2)])
def test_two_forms_that_disagree_are_told_and_the_sform_counts_as_in_nibabel(tmp_path, qcode, scode):
    volume = read_volume(nifti(tmp_path / "a.nii", qcode=qcode, scode=scode, **MIRRORED), "ct")
    assert np.allclose(ras(volume), nibabel.load(tmp_path / "a.nii").affine)
    (note,) = volume.notes
    assert f"sform (code {scode}) and qform (code {qcode}) lie up to 100 mm apart: the sform is taken" in note


def readers_grids(path):
    """The place of a file's voxels to every reader, by who reads it so."""
    header = nibabel.load(path).header
    image = sitk.ReadImage(path)
    itk = np.eye(4)
    itk[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    itk[:3, 3] = image.GetOrigin()
    return {
        "best": header.get_best_affine(),
        "sform": header.get_sform() if header["sform_code"] else None,
        "qform": header.get_qform() if header["qform_code"] else None,
        "itk": itk,
        "units": header.get_xyzt_units()[0],
        "codes": [int(header["qform_code"]), int(header["sform_code"])],
    }


FORMS = st.sampled_from([(0, 0), (1, 0), (0, 1), (1, 1), (1, 4), (2, 1), (4, 2)])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    codes=FORMS, turn=st.tuples(*[st.floats(-180, 180)] * 3), other=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 6)] * 3), offset=st.tuples(*[st.floats(-300, 300)] * 3),
    qfac=st.sampled_from([-1.0, 1.0]), same=st.booleans(), units=st.sampled_from([0, 1, 2, 3]),
    suffix=st.sampled_from([".nii", ".nii.gz"]), seed=st.integers(0, 99),
)  # fmt: skip
def test_every_reader_sees_a_mask_where_it_sees_the_image(
    tmp_path, codes, turn, other, spacing, offset, qfac, same, units, suffix, seed
):
    rotation = Rotation.from_euler("xyz", turn, degrees=True)
    quaternion = rotation.as_quat()  # x, y, z, w
    quaternion *= 1 if quaternion[3] >= 0 else -1
    axes = (rotation if same else Rotation.from_euler("xyz", other, degrees=True)).as_matrix()
    srow = np.column_stack([axes * spacing * (1, 1, qfac), offset])
    image = nifti(
        tmp_path / "a.nii", qcode=codes[0], scode=codes[1], pixdim=spacing, quatern=quaternion[:3], qoffset=offset,
        qfac=qfac, srow=srow, units=units,
    )  # fmt: skip
    volume = read_volume(image, "ct")
    mask = np.random.default_rng(seed).random(volume.geometry.shape) < 0.5
    path = tmp_path / f"mask{len(suffix)}{suffix}"  # ITK takes the voxels of a twin without .gz
    write_segmentation(Segmentation({"t": mask}, volume.geometry, image_handle=volume.handle), path)
    assert np.array_equal(read_label(path, volume) == 1, mask)
    assert np.array_equal(np.asarray(nibabel.load(path).dataobj).T == 1, mask)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(path)) == 1, mask)
    seen, expected = readers_grids(path), readers_grids(image)
    for reader, grid in expected.items():
        assert np.array_equal(seen[reader], grid), reader
    if units == 2 and any(codes):
        best = expected["sform"] if expected["sform"] is not None else expected["qform"]
        assert np.allclose(ras(volume), best, atol=1e-3)


def test_a_mask_for_another_grid_does_not_take_the_header(tmp_path):
    """As where an image was resampled: the handle is of the file, the geometry is not."""
    volume = read_volume(nifti(tmp_path / "a.nii", scode=1, **MIRRORED), "ct")
    moved = read_volume(
        nifti(tmp_path / "b.nii", scode=1, srow=np.array(MIRRORED["srow"]) + [[0, 0, 0, 7]] * 3), "ct"
    ).geometry
    mask = np.ones(moved.shape, bool)
    write_segmentation(Segmentation({"t": mask}, moved, image_handle=volume.handle), tmp_path / "m.nii")
    assert np.allclose(nibabel.load(tmp_path / "m.nii").affine[:3, 3], [-43, -33, -93], atol=1e-4)


def test_texts_of_the_image_header_are_not_copied_to_the_mask(tmp_path):
    path = nifti(tmp_path / "a.nii", scode=1, **MIRRORED)
    content = bytearray(path.read_bytes())
    for at in (14, 148, 228, 328):  # db_name, descrip, aux_file, intent_name
        content[at : at + 9] = b"DOE^JANE1"
    path.write_bytes(content)
    volume = read_volume(path, "ct")
    mask = np.ones(volume.geometry.shape, bool)
    write_segmentation(Segmentation({"t": mask}, volume.geometry, image_handle=volume.handle), tmp_path / "m.nii")
    assert b"DOE" not in (tmp_path / "m.nii").read_bytes()


def test_forms_that_differ_by_the_rounding_of_the_quaternion_are_one(tmp_path):
    for seed in range(20):
        turn = Rotation.from_euler("xyz", np.random.default_rng(seed).uniform(-15, 15, 3), degrees=True).as_matrix()
        affine = np.eye(4)
        affine[:3, :3] = turn * (0.7, 0.7, 1.0)
        image = nibabel.Nifti1Image(np.zeros((512, 512, 3), np.uint8), affine)
        image.header.set_qform(affine, 1)
        image.header.set_sform(affine, 2)
        nibabel.save(image, tmp_path / "image.nii")
        nibabel.save(nibabel.Nifti1Image(np.zeros((512, 512, 3), np.uint8), affine), tmp_path / "label.nii")
        volume = read_volume(tmp_path / "image.nii", "mri")
        assert volume.notes == ()
        read_label(tmp_path / "label.nii", volume)


def test_both_codes_zero_is_the_first_method_of_the_standard_and_a_note(tmp_path):
    volume = read_volume(nifti(tmp_path / "a.nii"), "ct")
    assert np.allclose(ras(volume), np.diag([0.8, 0.7, 2.5, 1]), atol=1e-6)
    assert volume.physical
    assert "the codes of qform and sform are 0" in volume.notes[0]


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("codes", [{}, {"qcode": 1}])
def test_a_voxel_size_that_nobody_told_gives_no_millimetres(tmp_path, bad, codes):
    volume = read_volume(nifti(tmp_path / "a.nii", pixdim=(0.8, 0.7, bad), **codes), "ct")
    assert not volume.physical
    assert volume.geometry.spacing == (1, 1, 1)
    assert any("gives no size of voxels along z (pixdim 0.8, 0.7, " in note for note in volume.notes)
    mask = np.ones(volume.geometry.shape, bool)
    write_segmentation(Segmentation({"t": mask}, volume.geometry, image_handle=volume.handle), tmp_path / "m.nii.gz")
    assert not read_volume(tmp_path / "m.nii.gz", "label").physical


def test_an_sform_tells_millimetres_whatever_pixdim_says(tmp_path):
    silent = read_volume(nifti(tmp_path / "a.nii", scode=1, pixdim=(0, 0, 0), srow=MIRRORED["srow"]), "ct")
    assert silent.physical
    assert silent.geometry.spacing == pytest.approx((2.5, 0.7, 0.8))
    assert silent.notes == ()
    other = read_volume(nifti(tmp_path / "b.nii", scode=1, pixdim=(1, 1, 1), srow=MIRRORED["srow"]), "ct")
    assert other.notes == (
        "its pixdim tells voxels of 1 x 1 x 1 mm, its sform of 0.8 x 0.7 x 2.5 mm: the sform is taken",
    )


BROKEN = {
    "nan": {"srow": np.full((3, 4), np.nan)},
    "flat": {"srow": [[0.8, 0, 0, 0], [0, 0.7, 0, 0], [0, 0, 0, 0]]},
    "parallel": {"srow": [[0.8, 0.8, 0, 0], [0.7, 0.7, 0, 0], [0, 0, 2.5, 0]]},
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_form_that_is_no_place_gives_way_to_the_other_with_a_note(tmp_path, how):
    volume = read_volume(nifti(tmp_path / "a.nii", qcode=1, scode=1, **BROKEN[how]), "ct")
    assert np.allclose(ras(volume), np.diag([0.8, 0.7, 2.5, 1]), atol=1e-6)
    assert volume.notes == ("its sform (code 1) is no place (not finite, or without an inverse)",)


@pytest.mark.parametrize(
    "broken",
    [{"scode": 1, **BROKEN["nan"]}, {"qcode": 1, "quatern": (2, 0, 0)}, {"qcode": 1, "qoffset": (np.inf, 0, 0)},
     {"qcode": 1, "scode": 1, "quatern": (np.nan, 0, 0), **BROKEN["flat"]}],
)  # fmt: skip
def test_no_form_that_is_a_place_is_refused(tmp_path, broken):
    with pytest.raises(ImageReadError, match=r"a\.nii: its .form \(code 1\) is no place .*write its header again"):
        read_volume(nifti(tmp_path / "a.nii", **broken), "ct")


def test_a_sheared_sform_gives_way_to_a_qform_with_a_note(tmp_path):
    sheared = [[0.8, 0.3, 0, 0], [0, 0.7, 0, 0], [0, 0, 2.5, 0]]
    volume = read_volume(nifti(tmp_path / "a.nii", qcode=1, scode=4, srow=sheared), "ct")
    assert "the qform is taken" in volume.notes[0]
    with pytest.raises(ImageReadError, match="its axes are not at right angles"):
        read_volume(nifti(tmp_path / "b.nii", scode=4, srow=sheared), "ct")


def test_axes_off_right_angles_by_the_digits_of_the_header_are_straight(tmp_path):
    rounded = np.round(Rotation.from_euler("xyz", (20, 30, 10), degrees=True).as_matrix(), 3)
    volume = read_volume(
        nifti(tmp_path / "a.nii", scode=1, pixdim=(1, 1, 1), srow=np.column_stack([rounded, [1, 2, 3]])), "mri"
    )
    assert volume.geometry.irregularity is None
    assert np.allclose(ras(volume)[:3, :3], rounded, atol=1e-3)


@pytest.mark.parametrize(("units", "factor"), [(0, 1), (1, 1000), (2, 1), (3, 0.001), (2 | 8, 1), (4, 1)])
def test_units_are_those_of_the_header(tmp_path, units, factor):
    volume = read_volume(nifti(tmp_path / "a.nii", scode=1, srow=MIRRORED["srow"], units=units), "ct")
    assert volume.geometry.spacing == pytest.approx(tuple(np.array((2.5, 0.7, 0.8)) * factor))
    assert volume.geometry.origin == pytest.approx(tuple(np.array((50, 40, -100)) * factor))
    itk = sitk.ReadImage(tmp_path / "a.nii")
    assert itk.GetSpacing() == pytest.approx(volume.geometry.spacing[::-1], rel=1e-5)
    assert itk.GetOrigin() == pytest.approx(volume.geometry.origin, rel=1e-5)


def test_an_intercept_beside_a_slope_of_zero_is_ignored_with_a_note(tmp_path):
    """nifti1.h: where scl_slope is 0 there is no scaling; ITK adds the intercept all the same."""
    volume = read_volume(nifti(tmp_path / "a.nii", scode=1, srow=MIRRORED["srow"], slope=0, intercept=-1024), "ct")
    assert np.array_equal(volume.voxels[0], nibabel.load(tmp_path / "a.nii").get_fdata().T)
    assert "its intercept -1024 stands beside a slope of 0" in volume.notes[0]


def test_an_intercept_that_is_no_number_is_refused(tmp_path):
    with pytest.raises(ImageReadError, match="intercept nan"):
        read_volume(nifti(tmp_path / "a.nii", slope=2, intercept=np.nan), "ct")


def test_two_axes_keep_their_place_and_have_no_millimetres_across(tmp_path):
    nibabel.save(
        nibabel.Nifti1Image(np.arange(12, dtype=np.int16).reshape(3, 4), np.diag([2, 3, 5, 1])), tmp_path / "two.nii"
    )
    volume = read_volume(tmp_path / "two.nii", "mri")
    assert volume.voxels.shape == (1, 1, 4, 3)
    assert not volume.physical
    mask = np.ones((1, 4, 3), bool)
    write_segmentation(Segmentation({"t": mask}, volume.geometry, image_handle=volume.handle), tmp_path / "m.nii")
    assert nibabel.load(tmp_path / "m.nii").shape == (3, 4)
    assert np.allclose(nibabel.load(tmp_path / "m.nii").affine, np.diag([2, 3, 5, 1]))


@pytest.mark.parametrize("order", "<>")
def test_nifti_2_is_read(tmp_path, order):
    affine = np.diag([0.8, 0.7, 2.5, 1])
    voxels = np.arange(120, dtype=f"{order}i2").reshape(SHAPE)
    nibabel.save(nibabel.Nifti2Image(voxels, affine, nibabel.Nifti2Header(endianness=order)), tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz", "ct")
    assert np.array_equal(volume.voxels[0], voxels.T)
    assert np.allclose(ras(volume), affine)
    mask = volume.voxels[0] > 50
    write_segmentation(Segmentation({"t": mask}, volume.geometry, image_handle=volume.handle), tmp_path / "m.nii.gz")
    assert np.allclose(nibabel.load(tmp_path / "m.nii.gz").affine, affine)


def test_components_on_the_fifth_axis_are_channels(tmp_path):
    array = np.random.default_rng(0).integers(-9, 9, (6, 5, 4, 1, 3)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii")
    assert np.array_equal(read_volume(tmp_path / "a.nii", "mri").voxels, array[:, :, :, 0].transpose(3, 2, 1, 0))


def test_the_content_says_whether_a_file_is_compressed(tmp_path):
    plain = nifti(tmp_path / "a.nii", scode=1, srow=MIRRORED["srow"]).read_bytes()
    (tmp_path / "plain.nii.gz").write_bytes(plain)
    (tmp_path / "packed.nii").write_bytes(gzip.compress(plain))
    expected = read_volume(tmp_path / "a.nii", "ct").voxels
    for name in ("plain.nii.gz", "packed.nii"):
        assert np.array_equal(read_volume(tmp_path / name, "ct").voxels, expected)


@pytest.mark.parametrize(
    ("at", "values"), [(40, (3, 6, -5, 4)), (40, (0, 6, 5, 4)), (40, (9, 6, 5, 4)), (40, (3, 0, 5, 4))]
)
def test_a_header_with_impossible_axes_is_refused(tmp_path, at, values):
    path = nifti(tmp_path / "a.nii")
    content = bytearray(path.read_bytes())
    struct.pack_into("<4h", content, at, *values)
    path.write_bytes(content)
    with pytest.raises(ImageReadError, match=r"declares axes of .*; it is damaged"):
        read_volume(path, "ct")


def test_a_short_file_with_a_large_claim_is_refused_before_memory_is_taken(tmp_path):
    path = nifti(tmp_path / "a.nii")
    content = bytearray(path.read_bytes())
    struct.pack_into("<4h", content, 40, 3, 30000, 30000, 30000)
    path.write_bytes(content)
    with pytest.raises(ImageReadError, match="is cut short: its header promises 54000000000000 voxel bytes"):
        read_volume(path, "ct")


@pytest.mark.parametrize(("code", "what"), [(32, "complex numbers"), (1536, "datatype 1536"), (1, "datatype 1,")])
def test_values_that_are_not_read_are_named(tmp_path, code, what):
    path = nifti(tmp_path / "a.nii")
    content = bytearray(path.read_bytes())
    struct.pack_into("<h", content, 70, code)
    path.write_bytes(content)
    with pytest.raises(ImageReadError, match=what):
        read_volume(path, "ct")
