"""A real archive: Orthanc with its DICOMweb plugin. The images are phantoms."""

import os

import numpy as np
import pydicom
import pytest
from local_orthanc import DICOMWEB_PLUGIN, ORTHANC, running_orthanc

from oncoseg_core import ConfigError
from oncoseg_dicom import find_series, read_voxels, write_series
from oncoseg_dicomweb import ArchiveError, Credentials, DicomwebArchive, PrivateFolders

pytestmark = pytest.mark.skipif(
    ORTHANC is None or not DICOMWEB_PLUGIN.exists(),
    reason="Orthanc with DICOMweb is not installed: apt-get install orthanc orthanc-dicomweb",
)

PLACES = [(-14.0, 30.5, z) for z in (0.0, 2.5, 5.0, 7.5, 12.5)]


def phantom(folder, seed=0, **attributes):
    voxels = np.random.default_rng(seed).integers(-1000, 2000, (5, 32, 28)).astype(np.int16)
    return write_series(folder, voxels, PLACES, pixel_spacing=(0.8, 0.9), attributes=attributes)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    with running_orthanc(tmp_path_factory.mktemp("orthanc"), dicomweb=True, users={"reader": "secret word"}) as server:
        yield server


@pytest.fixture
def private(tmp_path):
    private = PrivateFolders(tmp_path / "private")
    yield private
    private.close()


@pytest.fixture
def archive(orthanc, private, monkeypatch):
    monkeypatch.setenv("PACS_USER", "reader")
    monkeypatch.setenv("PACS_PASSWORD", "secret word")
    credentials = Credentials(user_variable="PACS_USER", password_variable="PACS_PASSWORD")
    archive = DicomwebArchive("pacs", orthanc.dicomweb, private, credentials=credentials)
    yield archive
    archive.close()


def uids(file):
    data = pydicom.dcmread(file, stop_before_pixels=True)
    return str(data.StudyInstanceUID), str(data.SeriesInstanceUID), str(data.SOPInstanceUID)


def test_what_is_stored_is_listed_retrieved_and_never_replaced(archive, private, tmp_path):
    files = phantom(tmp_path / "series", SeriesDescription="Phantom")
    study, series, sop = uids(files[0])
    archive.check()
    archive.store(files)
    (entry,) = archive.series(study)
    assert (entry.study_uid, entry.series_uid, entry.modality, entry.instances) == (study, series, "CT", 5)
    assert entry.description == "Phantom"
    assert series in {one.series_uid for one in archive.series()}
    with archive.local(study, series) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        read = find_series(folder)
        np.testing.assert_array_equal(read_voxels(read).voxels, read_voxels(find_series(tmp_path / "series")).voxels)
        np.testing.assert_array_equal([plane.position for plane in read.planes], PLACES)
    assert not folder.exists()
    (tmp_path / "one.dcm").write_bytes(archive.retrieve(study, series, sop))
    assert pydicom.dcmread(tmp_path / "one.dcm") == pydicom.dcmread(files[0])
    with pytest.raises(ArchiveError, match="holds that instance already") as refusal:
        archive.store(files[:1])
    assert refusal.value.problem == "not_stored"


def test_a_retrieval_can_be_cancelled_and_leaves_nothing(archive, private, tmp_path):
    files = phantom(tmp_path / "series")
    archive.store(files)
    with pytest.raises(ArchiveError) as stopped, archive.local(*uids(files[0])[:2], lambda: True):
        pass
    assert stopped.value.problem == "cancelled"
    assert not any((tmp_path / "private").rglob("*.dcm"))


def test_what_is_not_there_is_not_found(archive, tmp_path):
    files = phantom(tmp_path / "series")
    study, series, sop = uids(files[0])
    for call in (
        lambda: archive.local(study, series).__enter__(),
        lambda: archive.local("1.2/../3", series).__enter__(),
        lambda: archive.retrieve(study, series, sop),
    ):
        with pytest.raises(ArchiveError) as missing:
            call()
        assert missing.value.problem == "not_found"


def test_credentials_come_from_the_environment_and_wrong_ones_are_refused(orthanc, private, monkeypatch):
    monkeypatch.setenv("PACS_USER", "reader")
    monkeypatch.setenv("PACS_PASSWORD", "wrong")
    wrong = Credentials(user_variable="PACS_USER", password_variable="PACS_PASSWORD")
    for credentials in (None, wrong):
        with pytest.raises(ArchiveError, match="refuses the credentials .HTTP 401") as refused:
            DicomwebArchive("pacs", orthanc.dicomweb, private, credentials=credentials).check()
        assert refused.value.problem == "refused"
        assert "wrong" not in str(refused.value)
    monkeypatch.delenv("PACS_PASSWORD")
    with pytest.raises(ConfigError, match="PACS_PASSWORD is not set"):
        DicomwebArchive("pacs", orthanc.dicomweb, private, credentials=wrong)
    assert os.environ["PACS_USER"] == "reader"
