"""DICOM films and series: order, geometry, rescaling, and what is refused. All files are generated."""

import numpy as np
import pydicom
import pytest
from dataset_builders import dicom, series

from oncoseg_core import GeometryError, ImageReadError, Normalizer
from oncoseg_datasets.dicom_images import read_film, read_series
from oncoseg_dicom import read_header

VOXELS = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


def test_slices_are_sorted_by_position_whatever_their_names(tmp_path):
    names = ["9.dcm", "10.dcm", "2.dcm", "1.dcm"]
    paths = series(tmp_path, VOXELS, spacing=(2.5, 0.5, 0.7), origin=(-10, 20, 100), names=names)
    found = read_series(sorted(paths), "ct")
    np.testing.assert_array_equal(found.volume.voxels[0], VOXELS)
    assert [path.name for path in found.files] == names
    assert found.instance_numbers == (1, 2, 3, 4)
    assert found.sop_instance_uids == tuple(str(pydicom.dcmread(path).SOPInstanceUID) for path in paths)
    geometry = found.volume.geometry
    assert geometry.spacing == pytest.approx((2.5, 0.5, 0.7))
    np.testing.assert_allclose(geometry.index_to_lps([(5, 4, 3)]), [[-10 + 5 * 0.7, 20 + 4 * 0.5, 107.5]])


def test_every_voxel_of_an_oblique_series_is_where_its_file_says(tmp_path):
    """Row and column directions turned in space; the place of a pixel by the standard's own formula (C.7.6.2.1.1)."""
    turn, tilt = np.radians(30), np.radians(20)
    row = np.array([np.cos(turn), np.sin(turn), 0])
    column = np.array([-np.sin(turn) * np.cos(tilt), np.cos(turn) * np.cos(tilt), np.sin(tilt)])
    normal = np.cross(row, column)
    first = np.array([3.0, -40.0, 12.0])
    paths = series(
        tmp_path,
        VOXELS,
        spacing=(2.0, 0.5, 0.8),
        ImageOrientationPatient=[*row, *column],
        # The instance numbers grow against the normal.
        ImagePositionPatient=lambda index: list(first - index * 2.0 * normal),
    )
    volume = read_series(paths, "ct").volume
    for path in paths:
        header = pydicom.dcmread(path)
        for i, j in [(0, 0), (4, 5), (2, 1)]:
            position = np.array(header.ImagePositionPatient, float)
            place = position + row * header.PixelSpacing[1] * j + column * header.PixelSpacing[0] * i
            x, y, z = np.round(volume.geometry.lps_to_index([place])[0], 4)
            assert volume.voxels[0, int(z), int(y), int(x)] == header.pixel_array[i, j]


def test_each_slice_is_rescaled_by_its_own_slope_and_intercept(tmp_path):
    paths = series(tmp_path, VOXELS, RescaleSlope=lambda index: index + 1, RescaleIntercept=-1024)
    found = read_series(paths, "ct").volume
    assert found.voxels.dtype == np.int16
    np.testing.assert_array_equal(found.voxels[0], VOXELS * np.arange(1, 5)[:, None, None] - 1024)
    paths = series(tmp_path / "pet", VOXELS, RescaleSlope=0.25, RescaleIntercept=0)
    found = read_series(paths, "ct").volume
    assert found.voxels.dtype == np.float32
    np.testing.assert_array_equal(found.voxels[0], VOXELS * 0.25)


def test_values_beyond_16_bits_do_not_wrap(tmp_path):
    paths = series(tmp_path, VOXELS, RescaleSlope=1000, RescaleIntercept=0)
    np.testing.assert_array_equal(read_series(paths, "ct").volume.voxels[0], VOXELS.astype(np.int64) * 1000)


def test_the_header_holds_what_values_mean_and_nothing_of_the_patient(tmp_path):
    path = dicom(
        tmp_path / "film.dcm",
        np.arange(12, dtype=np.uint16).reshape(3, 4),
        PhotometricInterpretation="MONOCHROME1",
        PatientName="Doe^Jane",
        PatientID="4711",
        WindowCenter=[40, 60],
    )
    film = read_film(path, "cxr")
    assert film.headers[0] == {
        "BitsStored": 16,
        "Modality": "CR",
        "PhotometricInterpretation": "MONOCHROME1",
        "WindowCenter": [40.0, 60.0],
    }
    assert (film.physical, film.geometry.spacing) == (False, (1.0, 1.0, 1.0))

    class Any(Normalizer):
        def fit(self, voxels): ...
        def apply(self, voxels, stats): ...

    np.testing.assert_array_equal(Any().calibrate(film.voxels, film.headers[0]), 11 - film.voxels)


def test_two_slices_at_one_place_are_refused(tmp_path):
    paths = series(tmp_path, VOXELS, ImagePositionPatient=lambda index: [0, 0, min(index, 2) * 3.0])
    with pytest.raises(GeometryError, match=r"2 of 4 slices share a place with another \(1-003\.dcm, 1-004\.dcm\)"):
        read_series(paths, "ct")


def test_a_missing_slice_is_refused(tmp_path):
    paths = series(tmp_path, np.repeat(VOXELS, 3, axis=0))
    del paths[5]
    with pytest.raises(GeometryError, match=r"1-005\.dcm and .*1-007\.dcm are 6 mm apart, but other slices 3 mm"):
        read_series(paths, "ct")


