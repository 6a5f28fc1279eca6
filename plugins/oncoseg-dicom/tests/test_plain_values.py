"""Headers as plain values, and pixels whose length is wrong, in every way in which files store them."""

import contextlib
import warnings

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from oncoseg_core import ImageReadError
from oncoseg_dicom import missing_pixels, read_values, write_series


@pytest.fixture
def image(tmp_path):
    attributes = {"PatientName": "Doe^Jane", "OtherPatientIDsSequence": [pydicom.Dataset()], "StudyID": ""}
    (path,) = write_series(tmp_path, np.zeros((1, 6, 8), np.int16), [(0, 0, 0)], attributes=attributes)
    return path


def stored(path, syntax):
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax.is_encapsulated:
        dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f" * 30, b"\xff\x4f" * 20])
        dataset["PixelData"].VR = "OB"
        dataset.NumberOfFrames = 2
    big = syntax == ExplicitVRBigEndian
    pydicom.dcmwrite(path, dataset, little_endian=not big, implicit_vr=syntax.is_implicit_VR)
    return path


def test_values_are_texts_numbers_and_lists(image):
    values = read_values(image)
    assert values["Modality"] == "CT"
    assert values["PatientName"] == "Doe^Jane"
    assert values["Rows"] == 6
    assert values["KVP"] == 120.0
    assert values["ImageType"] == ["DERIVED", "SECONDARY", "AXIAL"]
    assert values["PixelSpacing"] == [1.0, 1.0]
    assert {type(one) for one in values.values()} <= {str, int, float, list}
    assert not {"OtherPatientIDsSequence", "StudyID", "PixelData"} & values.keys()


def test_only_what_is_asked_for_is_read(image):
    assert read_values(image, ["Modality", "BodyPartExamined"]) == {"Modality": "CT"}


def test_damaged_values_are_left_out_without_a_word(image, capfd):
    content = image.read_bytes().replace(b"DS\x04\x00120 ", b"DS\x04\x001.x ")
    image.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "KVP" not in read_values(image)
    assert capfd.readouterr() == ("", "")


def test_what_is_no_dicom_is_refused(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("nothing" * 100)
    for read in (read_values, missing_pixels):
        with pytest.raises(ImageReadError):
            read(path)


SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda one: one.keyword)
def test_all_pixels_are_there(image, syntax):
    assert missing_pixels(stored(image, syntax)) is None


@pytest.mark.parametrize(
    "syntax", [one for one in SYNTAXES if one != DeflatedExplicitVRLittleEndian], ids=lambda one: one.keyword
)
@pytest.mark.parametrize("lost", [1, 9, 30])
def test_a_file_that_was_cut_is_cut_short(image, syntax, lost):
    path = stored(image, syntax)
    path.write_bytes(path.read_bytes()[:-lost])
    assert missing_pixels(path) == "cut short"


@pytest.mark.parametrize("syntax", SYNTAXES[:4], ids=lambda one: one.keyword)
def test_fewer_pixels_than_the_header_declares_are_cut_short(image, syntax):
    dataset = pydicom.dcmread(image)
    dataset.Rows = 7
    dataset.save_as(image)
    assert missing_pixels(stored(image, syntax)) == "cut short"


def test_no_pixels_are_absent(image):
    dataset = pydicom.dcmread(image)
    del dataset.PixelData
    dataset.save_as(image)
    assert missing_pixels(image) == "absent"
    dataset.add_new("PixelData", "OW", b"")
    dataset.save_as(image)
    assert missing_pixels(image) in {"absent", "cut short"}


def test_an_empty_list_of_fragments_is_absent(image):
    path = stored(image, JPEG2000Lossless)
    content = path.read_bytes()
    start = content.index(b"\xe0\x7f\x10\x00")
    path.write_bytes(content[: start + 12] + b"\xfe\xff\x00\xe0" + bytes(4) + b"\xfe\xff\xdd\xe0" + bytes(4))
    assert missing_pixels(path) == "absent"


def test_deflated_objects_that_were_cut_are_refused(image):
    path = stored(image, DeflatedExplicitVRLittleEndian)
    path.write_bytes(path.read_bytes()[:-20])
    with contextlib.suppress(ImageReadError):
        assert missing_pixels(path) in {"absent", "cut short"}
