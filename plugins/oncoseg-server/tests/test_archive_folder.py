"""A folder as a source: what it lists, gives and takes, and that nothing leads out of it. The images are phantoms."""

import os
import threading
from io import BytesIO

import numpy as np
import pydicom
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydicom.uid import JPEG2000Lossless, generate_uid

from oncoseg_dicom import find_series, write_series
from oncoseg_dicomweb import ArchiveError, PrivateFolders
from oncoseg_server.archives import folder as folder_module
from oncoseg_server.archives.folder import FolderArchive
from oncoseg_server.archives.routes import dicomweb_router


@pytest.fixture
def private(tmp_path):
    private = PrivateFolders(tmp_path / "private")
    yield private
    private.close()


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def archive(root, private):
    return FolderArchive("scans", root, private)


def phantom(folder, slices=3, seed=0, **attributes):
    voxels = np.random.default_rng(seed).integers(-1000, 1000, (slices, 8, 6)).astype(np.int16)
    return write_series(folder, voxels, [(0, 0, 2.0 * z) for z in range(slices)], attributes=attributes)


def uids(file):
    data = pydicom.dcmread(file, stop_before_pixels=True)
    return str(data.StudyInstanceUID), str(data.SeriesInstanceUID), str(data.SOPInstanceUID)


def test_series_of_many_folders_under_any_name(archive, root):
    files = phantom(root / "Doe^Jane" / "a", PatientName="Doe^Jane", SeriesDescription="One")
    phantom(root / "b" / "c", 2, Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    (root / "notes.txt").write_text("no image")
    files[1].rename(files[1].with_name("IM.7"))
    entries = {entry.modality: entry for entry in archive.series()}
    assert {modality: entry.instances for modality, entry in entries.items()} == {"CT": 3, "MR": 2}
    assert entries["CT"].description == "One"
    assert "Doe" not in repr(archive.series())
    assert archive.series(entries["MR"].study_uid) == [entries["MR"]]
    assert len(archive.series(limit=1)) == 1
    with archive.local(entries["CT"].study_uid, entries["CT"].series_uid) as folder:
        assert len(find_series(folder).planes) == 3
        assert not any("Doe" in path.name for path in folder.iterdir())
    assert not folder.exists()
    assert all(file.exists() for file in (files[0], files[2]))


def test_headers_are_read_once_and_again_when_a_file_changes(archive, root, monkeypatch):
    read = []
    original = folder_module.stored_instance
    monkeypatch.setattr(folder_module, "stored_instance", lambda path: read.append(path) or original(path))
    files = phantom(root / "a")
    archive.refresh()
    archive.series()
    assert len(read) == 3
    phantom(root / "b", 2)
    archive.refresh()
    assert len(read) == 5
    assert len(archive.series()) == 2
    data = pydicom.dcmread(files[0])
    data.SeriesDescription = "Another and longer"
    data.save_as(files[0])
    archive.refresh()
    assert len(read) == 6
    files[1].unlink()
    archive.refresh()
    assert len(read) == 6
    assert sorted(entry.instances for entry in archive.series()) == [2, 2]


def test_links_that_lead_out_are_not_followed(archive, root, tmp_path):
    outside = phantom(tmp_path / "outside")
    inside = phantom(root / "inside")
    (root / "link").symlink_to(outside[0])
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "nowhere").symlink_to(root / "gone")
    (root / "same").symlink_to(inside[0])  # within the root: the same file, listed once
    os.mkfifo(root / "pipe.dcm")
    (entry,) = archive.series()
    assert entry.instances == 3
    study, series, _ = uids(inside[0])
    inside[0].unlink()
    inside[0].symlink_to(outside[0])  # after the list was made
    with pytest.raises(ArchiveError, match="a file of the series is gone") as gone:
        archive.local(study, series).__enter__()
    assert gone.value.problem == "not_found"


def test_what_is_not_there(archive, root):
    study, series, _ = uids(phantom(root / "a")[0])
    other, other_series, other_sop = uids(phantom(root / "b")[0])
    for call in (
        lambda: archive.instances("1.2.3", series),
        lambda: archive.instances(study, "../../etc"),
        lambda: archive.instances(study, other_series),
        lambda: archive.retrieve(study, series, other_sop),
        lambda: archive.retrieve(study, series, "/etc/passwd"),
        lambda: archive.local(other, series).__enter__(),
    ):
        with pytest.raises(ArchiveError) as missing:
            call()
        assert missing.value.problem == "not_found"


