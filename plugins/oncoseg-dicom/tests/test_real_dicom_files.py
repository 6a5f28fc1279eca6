"""pydicom's own test files, many of them odd: each is read as SimpleITK's GDCM reads it, or refused in one line."""

from contextlib import nullcontext
from pathlib import Path

import data_store
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import (
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from oncoseg_core import ImageReadError, MissingDependencyError, OncoSegError
from oncoseg_dicom.series import modality
from oncoseg_dicom.series.decoding import DecodingProcess
from oncoseg_dicom.series.pixels import read_voxels
from oncoseg_dicom.series.search import find_series

FILES = sorted(
    [
        *(Path(pydicom.__file__).parent / "data" / "test_files").rglob("*.dcm"),
        *(Path(data_store.__file__).parent / "data").glob("*.dcm"),
    ]
)

NOT_AS_GDCM = {
    "mlut_18.dcm": "a modality lookup table, which GDCM does not apply",
    "eCT_Supplemental.dcm": "two frames that GDCM leaves in the file's order: see test_enhanced_files.py",
    "SC_rgb_rle_16bit.dcm": "its bytes in the other order by GDCM: see test_run_lengths_of_fine_colours",
    "SC_rgb_rle_32bit.dcm": "the same",
    "SC_rgb_jpeg.dcm": "which takes it 5 s; others are like it",
}

READ = {
    "CT_small",
    "MR_small",
    "MR_small_RLE",
    "J2K_pixelrep_mismatch",
    "JPEG-LL",
    "JPEG2000",
    "693_J2KI",
    "RG1_J2KR",
    "OBXXXX1A_rle",
    "examples_palette",
    "SC_rgb_jpeg_dcmtk",
    "SC_rgb_dcmtk_+eb+cy+s4",
    "SC_ybr_full_422_uncompressed",
    "image_dfl",
    "gdcm-US-ALOKA-16_big",
}


@pytest.fixture
def secondary_captures_too(monkeypatch):
    """So that their pixels can be compared: most of the compressed test files are secondary captures."""
    captures = {SecondaryCaptureImageStorage, MultiFrameGrayscaleByteSecondaryCaptureImageStorage}
    monkeypatch.setattr(modality, "IMAGES", modality.IMAGES | captures)
    monkeypatch.setattr("oncoseg_dicom.series.projection.PICTURES", modality.PICTURES | captures)


@pytest.fixture(scope="module")
def one_process():
    """One decoding process for all files: each would start its own."""
    with DecodingProcess() as process:
        yield process


@pytest.fixture(autouse=True)
def shared(monkeypatch, one_process):
    monkeypatch.setattr("oncoseg_dicom.series.pixels.DecodingProcess", lambda: nullcontext(one_process))


def by_gdcm(path: Path) -> np.ndarray | None:
    """``(channel, z, y, x)``; None where GDCM cannot."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        image = reader.Execute()
    except RuntimeError:
        return None
    array = sitk.GetArrayFromImage(image)
    return np.moveaxis(array, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else array[np.newaxis]


def as_gdcm(ours: np.ndarray, theirs: np.ndarray, photometric: str) -> np.ndarray:
    """GDCM turns MONOCHROME1 around and keeps fine colours; bring its values to what is expected here."""
    if len(ours) == 3 and theirs.dtype.itemsize > 1:
        return theirs >> (8 * theirs.dtype.itemsize - 8)
    if photometric == "MONOCHROME1":
        whole = ours.astype(np.int64) + theirs
        assert whole.min() == whole.max()
        return ours
    return theirs


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_file_is_read_right_or_refused(path, secondary_captures_too, recwarn, capfd):
    try:
        volume = read_voxels(find_series(path))
    except OncoSegError as error:
        refusal = str(error)
        assert path.stem not in READ
        assert "\n" not in refusal
        assert 20 < len(refusal) < 600
    else:
        theirs = None if path.name in NOT_AS_GDCM else by_gdcm(path)
        if theirs is not None:
            photometric = volume.headers[0]["PhotometricInterpretation"]
            np.testing.assert_allclose(volume.voxels, as_gdcm(volume.voxels, theirs, photometric), rtol=1e-6)
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


def test_enough_of_them_are_compared():
    assert len(FILES) > 120


@pytest.mark.parametrize("bits", [16, 32])
def test_run_lengths_of_fine_colours(bits, secondary_captures_too):
    by_name = {path.name: path for path in FILES}
    encoded = read_voxels(find_series(by_name[f"SC_rgb_rle_{bits}bit.dcm"]))
    plain = read_voxels(find_series(by_name[f"SC_rgb_{bits}bit.dcm"]))
    np.testing.assert_array_equal(encoded.voxels, plain.voxels)


def test_a_compression_that_no_library_decodes_is_named(secondary_captures_too):
    path = next(path for path in FILES if path.name == "JPGExtended.dcm")
    with pytest.raises(MissingDependencyError, match="JPEG Extended.*is not decoded here; pip install"):
        read_voxels(find_series(path))


def test_a_file_cut_short_is_refused():
    path = next(path for path in FILES if path.name == "MR_truncated.dcm")
    with pytest.raises(ImageReadError, match="has 8130 bytes of pixels, but its header declares 8192"):
        read_voxels(find_series(path))


TEST_STUDIES = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests"


@pytest.mark.parametrize(
    ("folder", "shape", "notes"),
    [
        ("98892001/CT5N", (5, 16, 16), ()),
        ("77654033/CR1", (1, 16, 16), ()),
        (
            "77654033/CT2",
            (4, 16, 16),
            (
                "161 slices seem to be missing between slices 0 and 1 (counted from 0 along z): gap 202.5 mm, others 1.25 mm",
            ),
        ),
    ],
)
def test_real_series(folder, shape, notes):
    series = find_series(TEST_STUDIES / folder)
    assert read_voxels(series).voxels.shape == (1, *shape)
    assert series.notes == notes


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        (".", "holds 1[0-9] image series: .* and [0-9] more; choose one"),
        ("98892001/CT2N", r"2 x localizer \(scout\)"),
        ("98892003/MR700", "more than one kind: ImageOrientationPatient .* in 6 of 7 slices"),
    ],
)
def test_real_folders_that_are_no_series(folder, message):
    with pytest.raises(OncoSegError, match=message):
        find_series(TEST_STUDIES / folder)
