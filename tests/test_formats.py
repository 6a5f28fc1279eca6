"""Reading and writing images: real scans, every format, an independent reader, and files that are wrong."""

import gzip
import subprocess
import sys
import tracemalloc

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from oncoseg_core import (
    Case,
    DataError,
    Geometry,
    GeometryError,
    ImageReadError,
    Segmentation,
    StorageError,
    Target,
    UsageError,
)
from oncoseg_core.imaging.file_dataset import load_case
from oncoseg_core.imaging.formats import ONE_FILE_SUFFIXES, read_label, read_volume, require_finite, write_segmentation

OBLIQUE = Rotation.from_euler("xyz", (20, -35, 70), degrees=True).as_matrix()
VOLUME_FORMATS = [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"]


def write(path, voxels, spacing=(1.5, 0.7, 0.9), direction=OBLIQUE, origin=(-12.5, 40.0, 300.25)):
    """Write with SimpleITK alone; voxels (z, y, x) or (z, y, x, component)."""
    image = sitk.GetImageFromArray(voxels, isVector=voxels.ndim == 4)
    image.SetSpacing(spacing[::-1])
    image.SetDirection(np.asarray(direction).ravel().tolist())
    image.SetOrigin(origin)
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def voxels():
    return np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6)).astype(np.int16)


@pytest.mark.parametrize("suffix", VOLUME_FORMATS)
def test_volumes_come_back_with_their_axes_and_place(tmp_path, voxels, suffix):
    volume = read_volume(write(tmp_path / f"a{suffix}", voxels), "ct")
    assert volume.voxels.shape == (1, 4, 5, 6)
    assert volume.voxels.dtype == np.int16
    assert np.array_equal(volume.voxels[0], voxels)
    assert volume.voxels.flags.c_contiguous
    assert volume.geometry.spacing == pytest.approx((1.5, 0.7, 0.9), abs=1e-5)
    assert np.allclose(volume.geometry.direction, OBLIQUE, atol=1e-5)
    assert volume.geometry.origin == pytest.approx((-12.5, 40.0, 300.25), abs=1e-3)
    assert volume.physical