def test_a_folder_that_is_not_there(private, tmp_path):
    archive = FolderArchive("scans", tmp_path / "unmounted", private)
    for call in (archive.check, archive.series):
        with pytest.raises(
            ArchiveError, match="source 'scans': its folder is not there; mount or create it"
        ) as missing:
            call()
        assert missing.value.problem == "unreachable"


def test_store_adds_and_never_replaces(archive, root, tmp_path):
    files = phantom(tmp_path / "new")
    study, series, sop = uids(files[0])
    archive.store(files)
    assert (root / "oncoseg" / study / series / f"{sop}.dcm").read_bytes() == files[0].read_bytes()
    assert archive.retrieve(study, series, sop) == files[0].read_bytes()
    more = phantom(tmp_path / "more", 1)
    with pytest.raises(ArchiveError, match="holds that instance already; nothing is replaced") as refused:
        archive.store([*more, files[1]])
    assert refused.value.problem == "not_stored"
    assert len(archive.series()) == 1  # nothing of the other series either
    # A file that the list does not know of: a name that is taken.
    target = root / "oncoseg" / uids(more[0])[0] / uids(more[0])[1] / f"{uids(more[0])[2]}.dcm"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"precious")
    with pytest.raises(ArchiveError, match="nothing is replaced"):
        archive.store(more)
    assert target.read_bytes() == b"precious"


