"""Over 200 damaged inputs: a clear error each or a right reading, in bounded memory, writing nothing, saying nothing."""

import json
import random
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from oncoseg_dicom.series.pixels import read_voxels
from oncoseg_dicom.series.search import find_series

MEMORY = 1536 * 2**20
"""What a reading process may use for everything, the libraries (about 400 MB of addresses) included."""

READER = """
import json, resource, sys, time
from pathlib import Path
import numpy, pydicom, gdcm, pydantic
from oncoseg_core import OncoSegError
from oncoseg_dicom.series import limits
from oncoseg_dicom.series.pixels import read_voxels
from oncoseg_dicom.series.search import find_series
limits.HEADER_READS = 200_000  # a fifth, to be quick: its bombs take 1 to 2 s and not 8
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
results = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        series = find_series(path)
        volume = read_voxels(series)
        assert volume.voxels.shape[1:] == series.geometry.shape
        assert numpy.isfinite(series.geometry.affine).all()
        results[path.name] = ["read", str(volume.voxels.sum())]
    except OncoSegError as error:
        results[path.name] = ["refused", str(error)]
    except BaseException as error:
        results[path.name] = ["broken", f"{type(error).__name__}: {error}"]
print(json.dumps(results))
"""

BASES = (
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_RLE.dcm",
    "693_J2KI.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_bigendian.dcm",
    "examples_palette.dcm",
    "eCT_Supplemental.dcm",
    "MR_small_implicit.dcm",
)
TEXTS = {
    "PixelSpacing": (b"NaN\\NaN", b"0\\0", b"-1\\1", b"1e30\\1e30", b"abc\\def", b"1", b"1\\1\\1", b"inf\\1", b"\xff\xfe\\1"),
    "ImagePositionPatient": (b"NaN\\0\\0", b"1e39\\0\\0", b"x\\y\\z", b"1\\2", b"-inf\\0\\0", b""),
    "ImageOrientationPatient": (b"NaN\\0\\0\\0\\1\\0", b"1\\0\\0\\1\\0\\0", b"0\\0\\0\\0\\0\\0", b"3\\0\\0\\0\\1\\0", b"1\\0\\0", b"a\\b\\c\\d\\e\\f"),
    "SliceThickness": (b"NaN", b"-3", b"1e30", b"thick"),
    "RescaleSlope": (b"NaN", b"0", b"steep", b"inf", b"1\\2"),
    "RescaleIntercept": (b"NaN", b"low", b"-inf"),
    "NumberOfFrames": (b"4294967295", b"-1", b"1e9", b"many", b"0", b"99999999999999999999"),
}  # fmt: skip
NUMBERS = {
    "Rows": (0, 1, 127, 129, 65535),
    "Columns": (0, 1, 127, 129, 65535),
    "BitsAllocated": (0, 1, 7, 8, 32, 64, 65535),
    "BitsStored": (0, 17, 65535),
    "HighBit": (65535,),
    "PixelRepresentation": (2, 65535),
    "SamplesPerPixel": (0, 2, 3, 65535),
}
DELETED = ("SOPClassUID", "SeriesInstanceUID", "Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "PixelData", "Modality", "SOPInstanceUID")  # fmt: skip
SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.201", "9.9.9", "")  # fmt: skip


def element(dataset: pydicom.Dataset, keyword: str, value: bytes, vr: str | None = None) -> None:
    """Put raw bytes in the place of a value, as no writer would."""
    tag = pydicom.tag.Tag(keyword)
    vr = vr or pydicom.datadict.dictionary_VR(tag).split(" ", maxsplit=1)[0]
    value += b" " * (len(value) % 2)
    dataset._dict[tag] = pydicom.dataelem.RawDataElement(tag, vr, len(value), value, 0, False, True)


def content(dataset: pydicom.Dataset, tmp: Path) -> bytes:
    dataset.save_as(tmp)
    return tmp.read_bytes()


def truncated() -> Iterator[tuple[str, bytes]]:
    for base in BASES:
        whole = Path(get_testdata_file(base)).read_bytes()
        for percent in (1, 20, 60, 95):
            yield f"{base[:-4]} cut to {percent} percent", whole[: len(whole) * percent // 100]


def flipped() -> Iterator[tuple[str, bytes]]:
    for base in BASES:
        whole = Path(get_testdata_file(base)).read_bytes()
        for seed in range(6):
            damaged, draw = bytearray(whole), random.Random(f"{base}{seed}")
            for _ in range(3 if seed % 2 else 30):
                at = draw.randrange(132, min(len(whole), 2500)) if seed % 2 else draw.randrange(1500, len(whole))
                damaged[at] = draw.randrange(256)
            yield f"{base[:-4]} bytes changed {seed}", bytes(damaged)


def values(tmp: Path) -> Iterator[tuple[str, bytes]]:
    path = get_testdata_file("CT_small.dcm")
    for keyword, texts in TEXTS.items():
        for value in texts:
            dataset = pydicom.dcmread(path)
            element(dataset, keyword, value)
            yield f"CT_small {keyword} {value!r}".replace("\\", " "), content(dataset, tmp)
    for keyword, numbers in NUMBERS.items():
        for value in numbers:
            dataset = pydicom.dcmread(path)
            element(dataset, keyword, struct.pack("<H", value))
            yield f"CT_small {keyword} {value}", content(dataset, tmp)
    for keyword in DELETED:
        dataset = pydicom.dcmread(path)
        delattr(dataset, keyword)
        yield f"CT_small deleted {keyword}", content(dataset, tmp)
    for base in ("MR_small_RLE.dcm", "693_J2KI.dcm"):
        for keyword in ("Rows", "Columns"):
            dataset = pydicom.dcmread(get_testdata_file(base))
            element(dataset, keyword, struct.pack("<H", 65535))
            yield f"{base[:-4]} {keyword} 65535", content(dataset, tmp)


def encodings() -> Iterator[tuple[str, bytes]]:
    for base in ("CT_small.dcm", "693_J2KI.dcm"):
        whole = Path(get_testdata_file(base)).read_bytes()
        told = pydicom.dcmread(get_testdata_file(base)).file_meta.TransferSyntaxUID.encode()
        for syntax in SYNTAXES:
            padded = syntax.encode().ljust(len(told), b"\0")[: len(told)]
            yield f"{base[:-4]} transfer syntax {syntax}", whole.replace(told, padded, 1)
    ct = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    for name, old, new in (
        ("Rows as text", b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00LO"),
        ("Rows as sequence", b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00SQ"),
        ("Rows of no VR", b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00\0\0"),
        ("spacing as numbers", b"\x28\x00\x30\x00DS", b"\x28\x00\x30\x00FD"),
        ("spacing as bytes", b"\x28\x00\x30\x00DS", b"\x28\x00\x30\x00OB"),
        ("position as date", b"\x20\x00\x32\x00DS", b"\x20\x00\x32\x00DA"),
        ("pixels as text", b"\xe0\x7f\x10\x00OW", b"\xe0\x7f\x10\x00UT"),
        ("pixels without length", b"\xe0\x7f\x10\x00OW\0\0", b"\xe0\x7f\x10\x00OW\0\0\xff\xff\xff\xff"),
    ):
        assert ct.count(old) == 1
        yield f"CT_small {name}", ct.replace(old, new)


def bombs(tmp: Path) -> Iterator[tuple[str, bytes]]:
    ct = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    at = ct.index(b"\x28\x00\x02\x00US")
    sequence, item = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff", b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    empty = b"\xfe\xff\x00\xe0\0\0\0\0"
    for depth in (100, 20_000):
        yield f"CT_small nested {depth}", ct[:at] + (sequence + item) * depth + ct[at:]
    yield "CT_small two million items", ct[:at] + sequence + empty * 2_000_000 + ct[at:]
    yield "CT_small two million items after the pixels", ct + b"\xfc\xff\x40\x11" + sequence[4:] + empty * 2_000_000
    shared = struct.pack("<HH2sHI", 0x5200, 0x9229, b"SQ", 0, 8 * 2_000_000) + empty * 2_000_000
    enhanced = pydicom.dcmread(get_testdata_file("eCT_Supplemental.dcm"))
    del enhanced.SharedFunctionalGroupsSequence
    plain = content(enhanced, tmp)
    where = plain.index(b"\x00\x52\x30\x92SQ")
    yield "enhanced two million items", plain[:where] + shared + plain[where:]
    for length in (2**31, 2**32 - 2):
        private = struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, length)
        yield f"CT_small value of {length} bytes", ct[:at] + private + ct[at:]
    deflated = pydicom.dcmread(get_testdata_file("image_dfl.dcm"))
    head = Path(get_testdata_file("image_dfl.dcm")).read_bytes()
    head = head[: 132 + 12 + int(deflated.file_meta.FileMetaInformationGroupLength)]
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    yield "deflated bomb", head + squeeze.compress(bytes(2**28)) + squeeze.flush()
    yield "deflated garbage", head + bytes(range(256)) * 20
    for count in (4_294_967_295, 2**62):
        for base in ("eCT_Supplemental.dcm", "MR_small_RLE.dcm"):
            dataset = pydicom.dcmread(get_testdata_file(base))
            element(dataset, "NumberOfFrames", str(count).encode())
            yield f"{base[:-4]} {count} frames", content(dataset, tmp)


def archives(tmp: Path) -> Iterator[tuple[str, bytes]]:
    ct = Path(get_testdata_file("CT_small.dcm")).read_bytes()

    def packed(members: dict[str, bytes], change: Callable[[bytearray], object] = lambda _: None) -> bytes:
        with zipfile.ZipFile(tmp, "w", compression=zipfile.ZIP_DEFLATED) as archive:
            for name, member in members.items():
                archive.writestr(name, member)
        whole = bytearray(tmp.read_bytes())
        change(whole)
        return bytes(whole)

    for name in ("../../../../tmp/evil.dcm", "/tmp/evil.dcm", "..\\..\\evil.dcm", "C:\\evil.dcm", "a/../../evil.dcm"):
        yield f"zip with {name}".replace("/", " ").replace("\\", " ") + ".zip", packed({name: ct})
    yield "zip bomb.zip", packed({"a.dcm": ct + bytes(2**27)})
    yield "zip of zeros.zip", packed({"a.dcm": bytes(2**27)})

    def larger(whole: bytearray) -> None:
        for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
            at = whole.index(signature) + offset
            whole[at : at + 4] = struct.pack("<I", 0x7FFFFFFF)

    def scrambled(whole: bytearray) -> None:
        draw = random.Random(1)
        for _ in range(300):
            whole[draw.randrange(40, len(whole) - 200)] = draw.randrange(256)

    def locked(whole: bytearray) -> None:
        whole[whole.index(b"PK\x01\x02") + 8] |= 1

    def strange(whole: bytearray) -> None:
        at = whole.index(b"PK\x01\x02") + 10
        whole[at : at + 2] = struct.pack("<H", 97)

    yield "zip whose size lies.zip", packed({"a.dcm": ct}, larger)
    yield "zip changed.zip", packed({"a.dcm": ct}, scrambled)
    yield "zip locked.zip", packed({"a.dcm": ct}, locked)
    yield "zip of unknown method.zip", packed({"a.dcm": ct}, strange)
    yield "zip empty.zip", packed({})
    whole = packed({"a.dcm": ct})
    for percent in (30, 99):
        yield f"zip cut to {percent} percent.zip", whole[: len(whole) * percent // 100]
    yield "nested.zip", packed({"inner.zip": whole})


def write_cases(folder: Path, tmp: Path) -> list[str]:
    folder.mkdir()
    names = []
    with pydicom.config.disable_value_validation():
        for cases in (truncated(), flipped(), values(tmp), encodings(), bombs(tmp), archives(tmp)):
            for name, damaged in cases:
                name = name.replace("/", " ").replace("\0", "")
                (folder / name).write_bytes(damaged)
                names.append(name)
    return names


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    root = tmp_path_factory.mktemp("damaged")
    names = write_cases(root / "cases", root / "scratch")
    (root / "scratch").unlink()
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    done = subprocess.run(
        [sys.executable, "-c", READER, str(root / "cases"), str(MEMORY)],
        capture_output=True, text=True, timeout=280, cwd=root / "cases", check=False,
    )  # fmt: skip
    after = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    return names, done, before == after


def test_each_is_refused_clearly_or_read_right(outcome):
    names, done, _ = outcome
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(done.stdout)
    assert len(set(names)) == len(names) == len(results) >= 200
    assert {name: told for name, (kind, told) in results.items() if kind == "broken"} == {}
    right = {str(read_voxels(find_series(Path(get_testdata_file(base)))).voxels.sum()) for base in BASES}
    for name, (kind, told) in results.items():
        if kind == "refused":
            assert told.isprintable(), name
            assert 30 < len(told.replace(name, "")) < 600, (name, told)
        elif "bytes changed" not in name:  # those may be within the pixels, where nothing tells
            assert told in right, name
    refused = [kind for kind, _ in results.values()].count("refused")
    assert refused > 170


def test_nothing_is_said_or_written(outcome):
    _, done, untouched = outcome
    assert done.stderr == ""
    assert untouched
