"""Where slices lie: whatever their order, names and orientation, the volume is the one that was written."""

import math
import random
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oncoseg_core import Geometry, GeometryError
from oncoseg_dicom.series.orientation import directions
from oncoseg_dicom.series.pixels import read_voxels
from oncoseg_dicom.series.search import find_series
from oncoseg_dicom.series.write_series import write_series

AXIAL = (1, 0, 0, 0, 1, 0)
PRONE = (-1, 0, 0, 0, -1, 0)
CORONAL = (1, 0, 0, 0, 0, -1)
SAGITTAL = (0, 1, 0, 0, 0, -1)


def voxels(z: int, y: int = 6, x: int = 8) -> np.ndarray:
    return np.random.default_rng(z * 100 + y * 10 + x).integers(-1000, 2000, (z, y, x)).astype(np.int16)


def normal_of(orientation) -> np.ndarray:
    return np.cross(orientation[:3], orientation[3:])


def places(along, orientation=AXIAL, start=(10.0, -20.0, 30.0)) -> np.ndarray:
    return np.array(start) + np.outer(along, normal_of(orientation))


def edit(path: Path, **attributes) -> None:
    dataset = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    about = np.eye(3)
    for axis, angle in enumerate(angles):
        turn, (i, j) = np.eye(3), [(1, 2), (0, 2), (0, 1)][axis]
        turn[[i, i, j, j], [i, j, i, j]] = math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
        about = turn @ about
    return about


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-math.pi, math.pi)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 9.0)] * 2),
    gaps=st.lists(st.floats(0.8, 8.0), min_size=1, max_size=4),
    tilt=st.floats(-0.4, 0.4),
    seed=st.integers(0, 1000),
)
def test_any_orientation_spacing_order_and_names(tmp_path_factory, angles, spacing, gaps, tilt, seed):
    folder, mixed = tmp_path_factory.mktemp("written"), tmp_path_factory.mktemp("mixed")
    turn = rotation(angles)
    row, column, normal = turn.T
    along = np.concatenate([[0.0], np.cumsum(gaps)])
    origins = np.array([-300.0, 12.5, 801.0]) + np.outer(along, normal + tilt * column)
    image = voxels(len(along), 5, 7)
    files = write_series(folder, image, origins, orientation=(*row, *column), pixel_spacing=spacing)
    shuffled = random.Random(seed).sample(range(len(files)), len(files))
    for number, index in enumerate(shuffled):
        edit(files[index], InstanceNumber=number * 7 % 5)
        files[index].rename(mixed / f"IM{number}")
    series = find_series(mixed)
    volume = read_voxels(series)
    np.testing.assert_array_equal(volume.voxels[0], image)
    for index in ((0, 0, 0), (6, 4, len(along) - 1), (3, 1, 1)):
        x, y, z = index
        truth = origins[z] + row * spacing[1] * x + column * spacing[0] * y
        assert np.linalg.norm(series.geometry.index_to_lps([index])[0] - truth) < 0.051
        np.testing.assert_allclose(series.plane_points(z, [(x + 0.5, y + 0.5)])[0], truth, atol=1e-4)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "orientation", [AXIAL, PRONE, CORONAL, SAGITTAL, tuple(rotation((0.3, -0.2, 0.1))[:, :2].T.ravel())]
)
def test_geometry_is_that_of_simpleitk(tmp_path, orientation, reverse):
    along = [0, 2.5, 5, 7.5]
    image = voxels(4)
    order = slice(None, None, -1 if reverse else 1)
    write_series(
        tmp_path, image[order], places(along, orientation)[order], orientation=orientation, pixel_spacing=(0.7, 0.5)
    )
    volume = read_voxels(find_series(tmp_path))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    other = reader.Execute()
    np.testing.assert_array_equal(volume.voxels[0], sitk.GetArrayFromImage(other))
    for index in ((0, 0, 0), (7, 5, 3), (2, 3, 1)):
        np.testing.assert_allclose(
            volume.geometry.index_to_lps([index])[0], other.TransformIndexToPhysicalPoint(index), atol=1e-4
        )


def test_missing_slices_keep_their_gap_and_are_told(tmp_path):
    write_series(tmp_path, voxels(5), places([0, 5, 10, 25, 30]))
    series = find_series(tmp_path)
    np.testing.assert_allclose([plane.position[2] for plane in series.planes], [30, 35, 40, 55, 60])
    assert series.geometry.irregularity is not None
    assert series.notes == (
        "2 slices seem to be missing between slices 2 and 3 (counted from 0 along z): gap 15 mm, others 5 mm",
    )


