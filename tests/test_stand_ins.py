"""Files that stand for content which was not fetched: one message that says what they are and what to do."""

import numpy as np
import pytest
from PIL import Image

from oncoseg_core import ImageReadError, load_plugins
from oncoseg_core.imaging import read_image, read_label, read_volume
from oncoseg_core.system import not_fetched

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
ANNEX = b"/annex/objects/MD5E-s12345--d41d8cd98f00b204e9800998ecf8427e.nii.gz\n"
NAMES = ["a.nii.gz", "a.nii", "a.nrrd", "a.mha", "a.png", "a.jpg", "a.tif"]
REGISTRY = load_plugins()


@pytest.mark.parametrize("name", NAMES)
def test_a_git_lfs_pointer_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(LFS)
    message = f"{name}: is a Git-LFS pointer, not the file itself: run git lfs pull --include '\\*{name}' in its"
    for read in (lambda path: read_volume(path, "ct"), lambda path: read_image(REGISTRY, path)):
        with pytest.raises(ImageReadError, match=message):
            read(tmp_path / name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("linked", [True, False])
def test_a_git_annex_pointer_is_named(tmp_path, name, linked):
    if linked:  # the usual form: a link into a folder that is empty until the content is fetched
        (tmp_path / name).symlink_to(f".git/annex/objects/Xx/9j/MD5E-s1--ab/MD5E-s1--ab{name}")
    else:
        (tmp_path / name).write_bytes(ANNEX)
    message = f"{name}: is a git-annex pointer, not the file itself: run 'git annex get {name}'"
    for read in (lambda path: read_volume(path, "ct"), lambda path: read_image(REGISTRY, path)):
        with pytest.raises(ImageReadError, match=message):
            read(tmp_path / name)


def test_a_pointer_in_place_of_a_label_is_named(tmp_path):
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "image.png")
    (tmp_path / "label.png").write_bytes(LFS)
    with pytest.raises(ImageReadError, match=r"label\.png: is a Git-LFS pointer"):
        read_label(tmp_path / "label.png", read_volume(tmp_path / "image.png", "ct"))


def test_other_links_and_files_are_what_they_are(tmp_path):
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert not_fetched(tmp_path / "gone") == "is a link to a file that does not exist"
    (tmp_path / "text").write_bytes(ANNEX + bytes(5000))
    (tmp_path / "link").symlink_to(tmp_path / "text")
    for name in ("text", "link", "missing", "."):
        assert not_fetched(tmp_path / name) is None
