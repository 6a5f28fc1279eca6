"""Decoding in a process of its own, which a damaged file may end, hang or fill."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from oncoseg_core import ImageReadError
from oncoseg_dicom.series import decoding
from oncoseg_dicom.series.decoding import DecodingProcess

JPEG, J2K = get_testdata_file("SC_rgb_jpeg_dcmtk.dcm"), get_testdata_file("693_J2KI.dcm")


def damaged(path: str, at: int, *values: int) -> pydicom.Dataset:
    content = bytearray(Path(path).read_bytes())
    content[at : at + len(values)] = values
    return pydicom.dcmread(pydicom.filebase.DicomBytesIO(bytes(content)))


def frames(process: DecodingProcess, dataset: pydicom.Dataset) -> list:
    return list(process.frames(dataset, dataset.file_meta.TransferSyntaxUID, "it"))


@pytest.mark.parametrize(
    "name",
    ["693_J2KI.dcm", "SC_rgb_jpeg_dcmtk.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm", "MR_small_jpeg_ls_lossless.dcm", "examples_ybr_color.dcm", "emri_small_jpeg_2k_lossless.dcm"],
)  # fmt: skip
def test_as_in_this_process(name):
    dataset = pydicom.dcmread(get_testdata_file(name))
    expected = dataset.pixel_array
    if int(dataset.get("NumberOfFrames", 1)) == 1:
        expected = expected[np.newaxis]
    with DecodingProcess() as process:
        found = frames(process, dataset)
    np.testing.assert_array_equal(np.array([values for values, _ in found]), expected)
    kind = found[0][1]["photometric_interpretation"]
    assert kind == ("RGB" if expected.ndim == 4 else dataset.PhotometricInterpretation)


def test_a_file_that_ends_the_decoder_ends_nothing_else(capfd):
    # A byte of a marker; GDCM 3.2 finds "extraneous bytes before marker", throws, and aborts the process.
    with DecodingProcess() as process, pytest.raises(ImageReadError, match="^it: its pixels cannot be read"):
        frames(process, damaged(JPEG, 1781, 107))
    assert capfd.readouterr() == ("", "")


def test_files_after_each_other_share_the_process():
    whole = pydicom.dcmread(JPEG)
    with DecodingProcess() as process:
        first = frames(process, whole)
        pid = process._process.pid
        with pytest.raises(ImageReadError, match="cannot be read: "):
            frames(process, damaged(J2K, Path(J2K).read_bytes().index(b"\xff\x4f\xff\x51"), 0, 0))
        second = frames(process, whole)
        assert process._process.pid == pid
    assert process._process is None
    np.testing.assert_array_equal(first[0][0], second[0][0])


def test_an_answer_that_nobody_reads_to_its_end_is_not_taken_for_the_next():
    film, one = pydicom.dcmread(get_testdata_file("examples_ybr_color.dcm")), pydicom.dcmread(J2K)
    with DecodingProcess() as process:
        for _ in process.frames(film, film.file_meta.TransferSyntaxUID, "it"):
            break
        assert frames(process, one)[0][0].shape == one.pixel_array.shape


def test_a_frame_that_takes_too_long(monkeypatch):
    monkeypatch.setattr(decoding, "SECONDS", 0.01)  # less than the process needs to start
    with DecodingProcess() as process, pytest.raises(ImageReadError, match="the decoder broke off"):
        frames(process, pydicom.dcmread(J2K))


@pytest.mark.parametrize("size", [(0, 0, 0x40, 0), (0, 2, 0, 0), (0x10, 0, 0, 0), (0, 0, 1, 0)])
def test_a_codestream_of_another_size_than_the_header(size):
    start = Path(J2K).read_bytes().index(b"\xff\x4f\xff\x51")
    with DecodingProcess() as process, pytest.raises(ImageReadError, match="^it: "):
        frames(process, damaged(J2K, start + 8, *size, *size))  # Xsiz and Ysiz


def test_nothing_is_imported_from_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "pydicom.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    with DecodingProcess() as process:
        assert len(frames(process, pydicom.dcmread(J2K))) == 1


def test_no_process_without_compressed_pixels():
    with DecodingProcess() as process:
        assert process._process is None