def test_many_gaps_are_counted(tmp_path):
    along = np.cumsum([0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1] + [2] * 7)
    write_series(tmp_path, voxels(len(along)), places(along))
    notes = find_series(tmp_path).notes
    assert len(notes) == 6
    assert notes[-1] == "slices seem to be missing at 2 more places"


def test_uneven_spacing_is_told(tmp_path):
    write_series(tmp_path, voxels(5), places([0, 3, 6, 9, 13.2]))
    assert find_series(tmp_path).notes == ("the slices are unevenly spaced: 3 to 4.2 mm, median 3 mm",)


def test_tilt_is_told_and_kept(tmp_path):
    along = np.arange(5) * 3.0
    origins = places(along) + np.outer(along * math.tan(math.radians(18)), [0, 1, 0])
    write_series(tmp_path, voxels(5), origins)
    series = find_series(tmp_path)
    assert series.notes == ("gantry tilt 18.0 degrees: the slices do not follow each other along their normal",)
    np.testing.assert_allclose([plane.position for plane in series.planes], origins, atol=1e-6)
    assert "tilted" in str(series.geometry.irregularity)


def test_slices_shifted_sideways_are_told(tmp_path):
    origins = places([0, 3, 6, 9])
    origins[2, 0] += 1.5
    write_series(tmp_path, voxels(4), origins)
    assert find_series(tmp_path).notes == ("slices are shifted sideways against each other by up to 1.5 mm",)


def test_an_even_series_has_no_notes(tmp_path):
    write_series(tmp_path, voxels(6), places(np.arange(6) * 1.25))
    series = find_series(tmp_path)
    assert series.notes == ()
    assert series.geometry.irregularity is None


def test_positions_rounded_to_a_tenth_are_even(tmp_path):
    write_series(tmp_path, voxels(12), np.round(places(np.arange(12) * 1.25), 1))
    assert find_series(tmp_path).notes == ()


def test_a_single_slice_has_its_thickness(tmp_path):
    write_series(tmp_path, voxels(1), places([0]), attributes={"SliceThickness": "4"})
    series = find_series(tmp_path)
    assert series.geometry.spacing == (4, 1, 1)
    assert series.notes == ()


def test_a_single_slice_without_thickness_says_what_is_assumed(tmp_path):
    write_series(tmp_path, voxels(1), places([0]), attributes={"SliceThickness": None})
    series = find_series(tmp_path)
    assert series.geometry.spacing == (1, 1, 1)
    assert series.notes == ("the thickness of the slice is not told; 1 mm is assumed",)


def test_duplicate_positions_list_the_files(tmp_path):
    write_series(tmp_path, voxels(4), places([0, 5, 5, 10]))
    with pytest.raises(
        GeometryError, match=r"2 of 4 slices share a place.*image0001\.dcm, .*image0002\.dcm.*nothing tells them apart"
    ):
        find_series(tmp_path)


def test_copies_are_told(tmp_path):
    file = write_series(tmp_path, voxels(3), places([0, 5, 10]))[1]
    (tmp_path / "copy").write_bytes(file.read_bytes())
    with pytest.raises(GeometryError, match=r"2 of 4 slices share a place .*copy, image0001\.dcm.*some are copies"):
        find_series(tmp_path)


def test_two_frames_of_reference_list_the_files(tmp_path):
    files = write_series(tmp_path, voxels(4), places([0, 5, 10, 15]))
    edit(files[2], FrameOfReferenceUID="1.2.3.4.5.6.7")
    with pytest.raises(GeometryError, match=r"1 of 4 slices have another FrameOfReferenceUID .*\(image0002\.dcm\)"):
        find_series(tmp_path)


def test_no_frame_of_reference_is_no_reading_error(tmp_path):
    write_series(tmp_path, voxels(2), places([0, 5]), attributes={"FrameOfReferenceUID": None})
    assert len(find_series(tmp_path).planes) == 2


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("EchoNumbers", (1, 2)),
        ("TemporalPositionIdentifier", (1, 2)),
        ("AcquisitionNumber", (3, 4)),
        ("ImageType", (["ORIGINAL", "PRIMARY", "W"], ["ORIGINAL", "PRIMARY", "F"])),
    ],
)
def test_images_mixed_in_one_series_are_told_apart_by_an_attribute(tmp_path, keyword, values):
    files = write_series(tmp_path, voxels(6), places([0, 0, 3, 3, 6, 6]), modality="MR")
    for index, file in enumerate(files):
        edit(file, **{keyword: values[index % 2]})
    with pytest.raises(GeometryError, match=f"6 of 6 slices share a place.*and 1 more.*{keyword} tells them apart"):
        find_series(tmp_path)


