"""A watched folder: settled images are taken, all else stays where it is."""

import os
import threading
import zipfile
from pathlib import Path

import pydicom
import pytest
from node_parts import ct_series, node_settings, stored_files
from pydicom.uid import RTStructureSetStorage

from oncoseg_core import StorageError
from oncoseg_node.config.settings import FolderReceiver
from oncoseg_node.queue.queue import Queue
from oncoseg_node.receiving.folder import FolderWatch
from oncoseg_node.receiving.intake import Intake


class Watched:
    def __init__(self, tmp_path, is_full=lambda: False):
        self.folder = tmp_path / "drop"
        self.folder.mkdir()
        self.data = tmp_path
        intake = Intake(Queue(self.data), node_settings(tmp_path), is_full=is_full)
        self.now = 100.0
        self.watch = FolderWatch(FolderReceiver(path=self.folder, settle_seconds=2), intake, clock=lambda: self.now)

    def look(self, seconds=0.0):
        self.now += seconds
        return self.watch.look()


@pytest.fixture
def watched(tmp_path):
    return Watched(tmp_path)


def test_files_that_no_longer_grow_are_taken_from_folders_of_any_depth(watched):
    files = ct_series(watched.folder / "study" / "series", 3)
    contents = sorted(file.read_bytes() for file in files)
    assert watched.look() == 0
    assert watched.look(1.9) == 0
    assert watched.look(0.1) == 3
    assert not any(file.exists() for file in files)
    assert sorted(file.read_bytes() for file in stored_files(watched.data)) == contents


def test_a_file_that_grows_is_waited_for(watched):
    (file,) = ct_series(watched.folder, 1)
    content = file.read_bytes()
    file.write_bytes(content[:500])
    watched.look()
    file.write_bytes(content)
    assert watched.look(2) == 0
    assert watched.look(2) == 1


def test_a_file_whose_writer_pauses_within_the_pixels_is_not_taken_half(watched, caplog):
    (file,) = ct_series(watched.folder, 1)
    content = file.read_bytes()
    file.write_bytes(content[:-20])
    watched.look()
    assert watched.look(5) == 0
    assert "still written" in caplog.text
    file.write_bytes(content)
    watched.look()
    assert watched.look(2) == 1


def test_what_is_no_image_stays_with_one_line_each(watched, caplog, tmp_path):
    (image,) = ct_series(tmp_path / "elsewhere", 1)
    plan = pydicom.dcmread(image)
    plan.SOPClassUID = plan.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    plan.save_as(watched.folder / "plan.dcm")
    (watched.folder / "Doe Jane.txt").write_text("notes" * 50)
    with zipfile.ZipFile(watched.folder / "study.zip", "w") as archive:
        archive.write(image)
    (watched.folder / "empty").touch()
    before = sorted(watched.folder.iterdir())
    for _ in range(4):
        assert watched.look(2) == 0
    assert sorted(watched.folder.iterdir()) == before
    assert not stored_files(watched.data)
    lines = [record for record in caplog.records if "left in the watched folder" in record.getMessage()]
    assert len(lines) == 4
    assert "Doe" not in caplog.text


def test_a_file_that_cannot_be_deleted_does_not_keep_the_others_from_being_taken(watched, monkeypatch, caplog):
    first, *_ = ct_series(watched.folder, 3)
    unlink = Path.unlink

    def kept(path, **options):
        if path == first:
            raise PermissionError(13, "Permission denied")
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", kept)
    watched.look()
    assert watched.look(2) == 2
    assert watched.look(2) == 0
    assert len(stored_files(watched.data)) == 3
    assert caplog.text.count("cannot be deleted (Permission denied)") == 1


def test_links_are_not_followed(watched, tmp_path):
    (image,) = ct_series(tmp_path / "elsewhere", 1)
    (watched.folder / "link.dcm").symlink_to(image)
    (watched.folder / "folder").symlink_to(image.parent)
    watched.look()
    assert watched.look(5) == 0
    assert image.exists()


def test_pipes_and_unfinished_names_are_left(watched, tmp_path):
    os.mkfifo(watched.folder / "pipe")
    (image,) = ct_series(tmp_path / "elsewhere", 1)
    for name in ("a.part", "b.tmp", ".hidden.dcm"):
        (watched.folder / name).write_bytes(image.read_bytes())
    watched.look()
    assert watched.look(5) == 0


def test_a_full_disk_is_waited_out(tmp_path):
    full = [True]
    watched = Watched(tmp_path, is_full=lambda: full[0])
    ct_series(watched.folder, 2)
    watched.look()
    assert watched.look(2) == 0
    full.clear()
    full.append(False)
    assert watched.look(2) == 2


def test_the_same_image_again_goes_and_another_with_its_uid_stays(watched, tmp_path):
    (file,) = ct_series(watched.folder, 1)
    content = file.read_bytes()
    watched.look()
    watched.look(2)
    file.write_bytes(content)
    watched.look()
    assert watched.look(2) == 1
    image = pydicom.dcmread(stored_files(watched.data)[0])
    image.KVP = "80"
    image.save_as(file)
    watched.look()
    assert watched.look(2) == 0
    assert file.exists()


def test_it_runs_until_it_is_stopped(watched):
    stop = threading.Event()
    ct_series(watched.folder, 1)

    class Once(threading.Event):
        def wait(self, timeout=None):
            watched.now += 2
            if stored_files(watched.data):
                self.set()
            return self.is_set()

    stop = Once()
    watched.watch.run(stop)
    assert len(stored_files(watched.data)) == 1


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StorageError, match="no such folder; make it first"):
        FolderWatch(FolderReceiver(path=tmp_path / "none"), Intake(Queue(tmp_path), node_settings(tmp_path)))
