"""What the voxels mean: rescaled, turned to colours, and with the header that calibration needs."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    RLELossless,
    UltrasoundImageStorage,
)

from oncoseg_core import DataError, GeometryError, ImageReadError, load_plugins
from oncoseg_core.path.normalization import Normalization
from oncoseg_dicom.series.pixels import read_voxels
from oncoseg_dicom.series.search import find_series
from oncoseg_dicom.series.write_series import write_series

VOXELS = np.random.default_rng(0).integers(-1000, 2000, (3, 6, 8)).astype(np.int16)
PLACES = [(0, 0, 5.0 * z) for z in range(3)]


def write(folder: Path, modality="CT", **attributes) -> list[Path]:
    return write_series(folder, VOXELS, PLACES, modality=modality, attributes=attributes)


def edit(path: Path, **attributes) -> None:
    dataset = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)


def read(path: Path):
    return read_voxels(find_series(path))


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [
        ("1", "0", np.int16),
        ("1", "-1024", np.int16),
        ("40", "7", np.int32),
        ("0.5", "0", np.float32),
        ("1", "0.25", np.float32),
        ("-1", "0", np.int16),
    ],
)
def test_rescaled(tmp_path, slope, intercept, dtype):
    write(tmp_path, RescaleSlope=slope, RescaleIntercept=intercept)
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.voxels[0], VOXELS * float(slope) + float(intercept))
    assert volume.voxels.dtype == dtype
    assert volume.voxels.flags.c_contiguous


def test_each_slice_has_its_own_slope(tmp_path):
    slopes = (1, 2.5, 100)
    for file, slope in zip(write(tmp_path), slopes, strict=True):
        edit(file, RescaleSlope=slope)
    voxels = read(tmp_path).voxels
    assert voxels.dtype == np.float32
    np.testing.assert_array_equal(voxels[0], VOXELS * np.array(slopes)[:, None, None])


def test_a_wider_slice_widens_those_before(tmp_path):
    edit(write(tmp_path)[2], RescaleSlope=1000)
    voxels = read(tmp_path).voxels
    assert voxels.dtype == np.int32
    np.testing.assert_array_equal(voxels[0], VOXELS * np.array([1, 1, 1000])[:, None, None])


def test_unsigned_and_fewer_bits(tmp_path):
    stored = np.abs(VOXELS).astype(np.uint16) % 4096
    for file, plane in zip(write(tmp_path, RescaleIntercept="-1024"), stored, strict=True):
        overlay = plane | np.uint16(0x8000)  # an overlay in a bit that no pixel uses
        edit(file, PixelRepresentation=0, BitsStored=12, HighBit=11, PixelData=overlay.tobytes())
    voxels = read(tmp_path).voxels
    np.testing.assert_array_equal(voxels[0], stored.astype(int) - 1024)
    assert voxels.dtype == np.int16


def test_no_rescale_at_all(tmp_path):
    write(tmp_path, "MR", RescaleSlope=None, RescaleIntercept=None)
    np.testing.assert_array_equal(read(tmp_path).voxels[0], VOXELS)


def test_a_slope_of_zero_is_damage(tmp_path):
    edit(write(tmp_path)[1], RescaleSlope=0)
    with pytest.raises(ImageReadError, match=r"image0001\.dcm: RescaleSlope is 0"):
        read(tmp_path)


def test_modality_lookup_table(tmp_path):
    table = Dataset()
    table.LUTDescriptor = [4, -1, 16]
    table["LUTDescriptor"].VR = "SS"
    table.ModalityLUTType = "HU"
    table.LUTData = [100, 200, 300, 4000]
    table["LUTData"].VR = "US"
    image = np.array([[[-9, -1, 0, 1, 2, 30000]]], dtype=np.int16)
    write_series(
        tmp_path,
        image,
        [(0, 0, 0)],
        attributes={"ModalityLUTSequence": Sequence([table]), "RescaleSlope": None, "RescaleIntercept": None},
    )
    np.testing.assert_array_equal(read(tmp_path).voxels[0], [[[100, 100, 200, 300, 4000, 4000]]])


def test_monochrome1_is_kept_and_told(tmp_path):
    write(tmp_path, PhotometricInterpretation="MONOCHROME1")
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.voxels[0], VOXELS)
    assert volume.headers[0]["PhotometricInterpretation"] == "MONOCHROME1"
    turned = Normalization(load_plugins(), "ct", {}).calibrated(volume)
    np.testing.assert_array_equal(np.argsort(turned.voxels.ravel()[:20]), np.argsort(-VOXELS.ravel()[:20]))


def test_mixed_photometric_interpretations_are_refused(tmp_path):
    edit(write(tmp_path)[1], PhotometricInterpretation="MONOCHROME1")
    with pytest.raises(ImageReadError, match="PhotometricInterpretation differs among the slices"):
        read(tmp_path)


@pytest.mark.parametrize("planar", [0, 1])
def test_colours(tmp_path, planar):
    colours = np.random.default_rng(1).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    stored = colours if planar == 0 else np.moveaxis(colours, -1, 0)
    file = write(tmp_path, "MR")[0]
    edit(
        file, SamplesPerPixel=3, PlanarConfiguration=planar, PhotometricInterpretation="RGB", BitsAllocated=8,
        BitsStored=8, HighBit=7, PixelRepresentation=0, PixelData=np.ascontiguousarray(stored).tobytes(),
        SOPClassUID=UltrasoundImageStorage, Modality="US", ImagePositionPatient=None, PixelSpacing=None,
    )  # fmt: skip
    volume = read(file)
    np.testing.assert_array_equal(np.moveaxis(volume.voxels[:, 0], 0, -1), colours)
    assert volume.headers[0]["PhotometricInterpretation"] == "RGB"
    assert (volume.modality, volume.physical, volume.geometry.spacing) == ("ultrasound", False, (1, 1, 1))


def test_ybr_and_palette_become_rgb():
    rgb = read(Path(get_testdata_file("examples_rgb_color.dcm")))
    ybr = pydicom.dcmread(get_testdata_file("SC_ybr_full_422_uncompressed.dcm"))
    assert rgb.voxels.shape[0] == 3
    assert ybr.PhotometricInterpretation == "YBR_FULL_422"


def test_compressed_slices_are_the_same(tmp_path):
    for file in write(tmp_path):
        dataset = pydicom.dcmread(file)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(file)
    np.testing.assert_array_equal(read(tmp_path).voxels[0], VOXELS)


def test_pixels_that_are_not_there(tmp_path):
    edit(write(tmp_path)[1], PixelData=None)
    with pytest.raises(ImageReadError, match=r"image0001\.dcm: has no pixels: it is cut short, or damaged"):
        read(tmp_path)


@pytest.mark.parametrize(("change", "bytes_found"), [(lambda data: data[:-2], 94), (lambda data: data + b"ab", 98)])
def test_pixels_of_another_size_than_declared(tmp_path, change, bytes_found):
    edit(write(tmp_path)[1], PixelData=change(VOXELS[1].tobytes()))
    with pytest.raises(ImageReadError, match=f"has {bytes_found} bytes of pixels, but its header declares 96"):
        read(tmp_path)


def test_padding_after_the_pixels_is_left_out(tmp_path):
    for file, plane in zip(write(tmp_path), VOXELS, strict=True):
        edit(file, PixelData=plane.tobytes() + bytes(128))
    np.testing.assert_array_equal(read(tmp_path).voxels[0], VOXELS)


# ---------------------------------------------------------------- radiographs


def film(folder: Path, sop_class, modality, **attributes) -> Path:
    file = write(folder)[0]
    edit(
        file,
        SOPClassUID=sop_class,
        Modality=modality,
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        **attributes,
    )
    return file


@pytest.mark.parametrize(
    ("sop_class", "modality", "attributes", "expected"),
    [
        (ComputedRadiographyImageStorage, "CR", {"BodyPartExamined": "CHEST"}, ("cxr", False, (1, 1, 1))),
        (DigitalXRayImageStorageForPresentation, "DX", {"BodyPartExamined": "FEMUR"}, ("xray", False, (1, 1, 1))),
        (DigitalXRayImageStorageForPresentation, "DX", {}, ("unknown", False, (1, 1, 1))),
        (
            DigitalXRayImageStorageForPresentation,
            "DX",
            {"PixelSpacing": [0.2, 0.1], "PixelSpacingCalibrationType": "FIDUCIAL"},
            ("unknown", True, (1, 0.2, 0.1)),
        ),
        (UltrasoundImageStorage, "US", {"PixelSpacing": [0.2, 0.1]}, ("ultrasound", True, (1, 0.2, 0.1))),
    ],
)
def test_pictures(tmp_path, sop_class, modality, attributes, expected):
    volume = read(film(tmp_path, sop_class, modality, **attributes))
    assert (volume.modality, volume.physical, volume.geometry.spacing) == expected
    np.testing.assert_array_equal(volume.voxels[0, 0], VOXELS[0])


def test_a_picture_whose_spacing_cannot_be(tmp_path):
    path = film(tmp_path, UltrasoundImageStorage, "US", PixelSpacing=[0, 1])
    with pytest.raises(GeometryError, match="expected two sizes above 0"):
        find_series(path)


def test_what_differs_is_named_and_no_date_or_weight_told(tmp_path):
    edit(pet(tmp_path)[1], PatientWeight="71.5")
    with pytest.raises(ImageReadError, match="PatientWeight differs among the slices: they are not of one image"):
        read(tmp_path)


def test_several_pictures_of_one_series_are_refused(tmp_path):
    for file in write(tmp_path):
        edit(file, SOPClassUID=ComputedRadiographyImageStorage, Modality="CR", ImagePositionPatient=None)
    with pytest.raises(ImageReadError, match=r"holds 3 pictures without a place in the body \(image0000\.dcm, "):
        find_series(tmp_path)


# ---------------------------------------------------------------- PET


def pet(folder: Path, **attributes) -> list[Path]:
    drug = Dataset()
    drug.RadiopharmaceuticalStartTime, drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = (
        "020405",
        "3.7e8",
        "6586.2",
    )
    drug.Radiopharmaceutical = "FDG"
    told = {
        "Units": "BQML", "CorrectedImage": ["ATTN", "DECY"], "DecayCorrection": "START", "PatientWeight": "70",
        "RadiopharmaceuticalInformationSequence": Sequence([drug]),
        "PatientName": "Doe^Jane", "PatientID": "MRN4711", "PatientBirthDate": "19610203", "PatientAge": "063Y",
    }  # fmt: skip
    return write(folder, "PT", **(told | attributes))


def calibrated(volume):
    return Normalization(load_plugins(), "pet", {}).calibrated(volume).voxels


def test_pet_becomes_suv_with_each_slice_s_slope(tmp_path):
    slopes = (0.5, 1.25, 3)
    for file, slope in zip(pet(tmp_path), slopes, strict=True):
        edit(file, RescaleSlope=slope)
    factor = 70_000 / (3.7e8 * 2 ** (-3600 / 6586.2))
    truth = VOXELS * np.array(slopes)[:, None, None] * factor
    volume = read(tmp_path)
    assert volume.modality == "pet"
    np.testing.assert_allclose(calibrated(volume)[0], truth, rtol=1e-5, atol=1e-9)


def test_pet_is_corrected_to_the_first_bed_position(tmp_path):
    files = pet(tmp_path, SeriesTime="030000")
    for file, time in zip(files, ("031500", "030000", "033000"), strict=True):
        edit(file, AcquisitionTime=time)
    volume = read(tmp_path)
    assert volume.headers[0]["AcquisitionTime"] == "030000"
    assert volume.headers[0]["SeriesTime"] == "030000"
    factor = 70_000 / (3.7e8 * 2 ** (-(3600 - 245) / 6586.2))
    np.testing.assert_allclose(calibrated(volume)[0], VOXELS * factor, rtol=1e-5, atol=1e-9)


def test_a_slice_without_its_acquisition_time_leaves_the_first_one_unknown(tmp_path):
    edit(pet(tmp_path)[2], AcquisitionTime=None)
    with pytest.raises(DataError, match="AcquisitionDate"):
        calibrated(read(tmp_path))


@pytest.mark.parametrize(
    "keyword",
    [
        "Units",
        "CorrectedImage",
        "DecayCorrection",
        "PatientWeight",
        "RadiopharmaceuticalInformationSequence",
        "SeriesTime",
        "AcquisitionDate",
    ],
)
def test_every_missing_tag_of_pet_is_named(tmp_path, keyword):
    for file in pet(tmp_path):
        edit(file, **{keyword: None})
    with pytest.raises(DataError, match=keyword):
        calibrated(read(tmp_path))


@pytest.mark.parametrize(
    ("creator", "element", "value", "key"),
    [
        ("Philips PET Private Group", 0x00, "0.0025", "(7053,1000)"),
        ("Philips PET Private Group", 0x09, "7.5", "(7053,1009)"),
    ],
)
def test_private_attributes_of_philips(tmp_path, creator, element, value, key):
    for file in pet(tmp_path, Units="CNTS"):
        dataset = pydicom.dcmread(file)
        dataset.private_block(0x7053, creator, create=True).add_new(element, "DS", value)
        dataset.save_as(file)
    volume = read(tmp_path)
    assert volume.headers[0][key] == float(value)
    if element == 0:
        np.testing.assert_allclose(calibrated(volume)[0], VOXELS * float(value), rtol=1e-5)


def test_slices_whose_units_differ_are_refused(tmp_path):
    edit(pet(tmp_path)[1], Units="CNTS")
    with pytest.raises(ImageReadError, match=r"Units differs among the slices: BQML in 2, CNTS in 1 of 3"):
        read(tmp_path)


@pytest.mark.parametrize("modality", ["CT", "PT"])
def test_headers_do_not_say_who_the_patient_is(tmp_path, modality):
    for file in pet(tmp_path):
        edit(file, Modality=modality)
    told = repr(read(tmp_path).headers)
    for secret in ("Doe", "Jane", "MRN4711", "19610203", "063Y"):
        assert secret not in told