def test_the_grid_is_that_of_an_independent_reader(tmp_path, voxels):
    """nibabel keeps RAS; OncoSeg LPS: the same voxel must lie in the same place."""
    path = write(tmp_path / "a.nii.gz", voxels)
    geometry, other = read_volume(path, "ct").geometry, nibabel.load(path)
    index = np.array([[1, 2, 3], [5, 4, 3], [0, 0, 0]])
    ras = nibabel.affines.apply_affine(other.affine, index)
    assert np.allclose(geometry.index_to_lps(index), ras * [-1, -1, 1], atol=1e-3)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.floats(0.2, 6)] * 3),
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.tuples(*[st.sampled_from((-1, 1))] * 3),
    st.integers(0, 2**32 - 1),
    st.sampled_from(ONE_FILE_SUFFIXES),
)
def test_written_masks_are_the_same_to_nibabel_and_to_us(tmp_path, shape, spacing, angles, flips, seed, suffix):
    direction = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * flips
    geometry = Geometry.from_parts(shape, spacing, direction, (10.0, -20.0, 30.0))
    mask = np.random.default_rng(seed).random(shape) < 0.5
    path = tmp_path / f"mask{suffix}"
    write_segmentation(Segmentation({"tumour": mask}, geometry), path)
    back = read_volume(path, "label")
    assert np.array_equal(back.voxels[0] == 1, mask)
    geometry.require_same_grid(back.geometry, "ours", "read back")
    if suffix.startswith(".nii"):
        other = nibabel.load(path)
        assert np.array_equal(np.asarray(other.dataobj).T == 1, mask)
        index = [[0, 0, 0], [shape[2] - 1, shape[1] - 1, shape[0] - 1]]
        ras = nibabel.affines.apply_affine(other.affine, index)
        assert np.allclose(geometry.index_to_lps(index), ras * [-1, -1, 1], atol=1e-3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_have_one_slice_and_no_millimetres(tmp_path, suffix, channels):
    picture = np.random.default_rng(0).integers(0, 255, (7, 9, 3), dtype=np.uint8)
    image = sitk.GetImageFromArray(picture[..., 0] if channels == 1 else picture, isVector=channels == 3)
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"))
    volume = read_volume(tmp_path / f"a{suffix}", "dermoscopy")
    assert volume.voxels.shape == (channels, 1, 7, 9)
    assert volume.geometry.spacing == (1.0, 1.0, 1.0)
    assert not volume.physical
    if suffix != ".jpg":
        assert np.array_equal(volume.voxels[:, 0], np.moveaxis(picture, -1, 0)[:channels])


def test_an_alpha_channel_that_says_nothing_is_dropped_and_one_that_does_is_not(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (7, 9, 4), dtype=np.uint8)
    picture[..., 3] = 255
    sitk.WriteImage(sitk.GetImageFromArray(picture, isVector=True), str(tmp_path / "opaque.png"))
    assert read_volume(tmp_path / "opaque.png", "dermoscopy").voxels.shape[0] == 3
    picture[2, 2, 3] = 0
    sitk.WriteImage(sitk.GetImageFromArray(picture, isVector=True), str(tmp_path / "holes.png"))
    assert read_volume(tmp_path / "holes.png", "dermoscopy").voxels.shape[0] == 4


def test_channel_files_are_stacked_in_order_and_must_share_a_grid(tmp_path, voxels):
    files = [write(tmp_path / f"{i}.nii.gz", voxels + i) for i in range(3)]
    volume = read_volume(files, "mri")
    assert np.array_equal(volume.voxels, np.stack([voxels + i for i in range(3)]))
    moved = write(tmp_path / "moved.nii.gz", voxels, origin=(-12.5, 40.0, 305.25))
    with pytest.raises(GeometryError, match=r"moved\.nii\.gz and .*0\.nii\.gz lie up to 5 mm apart"):
        read_volume([files[0], moved], "mri")


def labelled(tmp_path, voxels, label, **geometry):
    image = write(tmp_path / "image.nii.gz", voxels)
    return Case(
        dataset="d", case_id="c", patient_id="p", modality="ct", images=(image,),
        labels=(write(tmp_path / "label.nii.gz", label, **geometry),), targets=(Target(name="t", labels={2, 3}),),
    )  # fmt: skip


def test_a_target_is_the_union_of_its_values(tmp_path, voxels):
    label = np.arange(voxels.size).reshape(voxels.shape).astype(np.uint8) % 5
    _, masks = load_case(labelled(tmp_path, voxels, label))
    assert np.array_equal(masks["t"], (label == 2) | (label == 3))


def test_a_label_of_another_shape_is_refused(tmp_path, voxels):
    case = labelled(tmp_path, voxels, np.zeros((4, 5, 7), dtype=np.uint8))
    with pytest.raises(GeometryError, match=r"label\.nii\.gz has 4 x 5 x 7 voxels, but .*image\.nii\.gz has 4 x 5 x 6"):
        load_case(case)


@pytest.mark.parametrize(
    ("geometry", "apart"),
    [({"origin": (-12.5, 40.0, 450.25)}, "150"), ({"spacing": (1.5, 0.7, 1.9)}, "5"), ({"direction": np.eye(3)}, "")],
)
def test_a_label_that_lies_elsewhere_is_refused_with_the_distance(tmp_path, voxels, geometry, apart):
    case = labelled(tmp_path, voxels, np.zeros(voxels.shape, dtype=np.uint8), **geometry)
    with pytest.raises(GeometryError, match=rf"lie up to {apart}.* mm apart \(.* voxels along [xyz], of which "):
        load_case(case)


def test_a_label_with_fractions_is_refused_and_whole_floats_are_taken(tmp_path, voxels):
    volume = read_volume(write(tmp_path / "image.nii.gz", voxels), "ct")
    label = (voxels > 0).astype(np.float32)
    assert np.array_equal(read_label(write(tmp_path / "whole.nii.gz", label), volume), voxels > 0)
    for bad in (0.5, np.nan):
        label[0, 0, 0] = bad
        with pytest.raises(ImageReadError, match="a label holds whole numbers, found fractions or NaN"):
            read_label(write(tmp_path / "bad.nii.gz", label), volume)
    for bad, told in ((np.inf, "inf"), (2.0**31, "2.14748e.09")):
        label[0, 0, 0] = bad
        with pytest.raises(ImageReadError, match=f"a label holds numbers up to 2147483647, found {told}"):
            read_label(write(tmp_path / "bad.nii.gz", label), volume)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_and_infinite_voxels_stay_what_they_are(tmp_path, suffix, dtype):
    """ITK's NIfTI reader turns them into zeros without a word; they come back here."""
    image = np.random.default_rng(0).random((70, 70, 70)).astype(dtype)  # several chunks of the file
    image[0, 0, 0], image[3, 2, 1], image[-1, -1, -1] = np.nan, np.inf, -np.inf
    path = tmp_path / f"a{suffix}"
    if suffix.startswith(".nii"):
        nibabel.save(nibabel.Nifti1Image(image.T, np.eye(4)), path)
    else:
        write(path, image)
    volume = read_volume(path, "mri")
    assert np.array_equal(volume.voxels[0], image, equal_nan=True)
    with pytest.raises(DataError, match=rf"a{suffix}: 3 voxels are NaN or infinite"):
        require_finite(volume, [0])


def test_a_compressed_nifti_is_not_mistaken_for_its_uncompressed_twin(tmp_path, voxels):
    """ITK, asked for a.nii.gz, takes the voxels of an a.nii beside it."""
    write(tmp_path / "a.nii", np.zeros_like(voxels))
    volume = read_volume(write(tmp_path / "a.nii.gz", voxels), "ct")
    assert np.array_equal(volume.voxels[0], voxels)
    assert not read_volume(tmp_path / "a.nii", "ct").voxels.any()


def test_big_endian_and_scaled_nifti(tmp_path):
    image = np.random.default_rng(0).random((3, 4, 5)).astype(">f4")
    image[1, 2, 3] = np.nan
    nifti = nibabel.Nifti1Image(image.T, np.eye(4), nibabel.Nifti1Header(endianness=">"))
    nibabel.save(nifti, tmp_path / "big.nii.gz")
    assert np.array_equal(read_volume(tmp_path / "big.nii.gz", "mri").voxels[0], image, equal_nan=True)
    scaled = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    scaled.header.set_slope_inter(2.0, -1024.0)
    nibabel.save(scaled, tmp_path / "scaled.nii")
    expected = nibabel.load(tmp_path / "scaled.nii").get_fdata().T
    assert np.array_equal(read_volume(tmp_path / "scaled.nii", "ct").voxels[0], expected)


NIFTI_DTYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("endianness", "<>")
@pytest.mark.parametrize("dtype", NIFTI_DTYPES)
def test_voxels_read_in_one_pass_are_those_of_two_independent_readers(tmp_path, dtype, endianness, suffix):
    raw = np.random.default_rng(0).bytes(70 * 60 * 50 * np.dtype(dtype).itemsize)  # several chunks of the file
    image = np.nan_to_num(np.frombuffer(raw, dtype).reshape(70, 60, 50), nan=1, posinf=2, neginf=3)
    nifti = nibabel.Nifti1Image(image.T, np.eye(4), nibabel.Nifti1Header(endianness=endianness), dtype=dtype)
    path = tmp_path / f"a{suffix}"
    nibabel.save(nifti, path)
    voxels = read_volume(path, "ct").voxels
    assert voxels.dtype == np.dtype(dtype)
    assert voxels.dtype.isnative
    assert voxels.flags.c_contiguous
    assert np.array_equal(voxels[0], image)
    assert np.array_equal(voxels[0], np.asarray(nibabel.load(path).dataobj).T)
    assert np.array_equal(voxels[0], sitk.GetArrayFromImage(sitk.ReadImage(str(path))))


@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0, 0), (1, 5), (2, 0), (0.5, -3), (np.nan, np.nan)])
@pytest.mark.parametrize("dtype", ["i2", "f4"])
def test_a_slope_or_intercept_is_applied_as_itk_does(tmp_path, slope, intercept, dtype):
    path = write(tmp_path / "a.nii", np.arange(60).reshape(3, 4, 5).astype(dtype))
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([slope, intercept], "<f4").tobytes()  # scl_slope and scl_inter (nifti1.h)
    path.write_bytes(content)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    voxels = read_volume(path, "ct").voxels
    assert voxels.dtype == expected.dtype
    assert np.array_equal(voxels[0], expected)


