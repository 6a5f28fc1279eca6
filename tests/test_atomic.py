"""Files are written whole or not at all: after an error, a full disk, a kill."""

import errno
import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from oncoseg_core import StorageError
from oncoseg_core.system.atomic import atomic_path, atomic_write, write_failure


def in_another_process(program, target):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(target)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("content", "expected"), [("Größe 3 µm\n", "Größe 3 µm\n".encode()), (b"\x00\xff", b"\x00\xff")]
)
def test_content_arrives_as_it_is_in_a_folder_that_is_made(tmp_path, content, expected):
    target = tmp_path / "a" / "b" / "file"
    atomic_write(target, content)
    assert target.read_bytes() == expected
    assert os.listdir(target.parent) == ["file"]


def test_the_old_content_stands_until_all_is_written(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


@pytest.mark.parametrize(
    ("name", "suffix"), [("scan.nii.gz", ".nii.gz"), ("patient.7.scan.nii.gz", ".nii.gz"), ("a.png", ".png"), ("a", "")]
)
def test_the_temporary_file_lies_beside_with_the_same_suffix(tmp_path, name, suffix):
    with atomic_path(tmp_path / name) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".partial-")
        assert "".join(temporary.suffixes) == suffix


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_while_writing_leaves_all_as_it_was(tmp_path, error):
    target = tmp_path / "file"
    target.write_text("old")

    def fail():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert os.listdir(tmp_path) == ["file"]
    assert target.read_text() == "old"


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_kill_in_the_middle_leaves_the_target_as_it_was(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")
    outcome = in_another_process(
        """
        import os, signal, sys
        from pathlib import Path
        from oncoseg_core.system.atomic import atomic_path
        with atomic_path(Path(sys.argv[1])) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        target,
    )
    assert outcome.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    atomic_write(target, "new")  # what the kill left does not stand in the way
    assert target.read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="resource limits")
def test_a_write_that_the_system_cuts_short_is_an_error_and_leaves_nothing(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")
    outcome = in_another_process(
        """
        import resource, signal, sys
        from pathlib import Path
        from oncoseg_core.system.atomic import atomic_write
        from oncoseg_core import StorageError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            atomic_write(Path(sys.argv[1]), bytes(10_000))
        except StorageError as error:
            print(error)
        """,
        target,
    )
    assert (
        outcome.stdout == f"cannot write {target}: the file would be larger than allowed here; choose another place\n"
    )
    assert os.listdir(tmp_path) == ["file"]
    assert target.read_text() == "old"


def test_a_full_disk_is_found_when_the_file_is_made_durable(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    target = tmp_path / "file"
    target.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError) as caught:
        atomic_write(target, "new")
    assert str(caught.value) == f"cannot write {target}: the disk is full; free space or choose another place"
    assert os.listdir(tmp_path) == ["file"]
    assert target.read_text() == "old"


def test_content_is_made_durable_before_the_rename(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda handle: (events.append(stat.S_ISREG(os.fstat(handle).st_mode)), fsync(handle))
    )
    monkeypatch.setattr(Path, "replace", lambda self, target: (events.append("rename"), replace(self, target)))
    atomic_write(tmp_path / "file", "new")
    assert events[:2] == [True, "rename"]
    if os.name == "posix":
        assert events[2:] == [False]  # the folder


def test_a_disk_that_cannot_make_renames_durable_is_no_error(tmp_path, monkeypatch):
    fsync = os.fsync

    def files_only(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", files_only)
    atomic_write(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


@pytest.mark.parametrize("below", ["file", "folder/file"])
def test_a_folder_that_is_a_file_is_said_to_be_one(tmp_path, below):
    (tmp_path / "taken").write_text("x")
    target = tmp_path / "taken" / below
    with pytest.raises(StorageError) as caught:
        atomic_write(target, "new")
    assert str(caught.value) == f"cannot write {target}: a part of that path is a file, not a folder"
    assert os.listdir(tmp_path) == ["taken"]


def test_a_file_that_is_a_folder_is_said_to_be_one(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="that is a folder; give a file name"):
        atomic_write(tmp_path / "folder", "new")
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.skipif(os.name != "posix", reason="modes")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_the_file_gets_the_mode_that_any_new_file_gets(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        atomic_write(tmp_path / "file", "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "no permission to write there"),
        (errno.EPERM, "no permission to write there"),
        (errno.EROFS, "that disk is read-only"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_the_reason_is_told(number, advice):
    assert write_failure(OSError(number, os.strerror(number)), Path("x")).startswith(f"cannot write x: {advice}")


def test_a_reason_without_a_number_is_told():
    assert write_failure(OSError("the library says no"), Path("x")) == "cannot write x: the library says no"


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
@pytest.mark.parametrize("older", [None, 0o644, 0o600])
def test_what_is_private_is_for_its_owner_alone_whatever_was_there(tmp_path, older):
    target = tmp_path / "file"
    if older is not None:
        target.touch(older)
    for private, mode in ((True, 0o600), (False, 0o644)):
        umask = os.umask(0o022)
        try:
            with atomic_path(target, private=private) as temporary:
                assert stat.S_IMODE(temporary.stat().st_mode) == mode  # from the first byte on
                temporary.write_text("new")
        finally:
            os.umask(umask)
        assert stat.S_IMODE(target.stat().st_mode) == mode
