"""Requirement 9: structure sets as other programs write them, with what is usual there and what is wrong."""

import copy

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from rtstruct_phantoms import GEOMETRIES, SHAPE, on_disk, shapes, write

from oncoseg_core import DataError, GeometryError, ImageReadError, OncoSegError, load_plugins
from oncoseg_core.imaging.open_image import read_image, read_masks
from oncoseg_dicom.quiet import quiet
from oncoseg_dicom.rtstruct.read import read_structures
from oncoseg_dicom.series.files import FileOpener
from oncoseg_dicom.series.search import find_series
from oncoseg_dicom.series.series import DicomFile

HOLE = shapes()["island in hole"]
BALL = shapes()["ball"]


@pytest.fixture
def series(tmp_path):
    return on_disk(tmp_path / "series")


@pytest.fixture
def file(series, tmp_path):
    """A structure set of two structures, the second drawn with contours of its own for holes."""
    write(series, {"ball": BALL, "hole": HOLE}, tmp_path / "structures.dcm", holes="nested")
    return pydicom.dcmread(tmp_path / "structures.dcm")


def contours(file, roi=1):
    return file.ROIContourSequence[roi].ContourSequence


def points_of(contour):
    return np.array(contour.ContourData, dtype=float).reshape(-1, 3)


def set_points(contour, points):
    contour.ContourData = [f"{value:.6f}" for value in np.ravel(points)]
    contour.NumberOfContourPoints = len(points)


def check(file, series, hole=HOLE, notes=(), **how):
    found = read_structures(file, series, **how)
    assert len(found.notes) == len(notes), found.notes
    for note, expected in zip(found.notes, notes, strict=True):
        assert expected in note
    np.testing.assert_array_equal(found.masks["hole"], hole)
    np.testing.assert_array_equal(found.masks["ball"], BALL)


def test_winding_and_first_points_do_not_matter(file, series):
    for number, contour in enumerate(contours(file)):
        points = np.roll(points_of(contour), number, axis=0)
        set_points(contour, points[::-1] if number % 3 else points)
    check(file, series)


def test_a_repeated_first_point_does_not_matter(file, series):
    for contour in contours(file):
        points = points_of(contour)
        set_points(contour, np.concatenate([points, points[:1]]))
    check(file, series)


def test_xor_contours(file, series):
    for contour in contours(file):
        contour.ContourGeometricType = "CLOSEDPLANAR_XOR"
    check(file, series)


def test_a_keyhole_with_a_width(series, file, tmp_path):
    """As programs draw it that know no channel without width: a slit of a tenth of a pixel."""
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2, 3:12, 4:15] = True
    mask[2, 6:8, 8:10] = False
    outline = [
        (4, 3),
        (15, 3),
        (15, 12),
        (4, 12),
        (4, 7.05),
        (8, 7.05),
        (8, 8),
        (10, 8),
        (10, 6),
        (8, 6),
        (8, 6.95),
        (4, 6.95),
    ]
    contour = contours(file)[0]
    set_points(contour, series.plane_points(2, outline))
    del contour.ContourImageSequence
    file.ROIContourSequence[1].ContourSequence = [contour]
    check(file, series, mask, ["'hole': 1 of 1 contours name no image: placed by their coordinates"])


def test_contours_without_images_are_placed_by_their_coordinates(file, series):
    count = len(contours(file))
    for contour in contours(file):
        del contour.ContourImageSequence
    check(file, series, notes=[f"'hole': {count} of {count} contours name no image"])


def test_an_image_of_another_series_or_slice_is_told(file, series):
    contours(file)[0].ContourImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    contours(file)[1].ContourImageSequence[0].ReferencedSOPInstanceUID = series.planes[5].sop_instance_uid
    count = len(contours(file))
    check(file, series, notes=[
        f"1 of {count} contours name an image of another series",
        f"1 of {count} contours name another slice than that they lie on",
    ])  # fmt: skip


def test_contours_beside_a_slice_belong_to_it_and_the_distance_is_told(file, series):
    for contour in contours(file):
        set_points(contour, points_of(contour) + (0, 0, 0.7))
    count = len(contours(file))
    check(file, series, notes=[f"'hole': {count} of {count} contours up to 0.7 mm off the slice that took it"])


def test_contours_far_from_any_slice_are_left_out_and_the_distance_is_told(file, series):
    moved = copy.deepcopy(contours(file)[0])
    set_points(moved, points_of(moved) + (0, 0, 50))
    contours(file).append(moved)
    count = len(contours(file))
    check(file, series, notes=[f"'hole': 1 of {count} contours left out: up to 38 mm from any slice"])