@pytest.mark.parametrize("offset", [0, 348, 352, 368])
def test_voxels_begin_where_itk_says(tmp_path, offset):
    path = write(tmp_path / "a.nii", np.arange(60, dtype=np.int16).reshape(3, 4, 5))
    content = bytearray(path.read_bytes())
    content[108:112] = np.array(offset, "<f4").tobytes()  # vox_offset (nifti1.h)
    path.write_bytes(content[:352] + bytes(16) + content[352:])
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert np.array_equal(read_volume(path, "ct").voxels[0], expected)


def test_a_gzip_whose_content_is_changed_is_refused(tmp_path):
    """A wrong voxel in a stored (not deflated) block unpacks well; only the checksum at the end tells."""
    content = write(tmp_path / "a.nii", np.zeros((40, 64, 64), np.int16)).read_bytes()
    packed = bytearray(gzip.compress(content, compresslevel=0))
    packed[-20] ^= 1
    (tmp_path / "b.nii.gz").write_bytes(packed)
    with pytest.raises(ImageReadError, match=r"b\.nii\.gz: is cut short or damaged"):
        read_volume(tmp_path / "b.nii.gz", "ct")


def test_reading_a_nifti_takes_the_memory_of_its_voxels(tmp_path):
    image = np.random.default_rng(0).integers(-1000, 1000, (64, 256, 256)).astype(np.int16)
    path = write(tmp_path / "a.nii.gz", image)
    tracemalloc.start()
    read_volume(path, "ct")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < image.nbytes + 4 * 1024**2


