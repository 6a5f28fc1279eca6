"""The UIDs of an object by a glance at its beginning: never others than pydicom's."""

import contextlib
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from node_parts import ct_series
from pydicom.data import get_testdata_file
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from oncoseg_core import OncoSegError
from oncoseg_dicom import read_header
from oncoseg_node.receiving.refused import RefusedInstanceError
from oncoseg_node.receiving.uids import scanned_uids, uids_of

KEYWORDS = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    return ct_series(tmp_path_factory.mktemp("ct"), 1)[0]


def parsed(path):
    header = read_header(path, KEYWORDS)
    return [str(header.get(keyword, "")) for keyword in KEYWORDS]


def test_a_plain_file_needs_no_parser(ct, tmp_path):
    assert scanned_uids(ct.read_bytes()) == parsed(ct)
    image = pydicom.dcmread(ct)
    image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    pydicom.dcmwrite(tmp_path / "implicit.dcm", image, implicit_vr=True, little_endian=True)
    assert scanned_uids((tmp_path / "implicit.dcm").read_bytes()) == parsed(ct)


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_others_are_parsed(ct, tmp_path, syntax):
    image = pydicom.dcmread(ct)
    image.file_meta.TransferSyntaxUID = syntax
    path = tmp_path / "other.dcm"
    pydicom.dcmwrite(path, image, implicit_vr=False, little_endian=syntax != ExplicitVRBigEndian)
    assert scanned_uids(path.read_bytes()) is None
    assert list(uids_of(path, path.read_bytes())) == parsed(ct)


def test_real_files_have_the_same_uids_by_either_way():
    """All of the wheel of pydicom that have them, damaged ones too."""
    folder = Path(get_testdata_file("CT_small.dcm", download=False)).parent
    scanned = 0
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        uids = scanned_uids(path.read_bytes()[: 2**14])
        if uids is not None:
            scanned += 1
            assert uids == parsed(path), path.name
    assert scanned > 50


@given(at=st.integers(0, 700), value=st.integers(0, 255), cut=st.integers(0, 2000))
@settings(max_examples=60, deadline=None)
def test_damaged_beginnings_give_valid_uids_or_none(tmp_path_factory, ct, at, value, cut):
    content = bytearray(ct.read_bytes()[:cut] if cut < 700 else ct.read_bytes())
    if at < len(content):
        content[at] = value
    path = tmp_path_factory.mktemp("damaged") / "one.dcm"
    path.write_bytes(content)
    try:
        uids = uids_of(path, bytes(content))
    except RefusedInstanceError:
        return
    with contextlib.suppress(OncoSegError):  # read by a glance, and damaged behind
        assert list(uids) == parsed(path)