def test_contours_between_slices_do_not_cancel_those_on_them(file, series):
    """Drawn on slices twice as close: those between are nearest to a slice that has contours already."""
    for contour in list(contours(file)):
        between = copy.deepcopy(contour)
        set_points(between, points_of(contour) + (0, 0, 1.5))
        contours(file).append(between)
    half = len(contours(file)) // 2
    on = [note for note in read_structures(file, series).notes if "left out: between slices" in note]
    assert len(on) == 1
    found = read_structures(file, series).masks["hole"]
    np.testing.assert_array_equal(found[1:5], HOLE[1:5])
    assert half > 0


def test_a_slice_between_two_contours_takes_one(file, series):
    one, other = (copy.deepcopy(contours(file, 0)[0]) for _ in range(2))
    points = points_of(one)
    points[:, 2] = 5.0 + 3 * 2
    mask = read_ball_slice(series)
    set_points(one, points + (0, 0, 1))
    set_points(other, points - (0, 0, 1))
    for contours_ in ([one, other], [other, one]):
        file.ROIContourSequence[1].ContourSequence = contours_
        found = read_structures(file, series)
        np.testing.assert_array_equal(found.masks["hole"][2], mask)
        assert any("between slices" in note for note in found.notes)


def read_ball_slice(series):
    first = np.flatnonzero(BALL.any(axis=(1, 2)))[0]
    return BALL[first]


def test_a_contour_across_the_slices_is_left_out(file, series):
    across = copy.deepcopy(contours(file)[0])
    set_points(across, [(0, 15, 5), (0, 20, 5), (0, 20, 17), (0, 15, 17)])
    contours(file).append(across)
    count = len(contours(file))
    check(file, series, notes=[f"'hole': 1 of {count} contours left out: not parallel to the slices, by up to 6 mm"])


def test_no_contour_on_the_series_is_an_error_with_the_distance(file, series):
    for roi in (0, 1):
        for contour in contours(file, roi):
            set_points(contour, points_of(contour) + (0, 0, 200))
    with pytest.raises(GeometryError, match=r"no contour lies on the series: the nearest is 18[58] mm from any slice"):
        read_structures(file, series)


def test_contours_on_a_missing_slice_are_left_out(tmp_path):
    whole, part = (on_disk(tmp_path / name, "axial") for name in ("whole", "part"))
    write(whole, {"hole": HOLE}, tmp_path / "structures.dcm")
    for path in (tmp_path / "part").glob("image000[23].dcm"):
        path.unlink()
    part = find_series(tmp_path / "part")
    file = pydicom.dcmread(tmp_path / "structures.dcm")
    for roi in file.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = part.header.FrameOfReferenceUID
    found = read_structures(file, part)
    np.testing.assert_array_equal(found.masks["hole"], HOLE[[0, 1, 4, 5]])
    assert any("left out: up to 3 mm from any slice" in note for note in found.notes)


def test_points_and_open_contours_are_left_out(file, series):
    extra = [copy.deepcopy(contours(file)[0]) for _ in range(4)]
    for contour, kind in zip(extra, ("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR", None), strict=True):
        contour.ContourGeometricType = kind
    contours(file).extend(extra)
    count = len(contours(file))
    kinds = ("OPEN_NONPLANAR", "OPEN_PLANAR", "POINT", "of no kind")
    check(file, series, notes=[f"'hole': 1 of {count} contours left out: {kind} encloses nothing" for kind in kinds])


def test_contours_of_one_or_two_points_are_left_out(file, series):
    extra = [copy.deepcopy(contours(file)[0]) for _ in range(2)]
    for number, contour in enumerate(extra, start=1):
        set_points(contour, points_of(contour)[:number])
    contours(file).extend(extra)
    check(file, series, notes=[f"'hole': 2 of {len(contours(file))} contours left out: fewer than 3 points"])


def test_a_contour_that_is_there_twice_counts_once(file, series):
    contours(file).append(copy.deepcopy(contours(file)[0]))
    check(file, series, notes=["'hole': 1 contours are there twice, or nearly so: counted once (slice 1)"])


def test_a_contour_of_fewer_points_than_it_says_is_told(file, series):
    contours(file)[0].NumberOfContourPoints = 99
    check(file, series, notes=["'hole': 1 of"])