def test_four_axes_are_refused_with_their_sizes(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5, 6), dtype=np.int16), np.eye(4)), tmp_path / "four.nii.gz")
    with pytest.raises(ImageReadError, match=r"four\.nii\.gz: has 4 axes \(3 x 4 x 5 x 6\); expected 2 or 3"):
        read_volume(tmp_path / "four.nii.gz", "mri")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".tif", ".jpg"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.95])
def test_a_file_that_is_cut_short_is_refused(tmp_path, suffix, kept, capfd):
    path = tmp_path / f"a{suffix}"
    if suffix in (".png", ".tif", ".jpg"):
        noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(noise), str(path))
    else:
        write(path, np.random.default_rng(0).integers(-1000, 1000, (8, 32, 32)).astype(np.int16))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ImageReadError, match=rf"a{suffix}: ") as caught:
        read_volume(path, "ct")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_whole_gzip_around_a_cut_short_nifti_is_refused(tmp_path, voxels):
    content = write(tmp_path / "a.nii", voxels).read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(content[:-20]))
    with pytest.raises(ImageReadError, match=r"is cut short: \d+ bytes of \d+ voxel bytes"):
        read_volume(tmp_path / "b.nii.gz", "ct")


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing.nii.gz", "no such file"), ("folder.nrrd", "is a folder"), ("notes.txt", "unknown image format")],
)
def test_what_is_no_image_is_named(tmp_path, name, message):
    (tmp_path / "folder.nrrd").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ImageReadError, match=f"{name}: {message}"):
        read_volume(tmp_path / name, "ct")


def four_axes(path, dtype=np.float32, time_step=1.0):
    """A NIfTI file of three channels on an oblique grid, written with nibabel alone; ``(x, y, z, channel)``."""
    array = np.random.default_rng(1).integers(-100, 100, (6, 5, 4, 3)).astype(dtype)
    affine = np.eye(4)
    affine[:3, :3] = OBLIQUE * (0.9, 0.7, 1.5)
    affine[:3, 3] = (12.5, -40.0, 300.25)
    image = nibabel.Nifti1Image(array, affine)
    image.header["pixdim"][4] = time_step
    nibabel.save(image, path)
    return array, affine


