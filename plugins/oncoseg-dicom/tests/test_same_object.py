"""What an archive gives back, compared with what it was sent: encodings may differ, values may not."""

from io import BytesIO
from unittest import mock

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian
from rtstruct_phantoms import on_disk, shapes, write

from oncoseg_dicom import first_difference, same_object


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sent")
    write(on_disk(folder / "series"), {"ball": shapes()["ball"], "Läsion": shapes()["one slice"]}, folder / "rs.dcm")
    data = pydicom.dcmread(folder / "rs.dcm")
    data.PatientName = "Müller^Zoë"
    data.save_as(folder / "rs.dcm")
    return folder / "rs.dcm"


def given_back(sent, change=lambda data: None):
    data = pydicom.dcmread(sent)
    change(data)
    stream = BytesIO()
    data.save_as(stream)
    return stream.getvalue()


def test_the_same_file_is_compared_without_reading_its_contours(sent):
    with mock.patch.object(same_object, "_same", side_effect=lambda one, other: not one and not other):
        assert first_difference(sent, sent.read_bytes()) is None


def test_another_encoding_is_no_difference(sent):
    data = pydicom.dcmread(sent)
    data.decode()
    data.SpecificCharacterSet = "ISO_IR 100"
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stream = BytesIO()
    data.save_as(stream, implicit_vr=False, little_endian=True)
    assert first_difference(sent, stream.getvalue()) is None


def test_added_elements_are_no_difference(sent):
    assert first_difference(sent, given_back(sent, lambda data: setattr(data, "InstitutionName", "Archive"))) is None


def test_the_same_bytes_in_another_character_set_are_another_text(sent):
    content = sent.read_bytes()
    assert content.count(b"ISO_IR 192") == 1
    assert first_difference(sent, content.replace(b"ISO_IR 192", b"ISO_IR 100")) == "PatientName"


def move_a_point(data):
    contour = data.ROIContourSequence[1].ContourSequence[0]
    contour.ContourData = [contour.ContourData[0] + 1, *contour.ContourData[1:]]


def drop_a_contour(data):
    del data.ROIContourSequence[0].ContourSequence[-1]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (move_a_point, "ROIContourSequence/ContourSequence/ContourData"),
        (drop_a_contour, "ROIContourSequence/ContourSequence"),
        (lambda data: setattr(data, "ApprovalStatus", "APPROVED"), "ApprovalStatus"),
        (lambda data: delattr(data, "StructureSetDate"), "StructureSetDate"),
        (lambda data: setattr(data.StructureSetROISequence[1], "ROIName", "Lasion"), "StructureSetROISequence/ROIName"),
    ],
)
def test_another_value_is_named(change, where, sent):
    assert first_difference(sent, given_back(sent, change)) == where


@pytest.mark.parametrize("content", [b"", b"nothing", bytes(200)])
def test_what_cannot_be_read_is_a_difference(content, sent):
    assert "cannot be read" in first_difference(sent, content)