def test_contours_that_overlap_in_part_are_told(file, series):
    """Neither a hole nor two parts: the even-odd rule leaves out what both enclose."""
    squares = [[(3, 3), (10, 3), (10, 10), (3, 10)], [(7, 7), (15, 7), (15, 15), (7, 15)]]
    items = [copy.deepcopy(contours(file)[0]) for _ in squares]
    for item, square in zip(items, squares, strict=True):
        set_points(item, series.plane_points(1, square))
    file.ROIContourSequence[1].ContourSequence = items
    mask = np.zeros(SHAPE, dtype=bool)
    mask[1, 3:10, 3:10] = mask[1, 7:15, 7:15] = True
    mask[1, 7:10, 7:10] = False
    check(file, series, mask, ["'hole': contours overlap in part on 1 slices: what lies in two of them is left out"])
    for item in items:
        item.ContourGeometricType = "CLOSEDPLANAR_XOR"  # which says just that
    check(file, series, mask)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_contours_through_the_centres_of_voxels(geometry, tmp_path):
    series = on_disk(tmp_path / "series", geometry)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[3, 4:11, 5:17] = mask[1, 2, 2] = mask[2, 5, 3:9] = True
    mask[3, 7, 9:12] = False
    write(series, {"object": mask}, tmp_path / "structures.dcm")
    file = pydicom.dcmread(tmp_path / "structures.dcm")
    drawn = [
        (3, [(5, 4), (16, 4), (16, 10), (5, 10)]),
        (3, [(8, 7), (9, 6), (11, 6), (12, 7), (11, 8), (9, 8)]),  # through the solid around the hole
        (1, [(2, 2)]),
        (2, [(3, 5), (8, 5)]),
    ]
    items = []
    for plane, pixels in drawn:
        item = Dataset()
        item.ContourGeometricType = "CLOSED_PLANAR"
        set_points(item, series.plane_points(plane, np.array(pixels) + 0.5))
        items.append(item)
    file.ROIContourSequence[0].ContourSequence = items
    found = read_structures(file, series, pixel_centre=True)
    np.testing.assert_array_equal(found.masks["object"], mask)


def test_structures_in_another_frame_of_reference_are_left_out_and_the_others_read(file, series):
    file.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = "1.2.3"
    found = read_structures(file, series)
    assert found.notes == ("'hole' is left out: drawn in another frame of reference than the series'",)
    assert list(found.masks) == ["ball"]
    np.testing.assert_array_equal(found.masks["ball"], BALL)


def test_all_structures_in_another_frame_of_reference_is_an_error(file, series):
    for roi in file.StructureSetROISequence:
        del roi.ReferencedFrameOfReferenceUID
    check(file, series)  # the file's own then counts
    file.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.2.3"
    with pytest.raises(GeometryError, match="'ball', 'hole' are drawn in another frame of reference"):
        read_structures(file, series)
    del file.ReferencedFrameOfReferenceSequence
    check(file, series, notes=["names no frame of reference"])


def test_structures_of_one_name_are_told_apart(file, series):
    file.StructureSetROISequence[0].ROIName = "hole"
    found = read_structures(file, series)
    assert list(found.masks) == ["hole", "hole (2)"]
    np.testing.assert_array_equal(found.masks["hole (2)"], HOLE)
    assert found.notes == ("'hole': is the name of several structures; this one is told as 'hole (2)'",)


def test_structures_without_contours_are_told(file, series):
    del file.ROIContourSequence[0].ContourSequence
    found = read_structures(file, series)
    assert list(found.masks) == ["hole"]
    assert found.notes == ("'ball': has no contour that encloses voxels",)
    file.ROIContourSequence = []
    with pytest.raises(DataError, match="holds no structure that encloses voxels"):
        read_structures(file, series)


def test_a_contour_between_voxels_encloses_none(file, series):
    contour = contours(file)[0]
    set_points(contour, series.plane_points(1, [(2.6, 2.6), (3.4, 2.6), (3, 3.4)]))
    file.ROIContourSequence[1].ContourSequence = [contour]
    check(file, series, np.zeros(SHAPE, dtype=bool), ["'hole': encloses no voxel's centre"])