@pytest.mark.parametrize("time_step", [1.0, 0.0])
def test_the_fourth_axis_of_a_nifti_is_read_as_channels_when_asked(tmp_path, time_step):
    array, affine = four_axes(tmp_path / "four.nii.gz", np.int16, time_step)
    volume = read_volume(tmp_path / "four.nii.gz", "mri", channels_last_axis=True)
    assert volume.voxels.dtype == np.int16
    assert volume.voxels.flags.c_contiguous
    assert np.array_equal(volume.voxels, array.transpose(3, 2, 1, 0))
    assert np.allclose(volume.geometry.affine, np.diag([-1, -1, 1, 1]) @ affine, atol=1e-4)
    assert volume.physical
    # A label on the first three axes lies on the same grid.
    nibabel.save(nibabel.Nifti1Image(array[..., 0].astype(np.uint8), affine), tmp_path / "label.nii.gz")
    assert read_label(tmp_path / "label.nii.gz", volume).shape == (4, 5, 6)


def test_voxels_of_a_fourth_axis_are_checked_like_others(tmp_path):
    array, affine = four_axes(tmp_path / "four.nii")
    array[1, 2, 3, 2] = np.nan
    nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / "nan.nii")
    volume = read_volume(tmp_path / "nan.nii", "mri", channels_last_axis=True)
    assert np.argwhere(np.isnan(volume.voxels)).tolist() == [[2, 3, 2, 1]]
    (tmp_path / "short.nii").write_bytes((tmp_path / "four.nii").read_bytes()[:-7])
    with pytest.raises(ImageReadError, match=r"short\.nii: is cut short"):
        read_volume(tmp_path / "short.nii", "mri", channels_last_axis=True)


def test_asking_for_channels_changes_nothing_for_three_axes(tmp_path, voxels):
    path = write(tmp_path / "a.nii.gz", voxels)
    assert np.array_equal(read_volume(path, "ct", channels_last_axis=True).voxels, read_volume(path, "ct").voxels)


def test_other_flat_formats_have_no_millimetres_across(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5), dtype=np.int16)), str(tmp_path / "flat.nrrd"))
    assert not read_volume(tmp_path / "flat.nrrd", "mri").physical


def test_rgb_nifti_is_whole(tmp_path):
    colour = np.random.default_rng(0).integers(0, 255, (4, 5, 6, 3), dtype=np.uint8)
    write(tmp_path / "rgb.nii.gz", colour)
    assert np.array_equal(read_volume(tmp_path / "rgb.nii.gz", "dermoscopy").voxels, np.moveaxis(colour, -1, 0))


def test_a_sheared_affine_is_named(tmp_path):
    affine = np.eye(4)
    affine[0, 1] = 0.5
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), dtype=np.int16), affine), tmp_path / "sheared.nii")
    with pytest.raises(ImageReadError, match="its axes are not at right angles"):
        read_volume(tmp_path / "sheared.nii", "ct")


def test_text_that_calls_itself_nifti_is_refused(tmp_path):
    (tmp_path / "a.nii").write_text("not an image at all " * 100)
    with pytest.raises(ImageReadError, match=r"a\.nii: cannot be read"):
        read_volume(tmp_path / "a.nii", "ct")


def test_overlapping_masks_and_unknown_formats_are_refused(tmp_path):
    geometry = Geometry.from_parts((2, 2, 2))
    mask = np.ones((2, 2, 2), dtype=bool)
    with pytest.raises(DataError, match="mask 'b' overlaps another one"):
        write_segmentation(Segmentation({"a": mask, "b": mask}, geometry), tmp_path / "m.nii.gz")
    for name in ("m.png", "m.mhd"):
        with pytest.raises(UsageError, match="a mask is written as one of"):
            write_segmentation(Segmentation({"a": mask}, geometry), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from oncoseg_core import Geometry
from oncoseg_core.imaging.formats import write_segmentation
from oncoseg_core import Segmentation
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
mask = np.random.default_rng(0).random((40, 64, 64)) < 0.5
write_segmentation(Segmentation({"a": mask}, Geometry.from_parts(mask.shape)), Path(sys.argv[1]))
"""


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".nii"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, suffix):
    """The limit on file size makes every write beyond 1,000 bytes fail, as a full disk would."""
    target = tmp_path / f"mask{suffix}"
    target.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(target)], capture_output=True, text=True)
    assert done.returncode != 0
    assert f"StorageError: cannot write {target}" in done.stderr
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot write .*m.nii.gz: a part of that path is a file"):
        write_segmentation(
            Segmentation({"a": np.ones((1, 2, 2), dtype=bool)}, Geometry.from_parts((1, 2, 2))),
            tmp_path / "file" / "m.nii.gz",
        )
