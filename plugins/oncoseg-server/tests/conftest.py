"""A server on a toy model whose right answers are known, with a generated CT-like series in a folder."""

from dataclasses import dataclass

import numpy as np
import pydicom
import pytest
from fastapi.testclient import TestClient
from toy_engine import registry_of

from oncoseg_dicom import write_series
from oncoseg_dicomweb import PrivateFolders
from oncoseg_segment.api import SegmentSettings
from oncoseg_server.archives.folder import FolderArchive
from oncoseg_server.config.settings import ServerSettings
from oncoseg_server.web.app import create_app
from oncoseg_server.web.sources import Sources

ADDRESS = "http://127.0.0.1"
MODELS = {"toy": SegmentSettings(model="brighter", modality="unit", model_settings={"weights": "abc"}, zoom=None)}


@dataclass
class Scan:
    """Eight slices of 0.5 mm pixels, 2.5 mm apart; on slices 2 to 5 a bright square: columns 40 to 59, rows 30 to 49."""

    folder: object
    study: str
    series: str

    def open_request(self, **more):
        return {"source": "scans", "study_uid": self.study, "series_uid": self.series, **more}


def written(folder, value=100, seed=0):
    voxels = np.random.default_rng(seed).integers(-50, 0, (8, 128, 128)).astype(np.int16)
    voxels[2:6, 30:50, 40:60] = value
    origins = [(-20.0, -30.0, 100 + 2.5 * index) for index in range(8)]
    files = write_series(folder, voxels, origins, pixel_spacing=(0.5, 0.5))
    header = pydicom.dcmread(files[0], stop_before_pixels=True)
    return Scan(folder, str(header.StudyInstanceUID), str(header.SeriesInstanceUID))


@pytest.fixture
def make_scan():
    return written


@pytest.fixture
def scan(tmp_path):
    return written(tmp_path / "scans" / "one")


@pytest.fixture
def registry():
    return registry_of()


@pytest.fixture
def sources(scan, tmp_path):
    private = PrivateFolders(tmp_path / "private")
    yield Sources({"scans": FolderArchive("scans", scan.folder.parent, private)}, private)
    private.close()


@pytest.fixture
def make_client(sources, registry):
    """A client of a server with these settings; the server ends with the test."""
    clients = []

    def make(environment=None, base_url=ADDRESS, registry=registry, **settings):
        checked = ServerSettings(**{"models": MODELS, **settings})
        app = create_app(checked, sources, registry=registry, environment=environment or {})
        client = TestClient(app, base_url=base_url, raise_server_exceptions=False)
        client.__enter__()
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(make_client):
    return make_client()


@dataclass
class Opened:
    """A session over HTTP."""

    client: object
    reply: dict

    @property
    def headers(self):
        return {"X-OncoSeg-Lease": self.reply["lease"]}

    def post(self, path, body=None, **more):
        return self.client.post(
            f"/api/v1/sessions/{self.reply['session']}{path}", json=body, headers=self.headers, **more
        )

    def get(self):
        return self.client.get(f"/api/v1/sessions/{self.reply['session']}", headers=self.headers)

    def delete(self):
        return self.client.delete(f"/api/v1/sessions/{self.reply['session']}", headers=self.headers)

    def box(self, structure="a", numbers=(38, 28, 50, 52), index=3, **more):
        x0, y0, x1, y1 = numbers
        hint = {"kind": "box", "points": [[x0, y0], [x1, y1]]}
        return self.post("/steps", {"step": "prompt", "structure": structure, "slice": index, "hints": [hint], **more})


@pytest.fixture
def open_session(client, scan):
    def opened(on=None, **more):
        reply = (on or client).post("/api/v1/sessions", json=scan.open_request(**more))
        assert reply.status_code == 201, reply.text
        return Opened(on or client, reply.json())

    return opened
