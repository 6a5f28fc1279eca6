"""One instance in: whole on the disk before it is answered, once, and never over another one."""

import io
import os
import stat
import threading

import pydicom
import pytest
from node_parts import ct_series, node_settings, stored_files
from pydicom.uid import CTImageStorage, RTStructureSetStorage, generate_uid

from oncoseg_node.queue.queue import Queue
from oncoseg_node.receiving.intake import Intake
from oncoseg_node.receiving.refused import RefusedInstanceError
from oncoseg_node.records.job import State


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    return ct_series(tmp_path_factory.mktemp("ct"), 3)


@pytest.fixture
def queue(tmp_path):
    made = Queue(tmp_path, most_instances=2)
    yield made
    made.close()


def intake(tmp_path, queue, is_full=lambda: False, events=None, **receive):
    write = (lambda name, **facts: events.append((name, facts))) if events is not None else (lambda _n, **_f: None)
    return Intake(queue, node_settings(tmp_path, **receive), is_full=is_full, write_event=write)


def changed(path, **values) -> bytes:
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    if "SOPClassUID" in values:
        dataset.file_meta.MediaStorageSOPClassUID = values["SOPClassUID"]
    stream = io.BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def left(tmp_path):
    return list((tmp_path / "incoming").iterdir())


def test_an_instance_is_stored_as_it_came(tmp_path, queue, ct):
    content = ct[0].read_bytes()
    taken = intake(tmp_path, queue).take([content], "folder")
    assert taken.status == "new"
    assert [file.read_bytes() for file in stored_files(tmp_path)] == [content]
    assert not left(tmp_path)
    assert stored_files(tmp_path)[0].stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("size", [1, 7, 143, 1000])
def test_pieces_of_any_size_are_the_same_instance(tmp_path, queue, ct, size):
    content = ct[0].read_bytes()
    door = intake(tmp_path, queue)
    assert door.take([content[at : at + size] for at in range(0, len(content), size)], "web").status == "new"
    assert door.take([content], "dicom").status == "same"
    assert [file.read_bytes() for file in stored_files(tmp_path)] == [content]


def test_the_same_image_with_meta_information_of_another_program_is_the_same(tmp_path, queue, ct):
    door = intake(tmp_path, queue)
    door.take([ct[0].read_bytes()], "folder")
    dataset = pydicom.dcmread(ct[0])
    dataset.file_meta.ImplementationVersionName = "ANOTHER"
    dataset.save_as(stream := io.BytesIO(), enforce_file_format=True)
    assert stream.getvalue() != ct[0].read_bytes()
    assert door.take([stream.getvalue()], "dicom").status == "same"
    assert len(stored_files(tmp_path)) == 1


def test_another_image_with_the_same_uid_is_refused_and_written_down(tmp_path, queue, ct):
    events = []
    door = intake(tmp_path, queue, events=events)
    door.take([ct[0].read_bytes()], "folder")
    with pytest.raises(RefusedInstanceError, match="other content") as caught:
        door.take([changed(ct[0], KVP="100")], "dicom")
    assert caught.value.answer.status == 0x0111
    assert [file.read_bytes() for file in stored_files(tmp_path)] == [ct[0].read_bytes()]
    assert events == [("instance refused", {"kind": "different", "door": "dicom"})]
    assert queue.flaws(queue.jobs()[0]).different == 1
    assert not left(tmp_path)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"SeriesInstanceUID": None}, "no uid"),
        ({"StudyInstanceUID": "../../etc"}, "no uid"),
        ({"SOPInstanceUID": "1." + "2" * 64}, "no uid"),
    ],
)
def test_what_cannot_be_placed_is_refused(tmp_path, queue, ct, values, kind):
    with pydicom.config.disable_value_validation(), pytest.raises(RefusedInstanceError) as caught:
        intake(tmp_path, queue).take([changed(ct[0], **values)], "dicom")
    assert caught.value.kind == kind
    assert not stored_files(tmp_path)
    assert not left(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no DICOM", b"\0" * 128 + b"DICM" + b"\xff" * 500])
def test_what_is_no_dicom_is_refused(tmp_path, queue, content):
    with pytest.raises(RefusedInstanceError) as caught:
        intake(tmp_path, queue).take([content], "web")
    assert caught.value.kind in {"unreadable", "no uid"}
    assert not left(tmp_path)


def test_more_bytes_than_the_bound_are_not_written(tmp_path, queue, ct):
    content = ct[0].read_bytes()
    with pytest.raises(RefusedInstanceError) as caught:
        intake(tmp_path, queue, most_instance_bytes=len(content) - 1).take([content], "dicom")
    assert caught.value.kind == "too large"
    assert not left(tmp_path)


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, queue, ct):
    with pytest.raises(RefusedInstanceError) as caught:
        intake(tmp_path, queue, is_full=lambda: True).take([ct[0].read_bytes()], "dicom")
    assert caught.value.answer == (0xA700, 507)
    assert not queue.jobs()


