"""Archives and series that would fill the memory, and what a reader says of what it cannot look into."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import DeflatedExplicitVRLittleEndian

from oncoseg_core import ImageReadError, load_plugins
from oncoseg_core.imaging import read_image
from oncoseg_dicom.series import limits
from oncoseg_dicom.series.decoding import decoder_reason
from oncoseg_dicom.series.write_series import write_series


def series(folder, shape=(4, 32, 32), **attributes):
    origins = [(0.0, 0.0, 3.0 * index) for index in range(shape[0])]
    return write_series(folder, np.zeros(shape, np.int16), origins, attributes=attributes)


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.name)
    return path


def test_a_series_asks_for_its_memory_before_it_is_decoded(tmp_path, monkeypatch):
    series(tmp_path / "series")
    monkeypatch.setenv("ONCOSEG_MAX_IMAGE_BYTES", str(4 * 32 * 32 * 2))
    assert read_image(load_plugins(), tmp_path / "series").voxels.shape == (1, 4, 32, 32)
    monkeypatch.setenv("ONCOSEG_MAX_IMAGE_BYTES", str(4 * 32 * 32 * 2 - 1))
    monkeypatch.setattr("oncoseg_dicom.series.pixels._frames", None)  # nothing is decoded for that
    with pytest.raises(
        ImageReadError, match=r"series: its voxels take 8192 bytes of memory, more than the 8191 .*ONCOSEG_MAX"
    ):
        read_image(load_plugins(), tmp_path / "series")


def test_values_that_need_wider_numbers_are_asked_for_too(tmp_path, monkeypatch):
    series(tmp_path / "series", RescaleSlope="0.5")
    monkeypatch.setenv("ONCOSEG_MAX_IMAGE_BYTES", str(4 * 32 * 32 * 4 - 1))
    with pytest.raises(ImageReadError, match="its voxels take 16384 bytes of memory"):
        read_image(load_plugins(), tmp_path / "series")


def deflated(folder):
    for file in series(folder, (4, 256, 256)):
        dataset = pydicom.dcmread(file)
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.save_as(file)


def test_many_small_files_that_grow_together_are_refused(tmp_path, monkeypatch):
    deflated(tmp_path / "series")
    read_image(load_plugins(), tmp_path / "series")
    monkeypatch.setattr(limits, "UNSUSPICIOUS_TOTAL", 1000)
    monkeypatch.setattr(limits, "ARCHIVE_RATIO", 50)
    with pytest.raises(ImageReadError, match=r"the \d+ bytes of its files would become 524288: damaged, refused"):
        read_image(load_plugins(), tmp_path / "series")


def test_an_archive_is_bounded_as_a_whole(tmp_path, monkeypatch):
    archive = zipped(tmp_path / "a.zip", series(tmp_path / "series", (4, 256, 256)))
    read_image(load_plugins(), archive)
    monkeypatch.setattr(limits, "UNSUSPICIOUS_TOTAL", 100_000)
    monkeypatch.setattr(limits, "ARCHIVE_RATIO", 50)
    with pytest.raises(
        ImageReadError, match=r"a\.zip: its \d+ bytes would become \d+: an archive made to fill the memory"
    ):
        read_image(load_plugins(), archive)
    monkeypatch.setattr(limits, "ARCHIVE_RATIO", 10**6)
    monkeypatch.setattr(limits, "ARCHIVE_BYTES", 1000)
    with pytest.raises(ImageReadError, match="an archive made to fill the memory"):
        read_image(load_plugins(), archive)


def locked(path):
    content = bytearray(path.read_bytes())
    at = 0
    while (at := content.find(b"PK\x01\x02", at)) >= 0:
        content[at + 8] |= 1
        at += 1
    path.write_bytes(content)


def test_a_locked_archive_is_called_locked(tmp_path):
    archive = zipped(tmp_path / "a.zip", series(tmp_path / "series"))
    locked(archive)
    with pytest.raises(ImageReadError, match="is locked by a password; unlock the archive first"):
        read_image(load_plugins(), archive)


def test_too_many_entries_are_counted(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(30):
            archive.writestr(f"{number}.txt", "x")
    monkeypatch.setattr("oncoseg_dicom.series.files.ARCHIVE_MEMBERS", 20)
    with pytest.raises(ImageReadError, match="holds 30 files, more than 20; give the folder of one study"):
        read_image(load_plugins(), tmp_path / "a.zip")


def test_a_broken_archive_is_called_an_archive(tmp_path):
    archive = zipped(tmp_path / "a.zip", series(tmp_path / "series"))
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(ImageReadError, match="cannot be read as a zip archive: File is not a zip file"):
        read_image(load_plugins(), archive)


def test_what_is_no_dicom_stays_of_no_known_format(tmp_path):
    (tmp_path / "notes.txt").write_text("hello " * 100)
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ImageReadError, match="holds no image in a known format"):
            read_image(load_plugins(), path)
    with pytest.raises(ImageReadError, match="no such file or folder"):
        read_image(load_plugins(), tmp_path / "missing")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_no_series(tmp_path):
    os.mkfifo(tmp_path / "pipe.dcm")
    with pytest.raises(ImageReadError, match="is neither a file nor a folder"):
        read_image(load_plugins(), tmp_path / "pipe.dcm")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "RuntimeError: Unable to decode as exceptions were raised by all available plugins:\n  gdcm: 'NoneType' object has no attribute 'encode'\n  pyjpegls: Decoding error: bad stream",
            "pyjpegls: Decoding error: bad stream",
        ),
        (
            "AttributeError: 'NoneType' object has no attribute 'tobytes'",
            "they are damaged, or not compressed as the file says",
        ),
        ("ValueError: the offsets are wrong", "ValueError: the offsets are wrong"),
    ],
)
def test_of_decoders_that_fail_what_a_user_understands_is_said(text, expected):
    assert decoder_reason(text) == expected


def test_no_inner_error_of_a_decoder_is_shown(tmp_path):
    content = bytearray(Path(get_testdata_file("MR_small_jpeg_ls_lossless.dcm")).read_bytes())
    at = content.rindex(b"\xe0\x7f\x10\x00") + 40
    content[at : at + 400] = bytes(400)
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(ImageReadError, match="its pixels cannot be read") as caught:
        read_image(load_plugins(), tmp_path / "a.dcm")
    assert "NoneType" not in str(caught.value)
