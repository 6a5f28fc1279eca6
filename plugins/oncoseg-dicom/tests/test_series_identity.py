"""Slices with one SeriesInstanceUID are of one patient, study and meaning, and none of them is lost without a word."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from typer.testing import CliRunner

from oncoseg_core import ImageReadError
from oncoseg_core.cli.app import app
from oncoseg_core.system import display_path
from oncoseg_dicom.series.headers import combined
from oncoseg_dicom.series.pixels import read_voxels
from oncoseg_dicom.series.search import find_series, series_of_files
from oncoseg_dicom.series.write_series import write_series

VOXELS = np.random.default_rng(0).integers(-1000, 2000, (5, 6, 8)).astype(np.int16)
PLACES = [(0, 0, 5.0 * z) for z in range(5)]


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


def bad_findings(path: Path) -> list[str]:
    done = CliRunner().invoke(app, ["doctor", "--json", "--series", str(path)])
    return [row["found"] for row in json.loads(done.output) if not row["ok"]]


# ---------------------------------------------------------------- what must be the same


@pytest.mark.parametrize(
    ("keyword", "usual", "other", "message"),
    [
        ("PatientID", "FIRST77", "OTHER88", "PatientID differs among the slices: one in 3, another in 2 of 5"),
        ("PatientName", "First^Ada", "Other^Bea", "PatientName differs among the slices: one in 3, another in 2 of 5"),
        ("PatientBirthDate", "19610203", "19700405", "PatientBirthDate differs among the slices"),
        ("PatientID", "FIRST77", None, "2 of 5 slices lack PatientID, which the others have"),
        ("StudyInstanceUID", "1.2.3.4.5.6", "1.2.3.4.5.7", "StudyInstanceUID differs among the slices: one in 3"),
        ("Modality", "CT", "MR", "Modality differs among the slices: CT in 3, MR in 2 of 5"),
        ("RescaleSlope", "1", None, "2 of 5 slices lack RescaleSlope, which the others have"),
        ("RescaleIntercept", "-1024", None, "2 of 5 slices lack RescaleIntercept"),
        ("RescaleType", "HU", "US", "RescaleType differs among the slices: HU in 3, US in 2 of 5"),
        ("Units", "BQML", "CNTS", "Units differs among the slices: BQML in 3, CNTS in 2 of 5"),
        ("Units", None, "CNTS", "2 of 5 slices have Units, which the others lack"),
        ("PhotometricInterpretation", "MONOCHROME2", "MONOCHROME1", "MONOCHROME2 in 3, MONOCHROME1 in 2 of 5"),
    ],
)
def test_slices_that_are_not_of_one_image_are_refused(tmp_path, keyword, usual, other, message):
    files = write(tmp_path, **{keyword: usual})
    for file in files[3:]:
        edit(file, **{keyword: other})
    with pytest.raises(ImageReadError, match=message) as caught:
        find_series(tmp_path)
    assert "(image0003.dcm, image0004.dcm)" in str(caught.value)
    for secret in ("FIRST77", "OTHER88", "Ada", "Bea", "1961", "1970", "1.2.3.4.5.6"):
        assert secret not in str(caught.value)
    assert bad_findings(tmp_path) == [str(caught.value)]
    with pytest.raises(ImageReadError, match=message):
        series_of_files(files)


def test_frames_of_one_file_are_compared_too(tmp_path):
    """The rescale of an enhanced object stands in each frame's own group."""
    dataset = pydicom.dcmread(get_testdata_file("eCT_Supplemental.dcm"))
    frame = dataset.PerFrameFunctionalGroupsSequence[1]
    shared = dataset.SharedFunctionalGroupsSequence[0]
    holder = frame if "PixelValueTransformationSequence" in frame else shared
    assert "PixelValueTransformationSequence" in holder
    if holder is shared:
        for one in dataset.PerFrameFunctionalGroupsSequence:
            one.PixelValueTransformationSequence = shared.PixelValueTransformationSequence
        del shared.PixelValueTransformationSequence
    del frame.PixelValueTransformationSequence
    dataset.save_as(tmp_path / "enhanced.dcm")
    with pytest.raises(ImageReadError, match=r"1 of 2 slices lack RescaleType, .* \(enhanced\.dcm frame 2\)"):
        find_series(tmp_path)


def test_what_differs_by_design_passes(tmp_path):
    files = write(tmp_path, "PT", Units="BQML", PatientName="Doe^Jane")
    for index, file in enumerate(files):
        edit(file, RescaleSlope=str(1 + index), RescaleIntercept=str(index), AcquisitionTime=f"03040{index}")
    edit(files[2], PatientName="DOE^JANE^^", WindowCenter="40", WindowWidth="400")
    volume = read_voxels(find_series(tmp_path))
    slope = np.arange(1, 6)[:, None, None]
    np.testing.assert_array_equal(volume.voxels[0], VOXELS * slope + slope - 1)


@pytest.mark.parametrize(
    ("keyword", "values", "whole"),
    [
        ("BurnedInAnnotation", ("NO", "NO", "YES"), "YES"),
        ("BurnedInAnnotation", (None, "YES", None), "YES"),
        ("BurnedInAnnotation", ("NO", "NO", "NO"), "NO"),
        ("BurnedInAnnotation", ("NO", None, "NO"), None),
        ("LossyImageCompression", ("00", "01", "00"), "01"),
        ("LossyImageCompression", ("00", "00", "00"), "00"),
        ("LossyImageCompression", (None, None, None), None),
    ],
)
def test_privacy_and_compression_are_those_of_the_worst_slice(keyword, values, whole):
    headers = [{} if value is None else {keyword: value} for value in values]
    assert combined(headers, "the series").get(keyword) == whole


