"""Orthanc, a real archive, on loopback for one test (Debian and Ubuntu: ``apt-get install orthanc orthanc-dicomweb``)."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

ORTHANC = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Orthanc:
    def __init__(self, dicom_port, http_port):
        self.dicom_port, self.url = dicom_port, f"http://127.0.0.1:{http_port}"
        self.dicomweb = f"{self.url}/dicom-web"

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=10) as reply:
            return reply.read()

    def answers(self):
        try:
            return bool(self.get("/system"))
        except urllib.error.HTTPError:
            return True  # it asks for a password
        except OSError:
            return False


@contextmanager
def running_orthanc(folder, *, dicomweb=False, users=None, **settings):
    """A running Orthanc that keeps its files in ``folder``; with DICOMweb at ``.dicomweb`` where that is said."""
    dicom_port, http_port = free_port(), free_port()
    settings = {
        "Name": "OncoSeg test", "StorageDirectory": str(folder / "storage"), "IndexDirectory": str(folder / "index"),
        "DicomPort": dicom_port, "HttpPort": http_port, "RemoteAccessAllowed": False,
        "AuthenticationEnabled": users is not None, "RegisteredUsers": users or {}, "DicomAlwaysAllowStore": True,
        "DicomAet": "ORTHANC", "Plugins": [str(DICOMWEB_PLUGIN)] if dicomweb else [], "HttpServerEnabled": True,
        **settings,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("wb") as log:
        server = subprocess.Popen([ORTHANC, folder / "orthanc.json"], stdout=log, stderr=log)
    orthanc = Orthanc(dicom_port, http_port)
    try:
        for _ in range(200):
            if orthanc.answers():
                break
            assert server.poll() is None, (folder / "orthanc.log").read_text()
            time.sleep(0.1)
        yield orthanc
    finally:
        server.terminate()
        server.wait(timeout=20)
