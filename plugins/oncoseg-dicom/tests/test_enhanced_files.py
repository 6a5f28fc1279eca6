"""Many slices in one file: enhanced multi-frame objects, written by highdicom and by hand."""

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, RLELossless, generate_uid

from oncoseg_core import GeometryError, ImageReadError
from oncoseg_dicom.series.pixels import read_voxels
from oncoseg_dicom.series.search import find_series
from oncoseg_dicom.series.write_series import write_series

LEGACY = {
    "CT": highdicom.legacy.LegacyConvertedEnhancedCTImage,
    "MR": highdicom.legacy.LegacyConvertedEnhancedMRImage,
    "PT": highdicom.legacy.LegacyConvertedEnhancedPETImage,
}
VOXELS = np.random.default_rng(0).integers(-1000, 2000, (4, 6, 8)).astype(np.int16)
PLACES = np.array([(-10, 4, 5.0 * z) for z in range(4)])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0.8, 0.6, 0, 0, 0, -1)])
def test_written_by_highdicom(tmp_path, modality, orientation):
    normal = np.cross(orientation[:3], orientation[3:])
    places = np.array([1.0, 2.0, 3.0]) + np.outer([0, 2, 4, 6], normal)
    attributes = {"RescaleIntercept": "-3", "AcquisitionNumber": 1}
    files = write_series(
        tmp_path / "in",
        VOXELS,
        places,
        orientation=orientation,
        pixel_spacing=(0.5, 0.7),
        modality=modality,
        attributes=attributes,
    )
    classic = find_series(tmp_path / "in")
    slices = [pydicom.dcmread(files[index]) for index in (2, 0, 3, 1)]
    enhanced = LEGACY[modality](
        slices, series_instance_uid=generate_uid(), series_number=2, sop_instance_uid=generate_uid(), instance_number=1
    )
    enhanced.save_as(tmp_path / "enhanced.dcm")
    series = find_series(tmp_path / "enhanced.dcm")
    np.testing.assert_array_equal(read_voxels(series).voxels[0], VOXELS - 3)
    np.testing.assert_allclose(series.geometry.affine, classic.geometry.affine, atol=1e-6)
    assert sorted(plane.frame for plane in series.planes) == [1, 2, 3, 4]
    assert series.modality == classic.modality
    assert series.notes == ()


def item(**attributes) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def group(**macros) -> Dataset:
    return item(**{keyword: Sequence([value]) for keyword, value in macros.items()})


def enhanced(path: Path, order=(3, 1, 0, 2), slopes=(1, 1, 1, 1), stored=None, contents=None, places=PLACES) -> Path:
    """An enhanced MR object whose frames are the slices of VOXELS in that order, each with its slope."""
    classic = write_series(path.parent / "classic", VOXELS[:1], PLACES[:1], modality="MR")[0]
    dataset = pydicom.dcmread(classic)
    for keyword in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "SliceThickness",
        "RescaleSlope",
        "RescaleIntercept",
    ):
        delattr(dataset, keyword)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    dataset.NumberOfFrames = len(order)
    dataset.SharedFunctionalGroupsSequence = Sequence([
        group(
            PlaneOrientationSequence=item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
            PixelMeasuresSequence=item(PixelSpacing=[0.5, 0.7], SliceThickness=5),
        )
    ])  # fmt: skip
    dataset.PerFrameFunctionalGroupsSequence = Sequence([
        group(
            PlanePositionSequence=item(ImagePositionPatient=list(places[z])),
            PixelValueTransformationSequence=item(RescaleSlope=slopes[z], RescaleIntercept=0, RescaleType="US"),
            FrameContentSequence=item(**(contents[z] if contents else {"StackID": "1"})),
        )
        for z in order
    ])  # fmt: skip
    dataset.PixelData = (VOXELS if stored is None else stored)[list(order)].tobytes()
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_frames_in_any_order_with_their_own_slopes(tmp_path, compressed):
    path = enhanced(tmp_path / "mr.dcm", slopes=(1, 2, 0.5, 4))
    if compressed:
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(path)
    series = find_series(path)
    assert [plane.frame for plane in series.planes] == [3, 2, 4, 1]
    np.testing.assert_array_equal([plane.position for plane in series.planes], PLACES)
    np.testing.assert_array_equal(read_voxels(series).voxels[0], VOXELS * np.array([1, 2, 0.5, 4])[:, None, None])
    assert series.geometry.spacing == (5, 0.5, 0.7)


def test_real_enhanced_ct_is_where_gdcm_puts_it():
    path = get_testdata_file("eCT_Supplemental.dcm")
    volume = read_voxels(find_series(Path(path)))
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(path)
    image = reader.Execute()
    theirs = sitk.GetArrayFromImage(image)
    for z in range(2):
        place = volume.geometry.index_to_lps([(0, 0, z)])[0]
        np.testing.assert_allclose(place[2], (-149, -159)[z])
        np.testing.assert_array_equal(volume.voxels[0, z], theirs[1 - z])


def test_volumes_in_time_are_refused_with_the_attribute_that_tells_them_apart(tmp_path):
    contents = [{"TemporalPositionIndex": 1 + z % 2} for z in range(4)]
    path = enhanced(tmp_path / "mr.dcm", contents=contents, places=PLACES[[0, 0, 1, 1]])
    with pytest.raises(
        GeometryError,
        match=r"4 of 4 slices share a place .*mr\.dcm frame 3.*TemporalPositionIndex tells them apart \(1, 2\)",
    ):
        find_series(path)


def test_a_frame_count_that_cannot_be(tmp_path):
    path = enhanced(tmp_path / "mr.dcm")
    dataset = pydicom.dcmread(path)
    for count in (3, 2**32 - 1, 10**11):
        dataset.NumberOfFrames = count
        dataset.save_as(path)
        with pytest.raises(ImageReadError, match=f"declares {count} frames but describes 4; the file is damaged"):
            find_series(path)


def test_fewer_pixels_than_frames(tmp_path):
    path = enhanced(tmp_path / "mr.dcm")
    dataset = pydicom.dcmread(path)
    dataset.PixelData = dataset.PixelData[: 3 * 6 * 8 * 2]
    dataset.save_as(path)
    with pytest.raises(ImageReadError, match="has 288 bytes of pixels, but its header declares 384; it is cut short"):
        read_voxels(find_series(path))


def test_frames_without_a_place(tmp_path):
    path = enhanced(tmp_path / "mr.dcm")
    dataset = pydicom.dcmread(path)
    del dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence
    dataset.save_as(path)
    with pytest.raises(GeometryError, match=r"mr\.dcm frame 2: has no ImagePositionPatient"):
        find_series(path)
    del dataset.PerFrameFunctionalGroupsSequence
    dataset.save_as(path)
    with pytest.raises(ImageReadError, match="has no functional groups, which would tell where its 4 frames lie"):
        find_series(path)


def test_too_many_items_are_damage(tmp_path, monkeypatch):
    path = enhanced(tmp_path / "mr.dcm")
    monkeypatch.setattr("oncoseg_dicom.series.frames._MOST_ITEMS", 5)
    with pytest.raises(ImageReadError, match="PerFrameFunctionalGroupsSequence has more than 5 items"):
        find_series(path)
