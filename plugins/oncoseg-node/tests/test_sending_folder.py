"""A folder as a destination."""

import pytest
from node_job import node_job

from oncoseg_node.config.settings import FolderDestination
from oncoseg_node.sending import confirm, send
from oncoseg_node.writing import write


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    return write(*node_job(tmp_path_factory.mktemp("job")).arguments)


@pytest.fixture
def share(tmp_path):
    (tmp_path / "share").mkdir()
    return FolderDestination(kind="folder", path=tmp_path / "share", formats=("rtstruct", "seg"))


def test_files_are_whole_read_back_and_named_without_an_identifier(objects, share):
    assert [(one.status, one.how) for one in send(objects, "share", share)] == [("stored", "file")] * 2
    files = sorted(share.path.iterdir())
    assert [path.read_bytes() for path in files] == [one.path.read_bytes() for one in objects]
    assert not any(uid in path.name for path in files for one in objects for uid in (one.sop_uid, one.study_uid))
    assert [(one.status, one.how) for one in confirm(objects, "share", share)] == [
        ("confirmed", "file, read back and equal")
    ] * 2


def test_sent_again_there_is_one_file_each(objects, share):
    send(objects, "share", share)
    assert {one.how for one in send(objects, "share", share)} == {"already there and equal"}
    assert len(list(share.path.iterdir())) == 2


def test_half_a_file_of_someone_elses_is_replaced(objects, share):
    send(objects, "share", share)
    for path in share.path.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert {one.status for one in confirm(objects, "share", share)} == {"failed"}
    send(objects, "share", share)
    assert {one.status for one in confirm(objects, "share", share)} == {"confirmed"}


def test_a_file_that_is_gone_is_not_proven(objects, share):
    send(objects, "share", share)
    next(share.path.iterdir()).unlink()
    assert sorted(one.status for one in confirm(objects, "share", share)) == ["confirmed", "failed"]


def test_what_a_killed_copy_left_is_replaced_and_nothing_else_is_there(objects, share):
    send(objects, "share", share)
    for path in list(share.path.iterdir()):
        path.rename(path.with_name(f".partial-{path.name}"))
    send(objects, "share", share)
    assert {one.status for one in confirm(objects, "share", share)} == {"confirmed"}
    assert len(list(share.path.iterdir())) == 2


def test_a_share_that_is_not_mounted_is_not_made(objects, share):
    share.path.rmdir()
    for one in send(objects, "share", share):
        assert one.status == "failed"
        assert "is not there; mount it or create it" in one.message
    assert not share.path.exists()


def test_a_folder_that_cannot_be_written(objects, tmp_path):
    (tmp_path / "share").write_text("a file")
    for one in send(objects, "share", FolderDestination(kind="folder", path=tmp_path / "share")):
        assert one.status == "failed"
        assert "\n" not in one.message


def test_a_full_disk_is_a_failure_and_leaves_no_part(objects, share, monkeypatch):
    from oncoseg_node.sending import folder

    def full(source, target):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder.shutil, "copyfile", full)
    for one in send(objects, "share", share):
        assert one.status == "failed"
        assert "the disk is full" in one.message
    assert not list(share.path.iterdir())


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_file_that_is_not_what_was_written_is_not_sent(damage, share, tmp_path):
    objects = write(*node_job(tmp_path).arguments)
    if damage == "missing":
        objects[0].path.unlink()
    else:
        objects[0].path.write_bytes(objects[0].path.read_bytes()[:-2])
    for deliveries in (send(objects, "share", share), confirm(objects, "share", share)):
        for one in deliveries:
            assert one.status == "failed"
            assert "rtstruct.dcm" in one.message
            assert "retry the job" in one.message
    assert not list(share.path.iterdir())