def test_contours_beyond_the_image_are_cut_off(file, series):
    contour = contours(file)[0]
    set_points(contour, series.plane_points(2, [(-100, -100), (10, -100), (10, 7), (-100, 7)]))
    file.ROIContourSequence[1].ContourSequence = [contour]
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2, :7, :10] = True
    found = read_structures(file, series)
    np.testing.assert_array_equal(found.masks["hole"], mask)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: setattr(file, "SOPClassUID", "1.2"), "is no RT Structure Set"),
        (lambda file: setattr(file.StructureSetROISequence[1], "ROINumber", 1), "two structures of number 1"),
        (lambda file: setattr(file.ROIContourSequence[1], "ReferencedROINumber", 7), "structure number 7, which it does not list"),
        (lambda file: delattr(file.StructureSetROISequence[1], "ROINumber"), "cannot be read"),
        (lambda file: raw(file, b"1\\2\\3\\4\\5\\6\\7\\8"), "8 coordinates"),
        (lambda file: raw(file, b"1\\2\\3\\4\\5\\6\\7\\8\\x"), r"contour 1 of 'hole': value 9 of 9 in ContourData \(3006,0050\) is 'x', expected a number"),
        (lambda file: raw(file, b"1\\2\\3\\4\\5\\6\\7\\8\\1_0"), "value 9 of 9 in ContourData .* is '1_0', expected"),
        (lambda file: raw(file, b"1\\2\\3\\4\\5\\6\\7\\8\\9\\"), r"contour 1 of 'hole': value 10 of 10 in ContourData \(3006,0050\) is nothing.* it ends in a backslash"),
        (lambda file: raw(file, b"1\\2\\\\4\\5\\6\\7\\8\\9"), "value 3 of 9 in ContourData .* is nothing"),
        (lambda file: raw(file, b"1\\2\\3\\4\\5\\6\\7\\8\\Doe^John, born long ago"), "value 9 of 9 .* is something else"),
        (lambda file: raw(file, b"four", 0x30060046), r"contour 1 of 'hole': NumberOfContourPoints \(3006,0046\) is no whole number"),
        (lambda file: raw(file, b"1\\2\\3\\4\\5\\6\\7\\8\\nan"), "no place in a patient"),
        (lambda file: raw(file, b"1\\2\\3\\4\\5\\6\\7\\8\\1e30"), "no place in a patient"),
    ],
)  # fmt: skip
def test_damage_is_one_clear_error(spoil, message, file, series):
    spoil(file)
    with pytest.raises(ImageReadError, match=message) as error:
        read_structures(file, series)
    assert "\n" not in str(error.value)


def raw(file, value, tag=0x30060050):
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    tag = Tag(tag)
    contours(file)[0][tag] = RawDataElement(tag, "DS", len(value), value, 0, True, True)


def test_numbers_that_are_no_longer_bytes_are_read_too(file, series):
    for contour in contours(file):
        assert len(contour.ContourData) >= 12
        contour.ContourData = [float(value) for value in contour.ContourData]
    check(file, series)


def test_explicit_vr_files_are_read(file, series, tmp_path):
    file.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    file.save_as(tmp_path / "explicit.dcm", implicit_vr=False, little_endian=True)
    check(pydicom.dcmread(tmp_path / "explicit.dcm"), series)


def test_the_dicom_reader_gives_the_structures_of_an_image(series, tmp_path):
    write(series, {"ball": BALL, "hole": HOLE}, tmp_path / "structures.dcm")
    registry = load_plugins()
    found = read_masks(registry, tmp_path / "structures.dcm", read_image(registry, series.source)).masks
    np.testing.assert_array_equal(found["hole"], HOLE)


def test_damaged_files_are_clear_errors(series, tmp_path):
    """Cut off, or with bytes changed anywhere: an error of ours, or an answer; never anything else."""
    write(series, {"ball": BALL, "hole": HOLE}, tmp_path / "structures.dcm")
    whole = (tmp_path / "structures.dcm").read_bytes()
    rng = np.random.default_rng(1)
    outcomes, messages = [], []
    for number in range(200):
        data = bytearray(whole if number % 4 else whole[: rng.integers(132, len(whole))])
        for place in rng.integers(132, len(data), rng.integers(0, 40) if number % 4 else 0):
            data[place] = rng.integers(256)
        path = tmp_path / "damaged.dcm"
        path.write_bytes(data)
        try:
            with quiet(), FileOpener() as opener:
                read_structures(opener.dataset(DicomFile(path), pixels=True), series)
            outcomes.append("read")
        except OncoSegError as error:
            outcomes.append(type(error).__name__)
            messages.append(str(error))
    assert not any("\n" in message for message in messages)
    assert outcomes.count("ImageReadError") > 50