def test_a_disk_that_fills_while_writing_is_told(tmp_path, queue, ct, monkeypatch):
    def full(handle):
        if stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(28, "No space left on device")

    door = intake(tmp_path, queue)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RefusedInstanceError) as caught:
        door.take([ct[0].read_bytes()], "dicom")
    assert caught.value.kind == "full"
    assert not stored_files(tmp_path)
    assert not left(tmp_path)


def test_the_file_is_synced_before_its_place_and_its_folder_before_the_answer(tmp_path, ct, monkeypatch):
    steps, noted = [], threading.Event()

    class Watched(Queue):
        def add_instance(self, *arguments):
            try:
                return super().add_instance(*arguments)
            finally:
                noted.set()

    def watched_sync(handle):
        if stat.S_ISREG(os.fstat(handle).st_mode):
            noted.wait(10)
            threading.Event().wait(0.05)  # for whoever does not wait
            steps.append(f"file synced, {len(stored_files(tmp_path))} stored")
        elif noted.is_set():
            steps.append(f"folder synced, {len(stored_files(tmp_path))} stored")

    queue = Watched(tmp_path)
    door = intake(tmp_path, queue)
    monkeypatch.setattr("os.fsync", watched_sync)
    door.take([ct[0].read_bytes()], "dicom")
    assert steps == ["file synced, 0 stored", "folder synced, 1 stored"]
    queue.close()


def test_objects_that_are_no_images_are_ignored_or_refused(tmp_path, queue, ct):
    content = changed(ct[0], SOPClassUID=RTStructureSetStorage)
    assert intake(tmp_path, queue).take([content], "dicom").status == "ignored"
    assert not stored_files(tmp_path)
    with pytest.raises(RefusedInstanceError) as caught:
        intake(tmp_path, queue, others="refused").take([content], "dicom")
    assert caught.value.answer.status == 0x0122


def test_an_object_that_is_not_the_announced_one_is_refused(tmp_path, queue, ct):
    door = intake(tmp_path, queue)
    with pytest.raises(RefusedInstanceError) as caught:
        door.take([ct[0].read_bytes()], "dicom", (CTImageStorage, generate_uid()))
    assert caught.value.answer.status == 0xA900


def test_an_image_that_comes_after_the_work_on_its_series_began_fails(tmp_path, queue, ct):
    door = intake(tmp_path, queue)
    door.take([ct[0].read_bytes()], "dicom")
    queue.complete(queue.jobs()[0], "thorax")
    assert queue.take([State.COMPLETE], "worker")
    assert door.take([ct[0].read_bytes()], "dicom").status == "same"
    with pytest.raises(RefusedInstanceError) as caught:
        door.take([ct[1].read_bytes()], "dicom")
    assert (caught.value.kind, caught.value.answer.status) == ("late", 0x0110)
    assert len(stored_files(tmp_path)) == 1


def test_a_series_without_end_is_refused(tmp_path, queue, ct):
    door = intake(tmp_path, queue)
    for file in ct[:2]:
        door.take([file.read_bytes()], "dicom")
    with pytest.raises(RefusedInstanceError) as caught:
        door.take([ct[2].read_bytes()], "dicom")
    assert caught.value.kind == "too many"


def test_what_was_half_received_when_the_node_ended_is_cleared(tmp_path, queue):
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming" / "0123.partial").write_bytes(b"half")
    intake(tmp_path, queue)
    assert not left(tmp_path)


def test_refusals_name_no_patient(tmp_path, queue, ct, caplog):
    with pytest.raises(RefusedInstanceError) as caught:
        intake(tmp_path, queue).take([changed(ct[0], SeriesInstanceUID=None, PatientName="Doe^Jane")], "dicom")
    assert "Doe" not in str(caught.value) + caplog.text