@pytest.mark.parametrize("keyword", ["PixelIntensityRelationship", "PresentationLUTShape"])
def test_the_meaning_of_values_is_that_of_all_slices(tmp_path, keyword):
    files = write(tmp_path)
    edit(files[4], **{keyword: "LOG"})
    with pytest.raises(ImageReadError, match=f"{keyword} differs among the slices"):
        read_voxels(find_series(tmp_path))


# ---------------------------------------------------------------- slices that cannot be read


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (bytes(5000), "is zeros"),
        (b"\0" * 90 + b"x" * 10, "is cut short"),
        (b"\xff\xd8garbage\0" * 90, "is not DICOM"),
        (None, "is a link to nowhere"),
    ],
)
@pytest.mark.parametrize("name", ["{}.dcm", "{}", "1.2.840.{}", "{}.IMA"])
def test_a_file_that_may_be_a_slice_is_never_skipped_silently(tmp_path, content, what, name):
    files = [file.rename(tmp_path / name.format(index)) for index, file in enumerate(write(tmp_path / "in"))]
    files[4].unlink()
    if content is None:
        files[4].symlink_to(tmp_path / "gone")
    else:
        files[4].write_bytes(content)
    series = find_series(tmp_path)
    assert len(series.planes) == 4
    (note,) = series.notes
    assert note == f"1 file that may be a slice cannot be read: {files[4].name} {what}"
    assert read_voxels(series).notes == (note,)  # which `strict` refuses
    assert bad_findings(tmp_path) == [note]


def test_a_slice_lost_within_an_archive_is_told(tmp_path):
    files = write(tmp_path / "in")
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for file in files[:4]:
            archive.write(file, file.name)
        archive.writestr(files[4].name, b"")
    assert find_series(tmp_path / "study.zip").notes == (
        "1 file that may be a slice cannot be read: image0004.dcm is empty",
    )


def test_a_slice_that_does_not_say_what_it_is_may_be_one(tmp_path):
    edit(write(tmp_path)[4], SOPClassUID="")
    assert bad_findings(tmp_path) == ["1 x object of no told class in the series: may be a slice"]


def test_other_files_beside_the_slices_are_no_finding(tmp_path):
    write(tmp_path)
    (tmp_path / "notes.txt").write_text("not DICOM")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "README").write_text("a text that is longer than nothing")
    (tmp_path / "._image0000.dcm").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X" + bytes(40))
    (tmp_path / ".DS_Store").write_bytes(bytes(64))
    assert find_series(tmp_path).notes == ()


def test_links_to_folders_are_followed_once(tmp_path):
    write(tmp_path / "elsewhere" / "ct")
    study = tmp_path / "study"
    study.mkdir()
    (study / "ct").symlink_to(tmp_path / "elsewhere" / "ct")
    (tmp_path / "elsewhere" / "ct" / "back").symlink_to(study)
    (tmp_path / "link").symlink_to(study)
    for path in (study, tmp_path / "link"):
        assert len(find_series(path).planes) == 5


# ---------------------------------------------------------------- what messages repeat


def test_the_path_that_the_user_typed_is_repeated(tmp_path):
    folder = tmp_path / "test" / "test study"
    files = write(folder / "latest", PatientName="Test", PatientID="study")
    (folder / "latest").rename(folder / "test_latest")
    edit(folder / "test_latest" / files[1].name, ImagePositionPatient=None)
    with pytest.raises(Exception, match="has no ImagePositionPatient") as caught:
        find_series(folder)
    assert str(caught.value).startswith(f"{folder}{os.sep}***_latest{os.sep}image0001.dcm: ")
    single = folder / "test_latest" / files[1].name
    with pytest.raises(Exception, match="has no ImagePositionPatient") as caught:
        find_series(single)
    assert str(caught.value).startswith(f"{single}: ")


def test_only_whole_words_are_hidden():
    assert display_path("latest/test_1.Test/TEST^x/contest", ["Test^Ann"]) == "latest/***_1.***/***^x/contest"
    assert display_path("MÜLLER-x/müllerin", ["Müller"]) == "***-x/müllerin"
    assert display_path("1.2.840.113619.2.55", ["none"]) == "…2.55"


def test_both_patients_of_a_mixed_series_are_hidden(tmp_path):
    files = write(tmp_path, PatientName="Doe^Jane")
    edit(files[3], PatientName="Roe^Mary")
    files[3].rename(tmp_path / "Roe_3.dcm")
    with pytest.raises(ImageReadError, match=r"PatientName differs .* \(\*\*\*_3\.dcm\)"):
        find_series(tmp_path)


def test_several_studies_of_one_series_number_have_short_names_of_their_own(tmp_path):
    write(tmp_path / "a", StudyInstanceUID=generate_uid())
    write(tmp_path / "b", StudyInstanceUID=generate_uid())
    with pytest.raises(ImageReadError, match="holds 2 image series") as caught:
        find_series(tmp_path)
    assert str(caught.value).count("id:") == 3  # of both, and the example