@pytest.mark.parametrize("lost", [1, 50, 148])
def test_one_missing_slice_of_many_is_found(tmp_path, lost):
    paths = series(tmp_path, np.zeros((150, 2, 2), np.int16))
    del paths[lost]
    with pytest.raises(GeometryError, match=rf"1-{lost:03}\.dcm and .*1-{lost + 2:03}\.dcm are 6 mm apart"):
        read_series(paths, "ct")


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_even(tmp_path):
    """0.625 mm becomes steps of 0.6 and 0.7."""
    paths = series(
        tmp_path, np.zeros((40, 2, 2), np.int16), ImagePositionPatient=lambda index: [0, 0, round(index * 0.625, 1)]
    )
    assert read_series(paths, "ct").volume.geometry.spacing[0] == pytest.approx(0.625, abs=2e-3)


def test_slices_whose_distance_grows_are_refused(tmp_path):
    """Each step is within 1 % of its neighbours, but the middle slice lies far from the middle."""
    paths = series(
        tmp_path, np.zeros((40, 2, 2), np.int16), ImagePositionPatient=lambda index: [0, 0, 3 * index + index**2 / 80]
    )
    with pytest.raises(GeometryError, match=r"off an even grid by up to \d"):
        read_series(paths, "ct")


def test_a_tilted_gantry_is_refused(tmp_path):
    paths = series(tmp_path, VOXELS, ImagePositionPatient=lambda index: [0, index * 0.5, index * 3.0])
    with pytest.raises(GeometryError, match=r"shifted by 1\.5 mm across their normal"):
        read_series(paths, "ct")


@pytest.mark.parametrize(
    ("attributes", "error", "message"),
    [
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, GeometryError, r"ImageOrientationPatient .* \(1-003\.dcm\)"),
        ({"PixelSpacing": [1.0, 0.9]}, GeometryError, r"PixelSpacing .* \(1-003\.dcm\)"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, ImageReadError, r"1 of 4 files are no .* \(1-003\.dcm\)"),
        ({"SeriesInstanceUID": "1.2.3"}, ImageReadError, "the files are of 2 series; expected one"),
    ],
)
def test_a_scout_image_among_the_slices_is_refused(tmp_path, attributes, error, message):
    paths = series(tmp_path, VOXELS)
    for keyword, value in attributes.items():
        dataset = pydicom.dcmread(paths[2])
        setattr(dataset, keyword, value)
        dataset.save_as(paths[2])
    with pytest.raises(error, match=message):
        read_series(paths, "ct")


def test_a_slice_of_another_size_is_refused(tmp_path):
    paths = series(tmp_path, VOXELS)
    dataset = pydicom.dcmread(paths[1])
    dataset.Rows, dataset.Columns = 6, 5
    dataset.save_as(paths[1])
    with pytest.raises(GeometryError, match=r"slices of 5 x 6 pixels, but 1 of another size: 1-002\.dcm"):
        read_series(paths, "ct")


def test_a_slice_without_a_place_is_refused(tmp_path):
    paths = series(tmp_path, VOXELS, ImagePositionPatient=None)
    with pytest.raises(ImageReadError, match=r"1-00\d\.dcm: has no ImagePositionPatient"):
        read_series(paths, "ct")


def test_one_slice_has_its_thickness(tmp_path):
    paths = series(tmp_path, VOXELS[:1], spacing=(5.0, 1.0, 1.0))
    assert read_series(paths, "ct").volume.geometry.spacing == (5.0, 1.0, 1.0)


def test_a_file_that_is_not_dicom_is_refused(tmp_path):
    (tmp_path / "x.dcm").write_bytes(b"not dicom" * 40)
    with pytest.raises(ImageReadError, match=r"x\.dcm: is not a DICOM file"):
        read_header(tmp_path / "x.dcm")
    with pytest.raises(ImageReadError, match=r"gone\.dcm: cannot be opened: FileNotFoundError"):
        read_film(tmp_path / "gone.dcm", "cxr")
    with pytest.raises(ImageReadError, match="without a file"):
        read_series([], "ct")


def test_cut_short_pixels_are_refused(tmp_path):
    path = dicom(tmp_path / "x.dcm", np.zeros((30, 40), np.uint16))
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(ImageReadError, match=r"x\.dcm: has 1800 bytes of pixels, but its header declares 2400"):
        read_film(path, "cxr")


def test_colours_are_refused(tmp_path):
    pixels = np.zeros((30, 40), np.uint8)
    colours = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    path = dicom(tmp_path / "x.dcm", pixels, PixelData=bytes(3 * pixels.size), **colours)
    with pytest.raises(ImageReadError, match="holds colours"):
        read_film(path, "cxr")


def test_a_compression_that_is_not_one_of_images_is_refused(tmp_path):
    path = dicom(tmp_path / "x.dcm", np.zeros((30, 40), np.uint16))
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
    dataset.PixelData = pydicom.encaps.encapsulate([b"\0" * 64])
    dataset.save_as(path)
    with pytest.raises(ImageReadError, match=r"x\.dcm: its transfer syntax \(MPEG2 .*\) is not one of images"):
        read_film(path, "cxr")
