"""Series of files that were listed, single frames of any class, and headers: what other distributions read."""

import numpy as np
import pydicom
import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from oncoseg_core import ImageReadError
from oncoseg_dicom import find_series, read_frame, read_header, read_voxels, series_of_files, write_series

VOXELS = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
ORIGINS = [(0, 0, 3 * index) for index in range(4)]


@pytest.fixture
def files(tmp_path):
    """One of two series in a folder."""
    write_series(tmp_path / "both" / "other", VOXELS, ORIGINS)
    return write_series(tmp_path / "both" / "series", VOXELS, ORIGINS)


def change(path, **attributes):
    dataset = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


def test_only_the_files_that_are_listed_are_read(files, tmp_path):
    with pytest.raises(ImageReadError, match="holds 2 image series"):
        find_series(tmp_path / "both")
    series = series_of_files(reversed(files[:3]))
    assert [plane.file.path for plane in series.planes] == files[:3]
    np.testing.assert_array_equal(read_voxels(series).voxels[0], VOXELS[:3])


@pytest.mark.parametrize("number", [None, 7, "broken"])
def test_instance_numbers_are_kept_where_there_are_any(files, number):
    change(files[0], InstanceNumber=number if number != "broken" else None)
    expected = number if isinstance(number, int) else None
    assert series_of_files(files).planes[0].instance_number == expected


def test_files_of_two_series_or_no_slices_are_refused(files, tmp_path):
    other = sorted((tmp_path / "both" / "other").iterdir())[:1]
    with pytest.raises(ImageReadError, match="the files are of 2 series; expected one"):
        series_of_files([*files, *other])
    text = tmp_path / "both" / "series" / "notes.txt"
    text.write_text("not DICOM" * 40)
    with pytest.raises(ImageReadError, match=r"1 of 5 files are no slices of the series \(notes\.txt\)"):
        series_of_files([*files, text])
    with pytest.raises(ImageReadError, match="without a file"):
        series_of_files([])


def test_a_frame_of_a_class_that_is_no_series_is_read(files):
    change(files[1], SOPClassUID=SecondaryCaptureImageStorage, RescaleIntercept=-10)
    with pytest.raises(ImageReadError):
        series_of_files(files[1:2])
    pixels, header = read_frame(files[1])
    np.testing.assert_array_equal(pixels, VOXELS[1:2] - 10)
    assert header["PhotometricInterpretation"] == "MONOCHROME2"
    assert not any("Patient" in keyword for keyword in header)


def test_what_is_no_single_frame_is_refused(files, tmp_path):
    change(files[0], NumberOfFrames=2)
    with pytest.raises(ImageReadError, match="holds several frames"):
        read_frame(files[0])
    (tmp_path / "x.dcm").write_bytes(b"not dicom" * 40)
    for read in (read_frame, read_header):
        with pytest.raises(ImageReadError, match=r"x\.dcm: is not a DICOM file"):
            read(tmp_path / "x.dcm")


def test_a_header_holds_the_attributes_that_were_named(files):
    assert "PixelData" not in read_header(files[0])
    header = read_header(files[0], ["Modality"])
    assert (header.Modality, "PatientID" in header) == ("CT", False)