def test_two_orientations_list_the_files_of_the_fewer(tmp_path):
    files = write_series(tmp_path, voxels(4), places([0, 5, 10, 15]))
    edit(files[2], ImageOrientationPatient=list(CORONAL))
    with pytest.raises(
        GeometryError, match=r"ImageOrientationPatient 1\\0\\0\\0\\1\\0 and 1\\0\\0\\0\\0\\-1 in 1 of 4.*image0002"
    ):
        find_series(tmp_path)


def test_mixed_spacing_lists_the_files(tmp_path):
    files = write_series(tmp_path, voxels(4), places([0, 5, 10, 15]))
    edit(files[0], PixelSpacing=[0.9, 1])
    with pytest.raises(GeometryError, match=r"PixelSpacing 1\\1 and 0\.9\\1 in 1 of 4.*image0000"):
        find_series(tmp_path)


def test_mixed_sizes_list_the_files(tmp_path):
    files = write_series(tmp_path, voxels(4), places([0, 5, 10, 15]))
    edit(files[1], Rows=3, PixelData=bytes(3 * 8 * 2))
    with pytest.raises(GeometryError, match=r"slices of 6 x 8 pixels, but 1 of another size: .*image0001"):
        find_series(tmp_path)


def test_rounding_of_orientations_is_one_orientation(tmp_path):
    files = write_series(tmp_path, voxels(3), places([0, 5, 10]))
    edit(files[1], ImageOrientationPatient=[1, 0.00005, 0, -0.00005, 1, 0])
    assert len(find_series(tmp_path).planes) == 3


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "expected two directions of length 1 at right angles"),
        ({"ImageOrientationPatient": [2, 0, 0, 0, 1, 0]}, "expected two directions of length 1 at right angles"),
        ({"ImageOrientationPatient": None}, "has no ImageOrientationPatient"),
        ({"PixelSpacing": [0, 1]}, "expected two sizes above 0"),
        ({"PixelSpacing": [-1, 1]}, "expected two sizes above 0"),
        ({"PixelSpacing": ["1e9", 1]}, "expected two sizes above 0"),
        ({"PixelSpacing": None}, "has no PixelSpacing"),
        ({"ImagePositionPatient": ["1e20", 0, 0]}, "no place in a scanner"),
        ({"ImagePositionPatient": None}, "has no ImagePositionPatient"),
        ({"SliceThickness": "-3"}, "SliceThickness is -3 mm; expected a size above 0"),
    ],
)
def test_impossible_places_are_refused(tmp_path, attributes, message):
    files = write_series(tmp_path, voxels(2), places([0, 5]))
    edit(files[1], **attributes)
    with pytest.raises(GeometryError, match=message):
        find_series(tmp_path)


# ---------------------------------------------------------------- digits


def far_corner(series) -> np.ndarray:
    z, y, x = series.geometry.shape
    return series.geometry.index_to_lps([(x - 1, y - 1, z - 1)])[0]


def far_corner_of_simpleitk(folder: Path) -> np.ndarray:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    return np.array(image.TransformIndexToPhysicalPoint([size - 1 for size in image.GetSize()]))


@pytest.mark.parametrize(
    "orientation", [(0.707, 0.707, 0, -0.707, 0.707, 0), (1, 0, 0, 0, 0.991, 0.134), (0.8, 0.6, 0, -0.6, 0.8, 0)]
)
def test_rounded_cosines_are_directions(tmp_path, orientation):
    """As they stand they would stretch the grid: by 0.1 mm over 512 pixels of 0.98 mm."""
    write_series(
        tmp_path, np.zeros((3, 512, 512), np.int16), places([0, 3, 6], orientation), orientation=orientation,
        pixel_spacing=(0.9765625, 0.9765625),
    )  # fmt: skip
    series = find_series(tmp_path)
    np.testing.assert_allclose(far_corner(series), far_corner_of_simpleitk(tmp_path), atol=0.01)
    np.testing.assert_allclose(series.geometry.spacing, (3, 0.9765625, 0.9765625), atol=2e-3)
    assert series.geometry.irregularity is None


@pytest.mark.parametrize(
    "orientation",
    [
        (0.9991, 0, 0, 0, 0.9991, 0),  # four decimals would be off by 0.00005
        (1, 0.0009, 0, 0, 1, 0),
        (0.70710, 0.70710, 0, -0.7061, 0.70710, 0),
        (0.71, 0.71, 0, -0.71, 0.71, 0),  # leaves it open by 2 mm where a voxel of 512 lies
        (1.01, 0, 0, 0, 1, 0),
        (0, 0, 0, 0, 1, 0),
    ],
)
def test_cosines_that_no_rounding_explains_are_refused(tmp_path, orientation):
    write_series(tmp_path, voxels(3), places([0, 3, 6]), attributes={"ImageOrientationPatient": list(orientation)})
    with pytest.raises(GeometryError, match="expected two directions of length 1 at right angles"):
        find_series(tmp_path)


