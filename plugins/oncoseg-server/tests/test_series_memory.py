"""Opened series: read once, shared, bounded, and closed after a while; their files stay as long as they are open."""

import threading
from contextlib import contextmanager

import pytest

from oncoseg_core import ImageReadError
from oncoseg_dicomweb import ArchiveError
from oncoseg_server.sessions.refusal import Refusal
from oncoseg_server.sessions.volumes import BYTES_A_VOXEL, Volumes

SIZE = 8 * 128 * 128 * 2 * BYTES_A_VOXEL


class Source:
    """An archive of scans by series that counts how often each is fetched, and which copies there are."""

    name = "scans"

    def __init__(self, *scans):
        self.scans = {scan.series: scan for scan in scans}
        self.fetched, self.copies = [], []

    @contextmanager
    def local(self, study_uid, series_uid, should_stop=None):
        self.fetched.append(series_uid)
        self.copies.append(series_uid)
        try:
            yield self.scans[series_uid].folder
        finally:
            self.copies.remove(series_uid)


@pytest.fixture
def scans(tmp_path, make_scan):
    return [make_scan(tmp_path / str(number), seed=number) for number in range(3)]


@pytest.fixture
def source(scans):
    return Source(*scans)


def opened(volumes, source, scan):
    return volumes.open(source, scan.study, scan.series)


def test_a_series_is_read_once_for_all_its_sessions(source, scans):
    volumes, found = Volumes(10 * SIZE, 60), []
    threads = [threading.Thread(target=lambda: found.append(opened(volumes, source, scans[0]))) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert source.fetched == [scans[0].series]
    assert len(set(map(id, found))) == 1
    assert volumes.bytes == SIZE


def test_it_stays_for_a_while_and_then_its_copy_goes(source, scans):
    now = [0.0]
    volumes = Volumes(10 * SIZE, 60, clock=lambda: now[0])
    one = opened(volumes, source, scans[0])
    opened(volumes, source, scans[0])
    for time, copies in ((100, [scans[0].series]), (1000, [scans[0].series])):
        now[0] = time
        volumes.close(one)
        volumes.reap()
        assert source.copies == copies
    now[0] = 1059
    volumes.reap()
    assert opened(volumes, source, scans[0]) is one
    volumes.close(one)
    now[0] = 1119
    volumes.reap()
    assert source.copies == []
    assert volumes.bytes == 0
    assert opened(volumes, source, scans[0]) is not one


def test_room_is_made_by_what_nobody_uses_and_else_it_is_refused(source, scans):
    volumes = Volumes(2 * SIZE, 60)
    first, second = (opened(volumes, source, scan) for scan in scans[:2])
    with pytest.raises(Refusal, match="1 MB of memory, and 0 of 2 MB are left") as refusal:
        opened(volumes, source, scans[2])
    assert refusal.value.code == "too_large"
    assert sorted(source.copies) == sorted([scans[0].series, scans[1].series])
    volumes.close(first)
    opened(volumes, source, scans[2])
    assert sorted(source.copies) == sorted([scans[1].series, scans[2].series])
    assert volumes.bytes == 2 * SIZE
    assert second is opened(volumes, source, scans[1])


def test_what_cannot_be_read_leaves_nothing(source, scans, monkeypatch):
    volumes = Volumes(10 * SIZE, 60)

    def fails(series):
        raise ImageReadError("damaged")

    with monkeypatch.context() as patched:
        patched.setattr("oncoseg_server.sessions.volumes.read_voxels", fails)
        with pytest.raises(ImageReadError):
            opened(volumes, source, scans[0])
    assert (volumes.bytes, source.copies, volumes._entries) == (0, [], {})
    opened(volumes, source, scans[0])


def test_another_series_than_the_one_that_was_to_be_opened_is_refused(source, scans):
    """An archive that answers with the wrong study, or a UID that is the end of another."""
    volumes = Volumes(10 * SIZE, 60)
    with pytest.raises(Refusal, match="another series"):
        volumes.open(source, scans[1].study, scans[0].series)
    end = scans[0].series[-10:].lstrip(".")
    source.scans[end] = scans[0]
    with pytest.raises(Refusal, match="another series"):
        volumes.open(source, scans[0].study, end)
    assert volumes.bytes == 0


def test_closing_all_deletes_all_copies(source, scans):
    volumes = Volumes(10 * SIZE, 60)
    one = opened(volumes, source, scans[0])
    volumes.close_all()
    assert source.copies == []
    volumes.close(one)


def test_messages_name_no_folder_of_the_server(open_session, scan):
    reply = open_session().post("/steps", {"step": "prompt", "structure": "a", "slice": 99,
                                           "hints": [{"kind": "box", "points": [[1, 1], [5, 5]]}]})  # fmt: skip
    assert str(scan.folder) not in reply.text
    assert "the image" in reply.json()["message"]


def test_a_series_that_takes_too_much_over_http(make_client, scan):
    client = make_client(limits={"volumes_mb": 1})
    reply = client.post("/api/v1/sessions", json=scan.open_request())
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")
    assert "`limits.volumes_mb`" in reply.json()["message"]


def test_an_archive_that_has_it_no_more(source, scans):
    volumes = Volumes(10 * SIZE, 60)
    del source.scans[scans[0].series]

    @contextmanager
    def gone(*_):
        raise ArchiveError("not_found", "gone")
        yield

    source.local = gone
    with pytest.raises(ArchiveError):
        opened(volumes, source, scans[0])
    assert volumes._entries == {}
