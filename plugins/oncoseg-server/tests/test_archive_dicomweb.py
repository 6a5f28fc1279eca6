"""A real archive: Orthanc with its DICOMweb plugin, and our embedded store beside it, both asked by an independent client.

The images are phantoms; ``test_archive_demo.py`` has a real scan.
"""

import httpx
import numpy as np
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from fastapi import FastAPI
from local_orthanc import DICOMWEB_PLUGIN, ORTHANC, running_orthanc
from served_app import served

from oncoseg_dicom import write_series
from oncoseg_dicomweb import Credentials, DicomwebArchive, PrivateFolders
from oncoseg_server.archives.folder import FolderArchive
from oncoseg_server.archives.routes import dicomweb_router

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


def test_an_independent_client_gets_the_same_from_orthanc_through_us_and_from_our_own_store(archive, private, tmp_path):
    """Orthanc directly would be a third party to itself; here it is asked through the proxy, the folder beside it."""
    files = phantom(tmp_path / "root" / "deep" / "series", PatientName="Phantom^Näme", SeriesDescription="Both")
    study, series, sop = uids(files[2])
    archive.store(files)
    app = FastAPI()
    folder = FolderArchive("folder", tmp_path / "root", private)
    app.include_router(dicomweb_router({"pacs": archive, "folder": folder}))
    with served(app) as address:
        answers = {}
        for source in ("pacs", "folder"):
            client = DICOMwebClient(f"{address}/dicom-web/{source}")
            datasets = {data.SOPInstanceUID: data for data in client.retrieve_series(study, series)}
            metadata = client.retrieve_series_metadata(study, series)
            headers = {one["00080018"]["Value"][0]: pydicom.Dataset.from_json(one) for one in metadata}
            answers[source] = {
                "studies": [one["0020000D"] for one in client.search_for_studies(search_filters={"StudyInstanceUID": study})],
                "names": [one["00100010"] for one in client.search_for_studies(search_filters={"PatientName": "Phantom^N*"}) if one["0020000D"]["Value"] == [study]],
                "series": [one["0020000E"] for one in client.search_for_series(study)],
                "modality": client.search_for_series(study, search_filters={"Modality": "MR"}),
                "instances": sorted(one["00080018"]["Value"][0] for one in client.search_for_instances(study, series)),
                "page": len(client.search_for_instances(study, series, limit=2, offset=3)),
            }  # fmt: skip
            assert set(datasets) == set(headers) == set(answers[source]["instances"])
            assert len(datasets) == 5
            for file in files:
                sent = pydicom.dcmread(file)
                assert datasets[sent.SOPInstanceUID] == sent
                assert datasets[sent.SOPInstanceUID].PixelData == sent.PixelData
                shown = headers[sent.SOPInstanceUID]
                for keyword in (
                    "PatientName",
                    "ImagePositionPatient",
                    "ImageOrientationPatient",
                    "PixelSpacing",
                    "Rows",
                ):
                    assert shown[keyword].value == sent[keyword].value, (source, keyword)
            one = client.retrieve_instance(study, series, sop)
            assert one.PixelData == pydicom.dcmread(files[2]).PixelData
            as_stored = (("application/octet-stream", "1.2.840.10008.1.2.1"),)
            (frame,) = client.retrieve_instance_frames(study, series, sop, [1], media_types=as_stored)
            assert frame == one.PixelData
            # How OHIF asks: for whatever is stored.
            accept = "multipart/related; type=application/octet-stream; transfer-syntax=*"
            path = f"{address}/dicom-web/{source}/studies/{study}/series/{series}/instances/{sop}/frames/1"
            answer = httpx.get(path, headers={"Accept": accept})
            assert one.PixelData in answer.content
            assert answer.headers["Content-Type"].startswith("multipart/related")
        assert answers["pacs"] == answers["folder"]
        assert answers["folder"]["names"]
        assert not answers["folder"]["modality"]


def test_addresses_of_bulk_data_lead_through_us(archive, private, tmp_path):
    """A private value too long for JSON: the origin's own address in it would lead a browser past this server."""
    (file, *_) = phantom(tmp_path / "series")
    data = pydicom.dcmread(file)
    data.private_block(0x0099, "ONCOSEG TEST", create=True).add_new(1, "OB", bytes(range(256)) * 40)
    data.save_as(file)
    study, series, sop = uids(file)
    archive.store([file])
    folder = FolderArchive("folder", tmp_path / "series", private)
    app = FastAPI()
    app.include_router(dicomweb_router({"pacs": archive, "folder": folder}))
    with served(app) as address:
        for source in ("pacs", "folder"):
            root = f"{address}/dicom-web/{source}"
            client = DICOMwebClient(root)
            metadata = client.retrieve_instance_metadata(study, series, sop)
            bulk = metadata["00991001"]["BulkDataURI"]
            bulk = bulk.replace("http://127.0.0.1/", f"{address}/")  # this client names the host without its port
            assert bulk.startswith(f"{root}/studies/{study}/series/{series}/instances/{sop}/bulk")
            assert (
                client.retrieve_bulkdata(bulk, media_types=("application/octet-stream",))[0] == bytes(range(256)) * 40
            )
