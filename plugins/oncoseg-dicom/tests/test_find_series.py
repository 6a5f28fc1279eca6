"""Which series is found in a folder, zip or file, and what is said when there is none or several."""

import re
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

from oncoseg_core import ImageReadError
from oncoseg_dicom.reader import DicomReader
from oncoseg_dicom.series import limits
from oncoseg_dicom.series.pixels import read_voxels
from oncoseg_dicom.series.search import find_series, list_series
from oncoseg_dicom.series.write_series import write_series

VOXELS = np.random.default_rng(0).integers(-1000, 2000, (3, 6, 8)).astype(np.int16)
PLACES = [(0, 0, 5.0 * z) for z in range(3)]


def write(folder: Path, **attributes) -> list[Path]:
    return write_series(folder, VOXELS, PLACES, attributes=attributes)


def edit(path: Path, **attributes) -> None:
    dataset = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


def zipped(folder: Path, archive: Path, prefix: str = "", **options) -> Path:
    with zipfile.ZipFile(archive, "w", **options) as file:
        for path in sorted(folder.rglob("*.dcm")):
            file.write(path, prefix + str(path.relative_to(folder)))
    return archive


def test_folder_with_subfolders_and_other_files(tmp_path):
    write(tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / "image0002.dcm").rename(tmp_path / "no_suffix")
    (tmp_path / "notes.txt").write_text("not DICOM")
    (tmp_path / "empty").touch()
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM broken")
    series = find_series(tmp_path)
    assert [plane.file.path.name for plane in series.planes] == ["image0000.dcm", "image0001.dcm", "no_suffix"]
    np.testing.assert_array_equal(read_voxels(series).voxels[0], VOXELS)
    assert "PixelData" not in series.header
    assert (series.rows, series.columns, series.modality) == (6, 8, "ct")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_zip(tmp_path, method):
    write(tmp_path / "in")
    archive = zipped(tmp_path / "in", tmp_path / "study.zip", compression=method)
    before = sorted(tmp_path.rglob("*"))
    series = find_series(archive)
    np.testing.assert_array_equal(read_voxels(series).voxels[0], VOXELS)
    assert series.notes == ()
    assert sorted(tmp_path.rglob("*")) == before
    with series.planes[0].file.open() as stream:
        assert stream.read() == (tmp_path / "in" / "image0000.dcm").read_bytes()


def test_zip_whose_names_lead_out_of_it_is_read_and_told(tmp_path):
    write(tmp_path / "in")
    archive = zipped(tmp_path / "in", tmp_path / "study.zip", prefix="../../../../out/")
    before = sorted(tmp_path.rglob("*"))
    series = find_series(archive)
    np.testing.assert_array_equal(read_voxels(series).voxels[0], VOXELS)
    assert series.notes == ("3 names in the archive lead out of it; nothing was unpacked",)
    assert sorted(tmp_path.rglob("*")) == before


def test_single_file(tmp_path):
    file = write(tmp_path)[1]
    series = find_series(file)
    assert len(series.planes) == 1
    np.testing.assert_array_equal(read_voxels(series).voxels[0, 0], VOXELS[1])


def test_file_without_preamble(tmp_path):
    file = write(tmp_path / "in")[1]
    bare = tmp_path / "bare"
    bare.write_bytes(file.read_bytes()[132:])
    np.testing.assert_array_equal(read_voxels(find_series(bare)).voxels[0, 0], VOXELS[1])


