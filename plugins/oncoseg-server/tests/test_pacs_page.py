"""The files of the page on PACS: the server takes its settings, and a real Orthanc its own."""

import json
from pathlib import Path

import pytest
import yaml
from local_orthanc import DICOMWEB_PLUGIN, ORTHANC, running_orthanc

from oncoseg_dicomweb import ArchiveError, Credentials, DicomwebArchive, PrivateFolders
from oncoseg_server.config.settings import ServerSettings

FILES = Path(__file__).parents[3] / "docs" / "how-to" / "orthanc"


def test_the_servers_settings_are_settings_and_compose_gives_them_their_variables():
    settings = ServerSettings(**yaml.safe_load((FILES / "server.yaml").read_text()))
    source = settings.sources["pacs"].dicomweb
    compose = yaml.safe_load((FILES / "compose.yaml").read_text())
    assert {settings.token_env, source.user_env, source.password_env} == compose["services"]["sidecar"][
        "environment"
    ].keys()
    orthanc = json.loads((FILES / "orthanc.json").read_text())
    assert source.url == f"http://orthanc:{orthanc['HttpPort']}{orthanc['DicomWeb']['Root'].rstrip('/')}"
    assert compose["services"]["sidecar"]["environment"]["ORTHANC_USER"] in orthanc["RegisteredUsers"]
    assert compose["services"]["orthanc"]["ports"] == [f"{orthanc['DicomPort']}:{orthanc['DicomPort']}"]
    for service in compose["services"].values():
        for volume in service["volumes"]:
            if volume.startswith("./"):
                assert (FILES / volume.split(":")[0]).is_file()


@pytest.mark.skipif(
    ORTHANC is None or not DICOMWEB_PLUGIN.exists(),
    reason="Orthanc with DICOMweb is not installed: apt-get install orthanc orthanc-dicomweb",
)
def test_orthanc_takes_its_settings(tmp_path, monkeypatch):
    """But for its folders and ports, which are the test's."""
    monkeypatch.setenv("ORTHANC_PASSWORD", "from the environment")
    monkeypatch.setenv("ORTHANC_USER", "oncoseg")
    settings = json.loads((FILES / "orthanc.json").read_text())
    for name in ("StorageDirectory", "IndexDirectory", "HttpPort", "DicomPort", "AuthenticationEnabled"):
        del settings[name]
    users = settings.pop("RegisteredUsers")
    private = PrivateFolders(tmp_path / "private")
    with running_orthanc(tmp_path / "orthanc", users=users, **settings) as orthanc:
        credentials = Credentials(user_variable="ORTHANC_USER", password_variable="ORTHANC_PASSWORD")
        archive = DicomwebArchive("pacs", orthanc.dicomweb, private, credentials=credentials)
        archive.check()
        with pytest.raises(ArchiveError, match="HTTP 401"):
            DicomwebArchive("pacs", orthanc.dicomweb, private).check()
        archive.close()
    private.close()
