"""Files that are none (pipes, sockets, devices) are refused at once, and images that would fill the memory before that."""

import errno
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from oncoseg_core import ConfigError, DataError, ImageReadError, OncoSegError
from oncoseg_core.data import FrozenSplit
from oncoseg_core.imaging import read_volume
from oncoseg_core.system import image_bytes_limit, open_regular, read_regular, require_image_bytes
from oncoseg_lora import check_files, pulled_adapters
from oncoseg_store import PreparedStore

WAITS = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
SPECIAL = "is a pipe, socket or device; expected "


def test_regular_files_and_links_to_them_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "link").symlink_to("a")
    assert read_regular(tmp_path / "link") == b"content"
    with open_regular(tmp_path / "a") as stream:
        assert stream.read(3) == b"con"
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "missing")
    with pytest.raises(OSError, match="is a folder") as caught:
        read_regular(tmp_path)
    assert caught.value.errno == errno.EINVAL


@WAITS
def test_pipes_sockets_and_devices_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "pipe", tmp_path / "link", tmp_path / "socket", "/dev/zero"):
            with pytest.raises(OSError, match=SPECIAL):
                open_regular(path)


READERS = {
    "image.nrrd": read_volume,
    "image.nhdr": read_volume,
    "image.mha": read_volume,
    "image.mhd": read_volume,
    "image.nii": read_volume,
    "image.nii.gz": read_volume,
    "image.png": read_volume,
    "image.jpg": read_volume,
    "image.tif": read_volume,
    "split.json": lambda path, _: FrozenSplit.read(path),
    "oncoseg.json": lambda path, _: check_files(path.parent),
    "index.oncoseg": lambda path, _: PreparedStore.open(path.parent),
}


@WAITS
@pytest.mark.parametrize("name", READERS)
def test_no_reader_waits_for_a_pipe(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(OncoSegError, match=SPECIAL):
        READERS[name](tmp_path / name, "ct")


@WAITS
def test_a_pulled_adapter_whose_origin_is_a_pipe_is_listed_as_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv("ONCOSEG_CACHE", str(tmp_path))
    (tmp_path / "adapters" / "a").mkdir(parents=True)
    os.mkfifo(tmp_path / "adapters" / "a" / "pulled.json")
    assert pulled_adapters() == [(tmp_path / "adapters" / "a", None)]


def test_the_limit_follows_from_the_machine_unless_it_is_set(monkeypatch):
    monkeypatch.delenv("ONCOSEG_MAX_IMAGE_BYTES", raising=False)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < image_bytes_limit() <= memory // 8
    monkeypatch.setenv("ONCOSEG_MAX_IMAGE_BYTES", "1000")
    assert image_bytes_limit() == 1000
    require_image_bytes(1000, "a.png", "pixels")
    with pytest.raises(
        ImageReadError, match=r"a\.png: its pixels take 1001 bytes .* more than the 1000 .* ONCOSEG_MAX_IMAGE"
    ):
        require_image_bytes(1001, "a.png", "pixels")


@pytest.mark.parametrize("text", ["", "0", "-5", "1e9", "many", "9" * 5000, "٣"])
def test_a_limit_that_is_no_number_is_refused(monkeypatch, text):
    monkeypatch.setenv("ONCOSEG_MAX_IMAGE_BYTES", text)
    with pytest.raises(ConfigError, match="ONCOSEG_MAX_IMAGE_BYTES: expected a positive whole number of bytes"):
        image_bytes_limit()


def test_the_memory_of_a_container_counts(tmp_path, monkeypatch):
    (tmp_path / "max").write_text("8000000\n")
    (tmp_path / "unlimited").write_text("max\n")
    monkeypatch.delenv("ONCOSEG_MAX_IMAGE_BYTES", raising=False)
    from oncoseg_core.system import memory_limit as module

    for limits, expected in ((("max", "unlimited"), 1_000_000), (("missing", "max"), 1_000_000)):
        module._machine_bytes.cache_clear()
        monkeypatch.setattr(module, "_CONTAINER_LIMITS", [tmp_path / name for name in limits])
        assert image_bytes_limit() == expected
    module._machine_bytes.cache_clear()


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".nii", ".nii.gz", ".png", ".tif", ".jpg"])
def test_every_format_asks_before_it_decodes(tmp_path, monkeypatch, suffix):
    flat = suffix in {".png", ".tif", ".jpg"}
    image = sitk.Image([64, 32] if flat else [64, 32, 4], sitk.sitkUInt8)
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"))
    count = 2048 if flat else 8192
    monkeypatch.setenv("ONCOSEG_MAX_IMAGE_BYTES", str(count))
    read_volume(tmp_path / f"a{suffix}", "ct")
    monkeypatch.setenv("ONCOSEG_MAX_IMAGE_BYTES", str(count - 1))
    with pytest.raises(
        ImageReadError, match=rf"a{suffix}: its .* take {count} bytes of memory, more than the {count - 1}"
    ):
        read_volume(tmp_path / f"a{suffix}", "ct")


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for the peak")
def test_a_short_file_with_a_large_claim_takes_no_memory(tmp_path):
    """In a process by itself, so that its memory is its own."""
    header = "NDims = 3\nDimSize = 1500 1500 1500\nElementType = MET_SHORT\nElementSpacing = 1 1 1\n"
    (tmp_path / "raw.mha").write_text(f"{header}ElementDataFile = LOCAL\nxx")
    (tmp_path / "packed.mha").write_text(f"{header}CompressedData = True\nElementDataFile = LOCAL\nxx")
    code = f"""
import os
os.environ["ONCOSEG_MAX_IMAGE_BYTES"] = str(2**40)
from pathlib import Path
from oncoseg_core import ImageReadError
from oncoseg_core.imaging import read_volume
for name in ("raw.mha", "packed.mha"):
    try:
        read_volume(Path({str(tmp_path)!r}) / name, "ct")
    except ImageReadError as error:
        print(error)
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    raw, packed, kilobytes = done.stdout.splitlines()
    assert "2 bytes of 6750000000 that the header promises" in raw
    assert "2 compressed bytes cannot become 6750000000" in packed
    assert int(kilobytes) < 500_000


def test_a_store_that_does_not_fit_itself_is_refused(tmp_path):
    from oncoseg_store.packed import pack

    (tmp_path / "index.oncoseg").write_bytes(pack({"dataset": 3}, {"n_slices": np.zeros(3, np.int32)}))
    with pytest.raises(DataError, match="its facts are not those of a prepared store"):
        PreparedStore.open(tmp_path)
