"""Values of the images that DICOM does not allow are not copied to what is drawn on them, and it is said."""

import subprocess

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from rtstruct_phantoms import program, shapes

from oncoseg_core import Segmentation
from oncoseg_dicom.copied_values import copy_valid
from oncoseg_dicom.quiet import quiet
from oncoseg_dicom.rtstruct.write import RTStructSettings, write_structures
from oncoseg_dicom.seg.write import SegSettings, write_seg
from oncoseg_dicom.series.search import find_series
from oncoseg_dicom.series.write_series import write_series

FORBIDDEN = {
    "PatientSex": "female",
    "PatientBirthDate": "00000000",
    "StudyDate": "20240231",
    "StudyTime": "25:61",
    "StudyID": "much longer than sixteen characters",
    "AccessionNumber": "A" * 17,
    "PatientID": "7" * 65,
    "PatientIdentityRemoved": "MAYBE",
    "IssuerOfPatientID": "I" * 65,
    "StudyDescription": "D" * 65,
    "ReferringPhysicianName": "N" * 65,
    "PositionReferenceIndicator": "P" * 65,
}


def header(**values):
    with quiet():
        found = Dataset()
        for keyword, value in values.items():
            setattr(found, keyword, value)
    return found


@pytest.mark.parametrize(("keyword", "value"), FORBIDDEN.items())
def test_a_forbidden_value_is_left_out_and_not_quoted(keyword, value):
    dataset = Dataset()
    with quiet():
        (note,) = copy_valid(header(**{keyword: value}), dataset, [keyword], empty=True)
    assert note.startswith(f"{keyword} of the images is left out: ")
    assert value not in note
    assert dataset[keyword].value in ("", None)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientSex", "F"),
        ("PatientBirthDate", "19600229"),
        ("StudyTime", "101112.123456"),
        ("PatientName", "Müller^Zoë=ミュラー"),
        ("PatientAge", "045Y"),
        ("DeidentificationMethod", ["one", "two"]),
        ("StudyID", "1" * 16),
    ],
)
def test_a_valid_value_is_copied(keyword, value):
    dataset = Dataset()
    assert copy_valid(header(**{keyword: value}), dataset, [keyword, "StudyDescription"]) == ()
    assert dataset[keyword].value == value
    assert "StudyDescription" not in dataset


@pytest.mark.parametrize("kind", ["rtstruct", "seg"])
def test_dciodvfy_finds_no_error_in_what_is_drawn_on_images_with_many(kind, tmp_path):
    shape = next(iter(shapes().values())).shape
    origins = [(0.0, 0.0, 3.0 * index) for index in range(shape[0])]
    write_series(tmp_path / "series", np.zeros(shape, dtype=np.int16), origins)
    for path in (tmp_path / "series").iterdir():
        image = pydicom.dcmread(path)
        with quiet():
            for keyword, value in FORBIDDEN.items():
                setattr(image, keyword, value)
            image.save_as(path)
    series = find_series(tmp_path / "series")
    segmentation = Segmentation({"liver": shapes()["island in hole"]}, series.geometry)
    if kind == "rtstruct":
        report = write_structures(segmentation, series, tmp_path / "out.dcm", RTStructSettings(source=tmp_path))
    else:
        report = write_seg(segmentation, series, tmp_path / "out.dcm", SegSettings(source=tmp_path))
    done = subprocess.run([program("dciodvfy"), str(tmp_path / "out.dcm")], capture_output=True, text=True)
    assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []
    told = {note.split(" ")[0] for note in report.notes}
    assert told >= set(FORBIDDEN) - {"PositionReferenceIndicator"}