def test_several_series_are_listed_and_chosen_by_number_or_uid(tmp_path):
    uids = {}
    for number in (2, 7):
        files = write(
            tmp_path / str(number), SeriesNumber=number, SeriesDescription=f"Thorax {number}", PatientName="Doe^Jane"
        )
        uids[number] = str(pydicom.dcmread(files[0]).SeriesInstanceUID)
    with pytest.raises(
        ImageReadError,
        match=r"holds 2 image series: 2 \(CT, 3 files, id:[0-9a-f]{6}\); 7 .*such as series=2, or by its short name",
    ) as caught:
        find_series(tmp_path)
    for hidden in ("Thorax", *(uid[-4:] for uid in uids.values())):
        assert hidden not in str(caught.value)
    short = re.findall(r"id:[0-9a-f]{6}", str(caught.value))[1]
    assert str(find_series(tmp_path, short).header.SeriesInstanceUID) == uids[7]
    assert list_series(tmp_path)[short].startswith("7 (CT, 3 files, id:")
    assert len(list_series(tmp_path)) == 2
    with pytest.raises(ImageReadError, match=r"2 \(CT, 3 files, 'Thorax 2', id:"):
        find_series(tmp_path, descriptions=True)
    assert str(find_series(tmp_path, "7").header.SeriesInstanceUID) == uids[7]
    assert str(find_series(tmp_path, "uid:" + uids[2][-5:]).header.SeriesInstanceUID) == uids[2]
    assert str(find_series(tmp_path, uids[2]).header.SeriesInstanceUID) == uids[2]
    with pytest.raises(
        ImageReadError, match="no series has the number or short name 9, or a UID with that end; there are: 2 "
    ):
        find_series(tmp_path, "9")


def test_a_localizer_is_told_apart_from_its_series(tmp_path):
    files = write(tmp_path)
    edit(files[1], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    series = find_series(tmp_path)
    assert len(series.planes) == 2
    assert series.notes == ("left out of the series: 1 x localizer (scout)",)


@pytest.mark.parametrize(
    ("attributes", "what"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, r"3 x localizer \(scout\)"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "3 x screen capture"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "3 x Secondary Capture Image"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.67"}, "3 x X-Ray Radiation Dose SR"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.11.1"}, "3 x Grayscale Softcopy Presentation State"),
    ],
)
def test_what_is_no_image_is_refused_by_its_name(tmp_path, attributes, what):
    write(tmp_path, **attributes)
    with pytest.raises(ImageReadError, match=f"holds no image series, but {what}"):
        find_series(tmp_path)


def test_an_object_that_does_not_say_what_it_is_is_no_image(tmp_path):
    for file in write(tmp_path):
        edit(file, SOPClassUID="")
    with pytest.raises(ImageReadError, match="holds no image series, but 3 x object of no told class"):
        find_series(tmp_path)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("rtstruct.dcm", "RT Structure Set"),
        ("rtdose.dcm", "RT Dose"),
        ("rtplan.dcm", "RT Plan"),
        ("reportsi.dcm", "Basic Text SR|.* SR"),
        ("waveform_ecg.dcm", "12-lead ECG Waveform"),
    ],
)
def test_real_objects_that_are_no_images(name, what):
    with pytest.raises(ImageReadError, match=f"holds no image series, but 1 x ({what})"):
        find_series(Path(get_testdata_file(name)))


def test_structures_beside_the_images_do_not_matter(tmp_path):
    write(tmp_path)
    (tmp_path / "rs.dcm").write_bytes(Path(get_testdata_file("rtstruct.dcm")).read_bytes())
    assert len(find_series(tmp_path).planes) == 3


def test_a_directory_of_files_is_no_image():
    directory = Path(get_testdata_file("DICOMDIR"))
    with pytest.raises(ImageReadError, match="is a DICOMDIR, which only lists files; give its folder"):
        find_series(directory)


def test_nothing_there(tmp_path):
    with pytest.raises(ImageReadError, match="no such file or folder"):
        find_series(tmp_path / "missing")
    with pytest.raises(ImageReadError, match=r"holds no DICOM file \(0 files were looked at\)"):
        find_series(tmp_path)


def test_a_damaged_file_among_good_ones_is_named(tmp_path):
    files = write(tmp_path)
    dataset = files[1].read_bytes()
    files[1].write_bytes(dataset.replace(b"0.0\\0.0\\5.0", b"x.0\\0.0\\5.0"))
    with pytest.raises(ImageReadError, match=r"image0001\.dcm: ImagePositionPatient is .*; expected 3 finite numbers"):
        find_series(tmp_path)