@settings(max_examples=200, deadline=None)
@given(angles=st.tuples(*[st.floats(-math.pi, math.pi)] * 3), decimals=st.integers(3, 8))
def test_cosines_rounded_to_any_digits_are_taken_and_nearly_the_exact_ones(angles, decimals):
    exact = rotation(angles)[:, :2].T.ravel()
    row, column = directions(np.round(exact, decimals))
    assert abs(np.linalg.norm(row) - 1) < 2e-6
    assert abs(np.linalg.norm(column) - 1) < 2e-6
    assert abs(row @ column) < 2e-6
    assert np.abs(np.concatenate([row, column]) - exact).max() <= 2 * 10.0**-decimals


def test_a_label_of_simpleitk_fits_an_oblique_series_with_rounded_positions(tmp_path):
    """Positions rounded to a tenth, as scanners write them; the label was never resampled."""
    orientation = (1, 0, 0, 0, 0.991, 0.134)
    for seed in range(5):
        folder = tmp_path / str(seed)
        start = np.random.default_rng(seed).uniform(-120, 120, 3)
        origins = np.round(start + np.outer(np.arange(20) * 7.0005, normal_of(orientation)), 1)
        write_series(folder, voxels(20, 40, 48), origins, orientation=orientation, pixel_spacing=(0.8594, 0.8594))
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        image = reader.Execute()
        geometry = Geometry.from_parts(
            image.GetSize()[::-1], image.GetSpacing()[::-1], image.GetDirection(), image.GetOrigin()
        )
        series = find_series(folder)
        series.require_grid(geometry, "label")
        assert series.geometry.irregularity is None  # a label image can be written
        half = Geometry.from_parts(
            geometry.shape, geometry.spacing, geometry.direction, tuple(np.add(geometry.origin, (0.43, 0, 0)))
        )
        with pytest.raises(GeometryError, match="voxels along x, of which rounding explains"):
            series.require_grid(half, "label")


def test_micro_ct_has_slices_of_its_own_measure(tmp_path):
    size = 0.01
    origins = places(np.arange(6) * size)
    write_series(tmp_path / "even", voxels(6), origins, pixel_spacing=(size, size))
    series = find_series(tmp_path / "even")
    assert (series.notes, series.geometry.irregularity) == ((), None)
    np.testing.assert_allclose(series.geometry.spacing, [size] * 3, rtol=1e-6)
    write_series(tmp_path / "missing", voxels(5), np.delete(origins, 3, axis=0), pixel_spacing=(size, size))
    (note,) = find_series(tmp_path / "missing").notes
    assert note.startswith("1 slice seems to be missing between slices 2 and 3")
    origins[4, 0] += 0.6 * size
    write_series(tmp_path / "shifted", voxels(6), origins, pixel_spacing=(size, size))
    assert find_series(tmp_path / "shifted").notes[0].startswith("slices are shifted sideways")
    origins[4] = origins[3]
    write_series(tmp_path / "twice", voxels(6), origins, pixel_spacing=(size, size))
    with pytest.raises(GeometryError, match="2 of 6 slices share a place"):
        find_series(tmp_path / "twice")


def test_a_pixel_spacing_that_is_a_real_part_of_a_voxel_off_is_another(tmp_path):
    """Over 100 pixels of 0.01 mm: 0.05 mm, but five voxels."""
    files = write_series(
        tmp_path, np.zeros((3, 100, 100), np.int16), places([0, 0.01, 0.02]), pixel_spacing=(0.01, 0.01)
    )
    edit(files[1], PixelSpacing=[0.0105, 0.01])
    with pytest.raises(GeometryError, match=r"PixelSpacing 0\.01\\0\.01 and 0\.0105\\0\.01 in 1 of 3"):
        find_series(tmp_path)


def test_distances_that_grow_slowly_are_told(tmp_path):
    write_series(tmp_path, voxels(40), places([3 * z + z**2 / 400 for z in range(40)]))
    (note,) = find_series(tmp_path).notes
    assert note.startswith("the slices are unevenly spaced: 3.00")


def test_a_whole_body_of_rounded_positions_is_even(tmp_path):
    write_series(tmp_path, voxels(1100, 2, 2), np.round(places(np.arange(1100) * 1.6479), 1), pixel_spacing=(4, 4))
    series = find_series(tmp_path)
    assert (series.notes, series.geometry.irregularity) == ((), None)
    assert series.geometry.spacing[0] == pytest.approx(1.6479, abs=1e-4)