def test_two_threads_that_store_the_same_leave_one_whole_file(root, private, tmp_path):
    files = phantom(tmp_path / "new", 1)
    outcomes = []

    def store(archive):
        try:
            archive.store(files)
            outcomes.append("stored")
        except ArchiveError as error:
            outcomes.append(error.problem)

    # As of two processes: neither knows of the other.
    threads = [threading.Thread(target=store, args=(FolderArchive("scans", root, private),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["not_stored"] * 5 + ["stored"]
    (stored,) = (path for path in (root / "oncoseg").rglob("*") if path.is_file())
    assert stored.read_bytes() == files[0].read_bytes()


def test_what_cannot_be_named_is_not_stored(archive, root, tmp_path):
    (file,) = phantom(tmp_path / "new", 1)
    data = pydicom.dcmread(file)
    for keyword, value in (("SOPInstanceUID", "../../../x"), ("SeriesInstanceUID", ""), ("StudyInstanceUID", "1" * 65)):
        wrong = pydicom.dcmread(file)
        setattr(wrong, keyword, value)
        wrong.save_as(tmp_path / "wrong.dcm", enforce_file_format=False)
        with pytest.raises(ArchiveError, match="no DICOM instance with its UIDs; nothing was stored"):
            archive.store([tmp_path / "wrong.dcm"])
    del data
    (root / "oncoseg").symlink_to(tmp_path)
    with pytest.raises(ArchiveError, match="a link that leads out"):
        archive.store([file])
    assert not list(tmp_path.glob("1.*"))


@pytest.fixture
def client(archive):
    app = FastAPI()
    app.include_router(dicomweb_router({"scans": archive}))
    return TestClient(app)


def test_searches_by_what_viewers_ask_for(client, root):
    study, series, _ = uids(
        phantom(
            root / "a", PatientName="Doe^Jane", PatientID="7", StudyDate="20240102", StudyDescription="Chest",
            AccessionNumber="A-1",
        )[0]
    )  # fmt: skip
    phantom(
        root / "b",
        PatientName="Roe^Richard",
        PatientID="8",
        StudyDate="20230506",
        Modality="PT",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.128",
    )
    for query, count in (
        ("", 2), ("PatientName=doe*", 1), ("PatientName=*", 2), ("00100020=*7*", 1), ("PatientID=9", 0), ("StudyDate=20240102", 1),
        ("StudyDate=20230101-20231231", 1), ("StudyDate=-20230506", 1), ("StudyDate=20240101-", 1), ("StudyDescription=*hest*", 1),
        ("ModalitiesInStudy=PT", 1), ("ModalitiesInStudy=CT,PT", 2), ("AccessionNumber=A-?", 1), (f"StudyInstanceUID={study}", 1),
        (f"StudyInstanceUID={study},1.2.3", 1), (f"StudyInstanceUID={study}%5C1.2.3", 1), ("PatientName=[D]oe*", 0), ("limit=1", 1),
        ("limit=1&offset=1", 1), ("offset=2", 0), ("limit=0", 0), ("PatientName=", 2), ("includefield=all&fuzzymatching=false", 2),
    ):  # fmt: skip
        assert len(client.get(f"/dicom-web/scans/studies?{query}").json()) == count, query
    for query in ("limit=-1", "limit=x", "offset=1e3", "Nonsense=1", "a/b=1", "limit=9999999999999999999"):
        answer = client.get(f"/dicom-web/scans/studies?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request"), query
    assert len(client.get("/dicom-web/scans/series").json()) == 2
    assert len(client.get(f"/dicom-web/scans/studies/{study}/series?Modality=CT").json()) == 1
    assert client.get(f"/dicom-web/scans/studies/{study}/series?Modality=MR").json() == []
    assert len(client.get("/dicom-web/scans/instances").json()) == 6
    assert len(client.get(f"/dicom-web/scans/studies/{study}/instances").json()) == 3
    assert len(client.get(f"/dicom-web/scans/studies/{study}/series/{series}/instances?InstanceNumber=2").json()) == 1


@pytest.mark.parametrize(
    "path",
    [
        "", "studies/../../x", "studies/1.2%2f..", "..%2f..%2fetc%2fpasswd", "studies/1.2/series/1.3/instances/1.4/frames/0",
        "studies/1.2/series/1.3/instances/1.4/bulkdata/..", "studies/1.2/series/1.3/instances/1.4/bulkdata/7fe0001g", "studies/a",
        "studies/1.2/series/1.3/instances/1.4/frames/1,", "studies/1.2/studies", "studies/1.2/series/1.3/series", "patients",
        "studies/1.2", "studies/1.2/metadata", "studies/1.2/series/1.3/instances/1.4/frames/1",
    ],
)  # fmt: skip
def test_paths_that_lead_nowhere(client, root, path):
    phantom(root / "a", 1)
    answer = client.get(f"/dicom-web/scans/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def frame(client, file, number=1, accept="*/*"):
    study, series, sop = uids(file)
    answer = client.get(
        f"/dicom-web/scans/studies/{study}/series/{series}/instances/{sop}/frames/{number}", headers={"Accept": accept}
    )
    if answer.status_code != 200:
        return answer.status_code, answer.json()["message"]
    head, _, rest = answer.content.partition(b"\r\n\r\n")
    return head, rest[: rest.rindex(b"\r\n--")]


def test_frames_as_they_are_stored(client, root):
    """Compressed as it is, whatever the accepted type of octets; implicit and big endian as little endian."""
    files = phantom(root / "a", 4)
    values = [pydicom.dcmread(file).pixel_array for file in files]
    compressed = pydicom.dcmread(files[0])
    compressed.file_meta.TransferSyntaxUID = JPEG2000Lossless
    compressed.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51 as it is"])
    compressed["PixelData"].VR = "OB"
    compressed.save_as(files[0])
    implicit = pydicom.dcmread(files[1])
    implicit.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    implicit.save_as(files[1], enforce_file_format=True)
    original = pydicom.dcmread(files[2])
    big = pydicom.Dataset()
    big.update({element.tag: element for element in original})
    big.file_meta = original.file_meta
    big.PixelData = values[2].astype(">i2").tobytes()
    big.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
    big.save_as(files[2], enforce_file_format=True)
    deflated = pydicom.dcmread(files[3])
    deflated.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    deflated.save_as(files[3], enforce_file_format=True)
    for accept in (
        "*/*",
        "multipart/related; type=application/octet-stream; transfer-syntax=*",
        'multipart/related; type="image/jp2"',
    ):
        head, content = frame(client, files[0], accept=accept)
        assert b"image/jp2; transfer-syntax=1.2.840.10008.1.2.4.90" in head
        assert content.rstrip(b"\0") == b"\xff\x4f\xff\x51 as it is"
    status, message = frame(client, files[0], accept='multipart/related; type="image/jpeg"')
    assert status == 406
    assert "stored as image/jp2" in message
    for index in (1, 2, 3):
        head, content = frame(client, files[index])
        assert b"application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1" in head
        np.testing.assert_array_equal(np.frombuffer(content, "<i2").reshape(8, 6), values[index])
    assert frame(client, files[1], 2)[0] == 404


def test_frames_of_single_bits_begin_with_a_byte(client, root):
    """Of 3 x 3 pixels: the second frame begins at the second bit of the second byte."""
    (file,) = phantom(root / "a", 1)
    bits = np.random.default_rng(1).integers(0, 2, (5, 3, 3)).astype(np.uint8)
    data = pydicom.dcmread(file)
    data.Rows = data.Columns = 3
    data.NumberOfFrames, data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 5, 1, 1, 0, 0
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    data.PixelData = packed + b"\0" * (len(packed) % 2)
    data.save_as(file)
    for number in range(5):
        _, content = frame(client, file, number + 1)
        shown = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")[:9].reshape(3, 3)
        np.testing.assert_array_equal(shown, bits[number])


def test_a_file_cut_short_or_gone_is_said_and_not_served(client, root):
    files = phantom(root / "a", 2)
    whole = files[0].read_bytes()
    files[0].write_bytes(whole[:-20])
    assert frame(client, files[0]) == (424, f"{files[0].name}: ends within frame 1: it is cut short")
    study, series, sop = uids(files[1])
    files[1].unlink()
    answer = client.get(f"/dicom-web/scans/studies/{study}/series/{series}/instances/{sop}/frames/1")
    assert answer.status_code in {404, 424}


def test_metadata_is_valid_json_without_pixels_and_long_values_are_fetched_apart(client, root):
    (file,) = phantom(root / "a", 1)
    data = pydicom.dcmread(file)
    block = data.private_block(0x0099, "ONCOSEG TEST", create=True)
    block.add_new(1, "OB", b"\1\2" * 2000)
    block.add_new(2, "OB", b"\1\2")
    data.save_as(file)
    study, series, sop = uids(file)
    path = f"/dicom-web/scans/studies/{study}/series/{series}/instances/{sop}"
    (shown,) = client.get(f"{path}/metadata").json()
    assert shown["00991001"] == {"vr": "OB", "BulkDataURI": f"http://testserver{path}/bulkdata/00991001"}
    assert shown["00991002"] == {"vr": "OB", "InlineBinary": "AQI="}
    assert "7FE00010" not in shown
    bulk = client.get(f"{path}/bulkdata/00991001").content
    assert b"\1\2" * 2000 in bulk
    for tag in ("00991003", "00100010", "7FE00010"):
        assert client.get(f"{path}/bulkdata/{tag}").status_code == 404
    whole = client.get(path)
    assert whole.headers["content-type"].startswith('multipart/related; type="application/dicom"')
    assert file.read_bytes() in whole.content


def test_a_second_file_of_one_instance_is_listed_once(client, archive, root):
    files = phantom(root / "a", 2)
    (root / "copy.dcm").write_bytes(files[0].read_bytes())
    study, series, _ = uids(files[0])
    assert len(client.get("/dicom-web/scans/instances").json()) == 2
    assert len(client.get(f"/dicom-web/scans/studies/{study}/metadata").json()) == 2
    (shown,) = client.get("/dicom-web/scans/series").json()
    assert shown["00201209"]["Value"] == [2]
    with archive.local(study, series) as folder:  # the reader is given both, and says what it makes of them
        assert len(list(folder.iterdir())) == 3


def test_a_result_is_seen_at_once_beside_its_images(archive, root, tmp_path):
    files = phantom(root / "a")
    study, _, _ = uids(files[0])
    assert len(archive.series(study)) == 1
    result = pydicom.dcmread(files[0])
    result.SeriesInstanceUID, result.SOPInstanceUID = generate_uid(), generate_uid()
    result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    content = BytesIO()
    result.save_as(content)
    (tmp_path / "result.dcm").write_bytes(content.getvalue())
    archive.store([tmp_path / "result.dcm"])
    assert len(archive.series(study)) == 2