def test_pictures_in_time_are_refused(tmp_path):
    files = write(tmp_path)
    edit(files[0], NumberOfFrames=30)
    with pytest.raises(ImageReadError, match="holds 30 frames that follow each other in time"):
        find_series(files[0])


def test_messages_keep_the_patient_to_themselves(tmp_path):
    folder = tmp_path / "DOE_JANE" / "1.2.840.113619.2.55.3.604688119"
    files = write(folder, PatientName="Doe^Jane", PatientID="MRN4711", PatientBirthDate="19610203")
    for file in files:
        file.rename(file.with_name(f"MRN4711_19610203_{file.name}"))
    first, second, _ = sorted(folder.iterdir())
    edit(second, ImagePositionPatient=pydicom.dcmread(first).ImagePositionPatient)
    with pytest.raises(Exception, match="share a place") as caught:
        find_series(tmp_path)
    for secret in ("doe", "jane", "mrn4711", "19610203", "604688119"):
        assert secret not in str(caught.value).lower()
    edit(second, PixelSpacing=None)
    with pytest.raises(Exception, match="has no PixelSpacing") as caught:
        find_series(tmp_path)
    for secret in ("doe", "jane", "mrn4711", "19610203", "604688119"):
        assert secret not in str(caught.value).lower()


def test_a_file_of_no_series_may_be_a_slice(tmp_path):
    folder = tmp_path / "Doe"
    files = write(folder, PatientName="Doe^Jane")
    files[2].write_bytes(files[2].read_bytes()[:340])
    with pytest.raises(
        ImageReadError, match=r"files that do not say of which series they are: 1 \(\*\*\*/image0002\.dcm\)"
    ) as caught:
        find_series(tmp_path)
    assert "Doe" not in str(caught.value)


def test_a_thousand_times_too_large_an_archive_is_refused(tmp_path, monkeypatch):
    write(tmp_path / "in")
    archive = zipped(tmp_path / "in", tmp_path / "study.zip")
    monkeypatch.setattr("oncoseg_dicom.series.files.ARCHIVE_MEMBERS", 2)
    with pytest.raises(ImageReadError, match="holds 3 files, more than 2"):
        find_series(archive)
    monkeypatch.setattr("oncoseg_dicom.series.files.FOLDER_FILES", 1)
    with pytest.raises(ImageReadError, match="holds 4 files, more than 1"):
        find_series(tmp_path)


def test_a_zip_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "UNSUSPICIOUS_BYTES", 2**20)
    file = write(tmp_path / "in")[0]
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", compression=zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("bomb.dcm", file.read_bytes() + bytes(8 * 2**20))
    with pytest.raises(ImageReadError, match="an archive made to fill the memory is refused"):
        find_series(archive)


def test_a_locked_or_damaged_zip_is_refused(tmp_path):
    write(tmp_path / "in")
    archive = zipped(tmp_path / "in", tmp_path / "study.zip")
    content = bytearray(archive.read_bytes())
    locked = tmp_path / "locked.zip"
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1
    locked.write_bytes(content)
    with pytest.raises(ImageReadError, match="is locked by a password"):
        find_series(locked)
    cut = tmp_path / "cut.zip"
    cut.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(ImageReadError, match="cannot be read as a zip archive"):
        find_series(cut)


def test_recognises(tmp_path):
    reader = DicomReader()
    write(tmp_path / "in")
    archive = zipped(tmp_path / "in", tmp_path / "study.zip")
    assert reader.recognises(tmp_path)
    assert reader.recognises(archive)
    assert reader.recognises(tmp_path / "in" / "image0000.dcm")
    (tmp_path / "text").write_text("nothing " * 100)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        other.writestr("a.txt", "nothing")
    for path in (tmp_path / "missing", tmp_path / "text", tmp_path / "other.zip"):
        assert not reader.recognises(path)


def test_two_patients_with_one_series_number_are_told(tmp_path):
    for name in "ab":
        write(tmp_path / name, SeriesNumber=4, StudyInstanceUID=generate_uid())
    with pytest.raises(ImageReadError, match="holds 2 image series: 4 .* 4 "):
        find_series(tmp_path, "4")
