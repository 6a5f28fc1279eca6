"""Uploads: DICOM files or zips, bounded, private, gone when nobody uses them. The images are phantoms."""

import io
import time
import zipfile

import numpy as np
import pydicom
import pytest
from fastapi.testclient import TestClient

from oncoseg_dicom import find_series, write_series
from oncoseg_dicomweb import ArchiveError, PrivateFolders
from oncoseg_segment.api import SegmentSettings
from oncoseg_server.archives.uploads import UploadArchive
from oncoseg_server.config.settings import ServerSettings
from oncoseg_server.web.app import create_app
from oncoseg_server.web.sources import Sources

MODELS = {"toy": SegmentSettings(model="brighter", modality="unit", model_settings={"weights": "abc"}, zoom=None)}


@pytest.fixture
def private(tmp_path):
    private = PrivateFolders(tmp_path / "private")
    yield private
    private.close()


@pytest.fixture
def archive(private):
    return UploadArchive("uploads", private, upload_bytes=200_000, total_bytes=300_000, idle_seconds=0.2)


def phantom(folder, slices=3, size=16, **attributes):
    voxels = np.random.default_rng(0).integers(-1000, 1000, (slices, size, size)).astype(np.int16)
    return write_series(folder, voxels, [(0, 0, 2.0 * z) for z in range(slices)], attributes=attributes)


def zipped(files, names=None, compression=zipfile.ZIP_DEFLATED):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for number, file in enumerate(files):
            archive.writestr(names[number] if names else f"Doe^Jane/IM{number}", file.read_bytes())
        archive.writestr("README.txt", "not an image")
    content.seek(0)
    return content


def files_of(tmp_path):
    return list((tmp_path / "private").rglob("*.dcm"))


def test_files_and_zips_become_series(archive, tmp_path):
    one, other = phantom(tmp_path / "one"), phantom(tmp_path / "other", 2)
    (entry,) = archive.add([io.BytesIO(file.read_bytes()) for file in one])
    assert entry.instances == 3
    (packed,) = archive.add([zipped(other)])
    assert packed.instances == 2
    with archive.local(packed.study_uid, packed.series_uid) as folder:
        assert len(find_series(folder).planes) == 2
    assert not any("Doe" in str(path) for path in (tmp_path / "private").rglob("*"))
    assert all(path.stat().st_mode & 0o077 == 0 for path in files_of(tmp_path))


def test_the_same_may_come_again_and_other_content_may_not(archive, tmp_path):
    files = phantom(tmp_path / "one")
    archive.add([zipped(files)])
    (entry,) = archive.add([zipped(files), io.BytesIO(files[0].read_bytes())])
    assert entry.instances == 3
    data = pydicom.dcmread(files[0])
    data.PixelData = bytes(len(data.PixelData))
    data.save_as(files[0])
    with pytest.raises(ArchiveError, match="with other content; nothing is replaced") as refused:
        archive.add([zipped(files)])
    assert refused.value.problem == "not_stored"


@pytest.mark.parametrize("content", [b"", b"PK", b"text" * 100, b"PK\x03\x04" + b"x" * 100])
def test_what_is_no_image(archive, content):
    with pytest.raises(ArchiveError) as refused:
        archive.add([io.BytesIO(content)])
    assert refused.value.problem == "damaged"
    assert archive.series() == []


def test_a_zip_that_is_damaged_or_locked(archive, tmp_path):
    content = bytearray(zipped(phantom(tmp_path / "one")).getvalue())
    content[60:90] = bytes(30)
    with pytest.raises(ArchiveError, match="the upload was refused") as refused:
        archive.add([io.BytesIO(bytes(content))])
    assert refused.value.problem == "damaged"
    assert not files_of(tmp_path)


def test_names_in_a_zip_lead_nowhere(archive, tmp_path):
    files = phantom(tmp_path / "one")
    (entry,) = archive.add([zipped(files, ["../../../evil.dcm", "/tmp/evil.dcm", "C:\\evil.dcm"])])
    assert entry.instances == 3
    assert not list(tmp_path.rglob("*evil*"))


def test_too_large_packed_unpacked_or_altogether(archive, tmp_path):
    big = phantom(tmp_path / "big", 4, 160)
    with pytest.raises(ArchiveError, match="larger than") as refused:
        archive.add([io.BytesIO(file.read_bytes()) for file in big])
    assert refused.value.problem == "too_large"
    for index, file in enumerate(big):
        data = pydicom.dcmread(file)
        data.PixelData = bytes(len(data.PixelData))
        data.save_as(big[index])
    with pytest.raises(ArchiveError, match="larger than 200000 bytes; send one series") as refused:
        archive.add([zipped(big)])
    assert refused.value.problem == "too_large"
    for name in ("a", "b"):
        archive.add([zipped(phantom(tmp_path / name, 2, 160))])
    with pytest.raises(ArchiveError, match="no room for more uploads now") as refused:
        archive.add([zipped(phantom(tmp_path / "c", 2, 160))])
    assert refused.value.problem == "too_large"
    assert len(archive.series()) == 2


def test_a_zip_bomb(private, tmp_path):
    archive = UploadArchive("uploads", private)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("IM0", bytes(128) + b"DICM" + bytes(100 * 2**20))
    content.seek(0)
    with pytest.raises(ArchiveError, match="made to fill the memory"):
        archive.add([content])
    assert not files_of(tmp_path)


def test_what_nobody_uses_is_deleted_and_what_is_used_is_not(archive, tmp_path):
    (entry,) = archive.add([zipped(phantom(tmp_path / "one"))])
    assert archive.reap() == 0
    with archive.local(entry.study_uid, entry.series_uid):
        time.sleep(0.3)
        assert archive.reap() == 0
    time.sleep(0.3)
    assert archive.reap() == 1
    assert archive.series() == []
    assert not files_of(tmp_path)


def test_the_server_deletes_what_nobody_uses(private, tmp_path, registry):
    archive = UploadArchive("uploads", private, idle_seconds=0.05)
    archive.add([zipped(phantom(tmp_path / "one"))])
    settings = ServerSettings(models=MODELS, limits={"lease_seconds": 0.2})
    app = create_app(settings, Sources({"uploads": archive}, private), registry=registry, environment={})
    with TestClient(app, base_url="http://127.0.0.1"):
        until = time.monotonic() + 20
        while files_of(tmp_path) and time.monotonic() < until:
            time.sleep(0.05)
    assert not files_of(tmp_path)


def test_results_are_kept_with_the_upload(archive, tmp_path):
    (entry,) = archive.add([zipped(phantom(tmp_path / "one"))])
    archive.store(phantom(tmp_path / "result", 1, StudyInstanceUID=entry.study_uid))
    assert len(archive.series(entry.study_uid)) == 2
    time.sleep(0.3)
    archive.reap()
    assert not files_of(tmp_path)
