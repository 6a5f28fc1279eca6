"""Of several processes that create a file, one does."""

import errno

import pytest

from oncoseg_benchmarks.run.create_once import atomic_create
from oncoseg_core import StorageError


@pytest.mark.parametrize("links", [True, False])
def test_of_two_who_create_a_file_the_first_one_does(tmp_path, links, monkeypatch):
    if not links:  # such as on an exFAT disk

        def refused(*_):
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr("pathlib.Path.hardlink_to", refused)
    target = tmp_path / "new" / "file.json"
    assert atomic_create(target, "first")
    assert not atomic_create(target, "second")
    assert target.read_text() == "first"
    assert [path.name for path in target.parent.iterdir()] == ["file.json"]


def test_creating_below_a_file_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="is a file, not a folder"):
        atomic_create(tmp_path / "file" / "new.json", "")
