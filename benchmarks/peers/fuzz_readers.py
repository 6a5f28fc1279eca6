"""Damaged and hostile files over all readers: each is read or refused in one line, without a crash or a hang.

Seeds are small files of every kind: images of all formats of the core, DICOM files of many transfer syntaxes, a
series as a folder and as a zip archive, RTSTRUCT and SEG objects, a LoRA adapter, a prepared store.
Each mutant changes one file of a seed: bytes, spans, words at their extremes, numbers in text, a cut; checksums are
mended in every second one where a format has some, so that what lies behind them is reached. Mutants are derived from
their number alone. They are read in a process by itself that is killed after a time; decoded images may take half a
gigabyte (ONCOSEG_MAX_IMAGE_BYTES).

    python benchmarks/peers/fuzz_readers.py
"""

from __future__ import annotations

import argparse
import collections
import gzip
import hashlib
import io
import json
import os
import random
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from oncoseg_benchmarks.record import record, require

MUTANTS = 10_000
LIMIT_SECONDS = 60.0
LIMIT_MB = 2048.0
IMAGE_BYTES = 2**29

DICOM = (
    "CT_small", "MR_small", "MR_small_implicit", "MR_small_bigendian", "MR_small_RLE", "MR_small_jp2klossless",
    "MR_small_jpeg_ls_lossless", "693_J2KI", "JPEG-lossy", "JPEG2000", "JPEGLSNearLossless_16",
    "JPGLosslessP14SV1_1s_1f_8b", "SC_rgb_rle", "SC_rgb_jpeg_dcmtk", "image_dfl", "emri_small_RLE",
    "eCT_Supplemental", "OBXXXX1A_rle", "no_meta",
)  # fmt: skip
DECODED_APART = {f"dicom-{name}" for name in DICOM if "J2K" in name or "jp2k" in name or "JP" in name or "jp" in name}
"""For each of these a process is started that decodes it, which takes a second; they have fewer mutants."""

EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF, 0x10000)
TEXTS = (b"0", b"-1", b"nan", b"inf", b"1e308", b"99999999999999999999", b"2147483647", b"65535", b"", b"x")


def main() -> None:
    """Make the seeds, try all mutants, and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=MUTANTS)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--kinds", nargs="*", help="seeds whose names begin so")
    parser.add_argument("--keep", type=Path, help="where mutants with findings are copied to")
    parser.add_argument("--dry", action="store_true", help="recorded nowhere: print what was found")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        answer_requests(arguments.worker)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds = [seed for seed in write_seeds(folder / "seeds") if seed.name.startswith(tuple(arguments.kinds or [""]))]
        found = try_all(seeds, folder, range(arguments.first, arguments.first + arguments.mutants), arguments.keep)
    print(json.dumps(found, indent=2))
    if not arguments.dry:
        record("fuzz_readers", f"python benchmarks/peers/{Path(__file__).name}", found)
    require(not found["findings"], f"{len(found['findings'])} mutants were neither read nor refused in one line")


def try_all(seeds: list[Path], folder: Path, numbers: range, keep: Path | None) -> dict[str, Any]:
    """Read every mutant and count what came of it."""
    counts: dict[str, collections.Counter[str]] = {seed.name: collections.Counter() for seed in seeds}
    findings: list[dict[str, Any]] = []
    slowest, largest = (0.0, 0), (0.0, 0)
    worker = Worker(folder / "seeds")
    turns = [seed for seed in seeds for _ in range(1 if seed.name in DECODED_APART else 8)]
    for number in numbers:
        seed = turns[number * 7 % len(turns)]
        target = folder / "mutant"
        shutil.rmtree(target, ignore_errors=True)
        how = mutate(seed, target, number, seeds)
        worker.start()
        started = time.monotonic()
        outcome, detail, megabytes = worker.read(seed.name.partition("-")[0], target)
        slowest, largest = max(slowest, (time.monotonic() - started, number)), max(largest, (megabytes, number))
        if outcome in {"read", "refused"} and megabytes > LIMIT_MB:
            outcome, detail = "memory", f"{megabytes:.0f} MB"
        counts[seed.name][outcome] += 1
        if outcome not in {"read", "refused"}:
            findings.append(
                {"mutant": number, "seed": seed.name, "mutation": how, "outcome": outcome, "detail": detail}
            )
            if keep is not None:
                shutil.copytree(target, keep / f"{number}", dirs_exist_ok=True)
        if number % 500 == 499:
            print(
                f"{number + 1}: {len(findings)} findings, {slowest[0]:.1f} s, {largest[0]:.0f} MB",
                file=sys.stderr,
                flush=True,
            )
    worker.stop()
    total = sum(counts.values(), collections.Counter())
    return {
        "mutants": len(numbers),
        "read": total["read"],
        "refused": total["refused"],
        **{kind: total[kind] for kind in ("traceback", "several lines", "crash", "hang", "memory")},
        "slowest_seconds": slowest[0],
        "slowest_mutant": slowest[1],
        "peak_mb": largest[0],
        "largest_mutant": largest[1],
        "seeds": {name: dict(sorted(count.items())) for name, count in counts.items()},
        "findings": findings,
    }


# Mutations.


def mutate(seed: Path, target: Path, number: int, seeds: list[Path]) -> str:
    """Copy a seed with one of its files changed; what was done."""
    draw = random.Random(number)  # noqa: S311 - no secret
    shutil.copytree(seed, target)
    files = sorted(path for path in target.rglob("*") if path.is_file())
    file = draw.choice(files)
    inner, pack_again = contents_of(file) if draw.random() < 0.5 else (file.read_bytes(), bytes)
    kind, changed = change(bytearray(inner), draw, seeds)
    file.write_bytes(pack_again(changed))
    mend_hashes(target, draw)
    return f"{kind} in {file.relative_to(target)}"


def change(content: bytearray, draw: random.Random, seeds: list[Path]) -> tuple[str, bytes]:
    """One change, or two, of bytes; mostly near the beginning, where headers are."""
    kinds: list[Callable[[bytearray, random.Random], None]] = [
        bits,
        word,
        word,
        number_in_text,
        number_in_text,
        cut,
        drop,
        repeat,
        fill,
    ]
    chosen = [draw.choice(kinds) for _ in range(draw.choice((1, 1, 2)))]
    for one in chosen:
        if content:
            one(content, draw)
    if draw.random() < 0.02:
        other = draw.choice(seeds)
        strange = draw.choice(sorted(path for path in other.rglob("*") if path.is_file())).read_bytes()
        content[place(content, draw) :] = strange
    return " and ".join(one.__name__ for one in chosen), bytes(content)


def place(content: bytearray, draw: random.Random) -> int:
    """Where: half of them in the first kilobyte or two."""
    return draw.randrange(min(len(content), draw.choice((64, 512, 2048, len(content), len(content)))) or 1)


def bits(content: bytearray, draw: random.Random) -> None:
    """Some bytes become others."""
    for _ in range(draw.choice((1, 1, 3, 30))):
        content[place(content, draw)] ^= draw.randrange(1, 256)


def word(content: bytearray, draw: random.Random) -> None:
    """A number of 1 to 8 bytes becomes an extreme one, in either byte order."""
    size, at = draw.choice((1, 2, 4, 8)), place(content, draw)
    value = draw.choice(EXTREMES) & ((1 << 8 * size) - 1)
    content[at : at + size] = value.to_bytes(size, draw.choice(("little", "big")))


def number_in_text(content: bytearray, draw: random.Random) -> None:
    """A number that is written in digits becomes another, or none."""
    numbers = list(re.finditer(rb"-?\d+(?:\.\d+)?", content[:4096]))
    if numbers:
        one = draw.choice(numbers)
        content[one.start() : one.end()] = draw.choice(TEXTS)


def cut(content: bytearray, draw: random.Random) -> None:
    """The rest is missing."""
    del content[place(content, draw) :]


def drop(content: bytearray, draw: random.Random) -> None:
    """A span is missing."""
    at = place(content, draw)
    del content[at : at + draw.choice((1, 2, 4, 100, 1000))]


def repeat(content: bytearray, draw: random.Random) -> None:
    """A span stands there many times."""
    at = place(content, draw)
    span = content[at : at + draw.choice((1, 8, 100, 1000))]
    content[at:at] = span * draw.choice((1, 1, 10, 1000))


def fill(content: bytearray, draw: random.Random) -> None:
    """A span is zeros or ones."""
    at, length = place(content, draw), draw.choice((4, 100, 1000, 10_000))
    content[at : at + length] = bytes([draw.choice((0, 255))]) * len(content[at : at + length])


def contents_of(file: Path) -> tuple[bytes, Callable[[bytes], bytes]]:
    """What lies behind a file's compression or checksum, and how it is packed again."""
    content = file.read_bytes()
    if file.name.endswith(".gz"):
        return gzip.decompress(content), lambda inner: gzip.compress(inner, 1)
    if file.suffix == ".zip":
        archive = zipfile.ZipFile(io.BytesIO(content))
        name = archive.namelist()[0]
        return archive.read(name), lambda inner: with_member(archive, name, inner)
    if content[:8] == b"oncoprep":
        return content[16:], lambda inner: content[:12] + struct.pack("<I", zlib.crc32(inner)) + inner
    if content[-8:] == b"oncocase":
        at, length = struct.unpack("<QQ", content[-24:-8])
        head, block = content[:at], content[at : at + length]
        return block[16:], lambda inner: _case_of(head, block[:12] + struct.pack("<I", zlib.crc32(inner)) + inner)
    return content, bytes


def _case_of(head: bytes, block: bytes) -> bytes:
    return head + block + struct.pack("<QQ", len(head), len(block)) + b"oncocase"


def with_member(archive: zipfile.ZipFile, name: str, inner: bytes) -> bytes:
    """A zip archive with another content of one member."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as changed:
        for member in archive.namelist():
            changed.writestr(member, inner if member == name else archive.read(member))
    return stream.getvalue()


def mend_hashes(target: Path, draw: random.Random) -> None:
    """Let an adapter's manifest say the hashes that its files have now, in every second mutant."""
    manifest = target / "oncoseg.json"
    if manifest.exists() and draw.random() < 0.5:
        text = manifest.read_bytes().decode("utf-8", "replace")
        for name in ("adapter_model.safetensors", "adapter_config.json", "trained_on.txt"):
            if (target / name).exists():
                digest = hashlib.sha256((target / name).read_bytes()).hexdigest()
                text = re.sub(rf'("{re.escape(name)}": *)"[0-9a-f]{{64}}"', rf'\1"{digest}"', text)
        manifest.write_bytes(text.encode())


# Seeds.


def write_seeds(folder: Path) -> list[Path]:
    """A folder for each seed, named KIND-DETAIL, with one file or several."""
    for write in (write_images, write_dicom, write_structures, write_adapter, write_store):
        write(folder)
    return sorted(path for path in folder.iterdir() if not path.name.startswith("_"))


def phantom(shape: tuple[int, int, int] = (6, 24, 31)) -> np.ndarray:
    """Small numbers, all sizes different."""
    return np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)


def write_images(folder: Path) -> None:
    """Every format that the core reads, written by SimpleITK or Pillow."""
    import SimpleITK as sitk
    from PIL import Image

    image = sitk.GetImageFromArray(phantom())
    image.SetSpacing((0.9, 0.7, 1.5))
    real = sitk.Cast(image, sitk.sitkFloat32)
    colours = np.random.default_rng(1).integers(0, 255, (24, 31, 3), dtype=np.uint8)

    def at(name: str) -> Path:
        path = folder / f"image-{name}" / f"image.{name.split('-', maxsplit=1)[-1]}"
        path.parent.mkdir(parents=True)
        return path

    for suffix in ("mha", "mhd", "nrrd"):
        sitk.WriteImage(image, str(at(f"raw-{suffix}")))
        sitk.WriteImage(image, str(at(f"packed-{suffix}")), useCompression=True)
    for name in ("raw-nii", "packed-nii.gz", "raw-nhdr"):
        sitk.WriteImage(image, str(at(name)), useCompression=name == "packed-nii.gz")
    sitk.WriteImage(real, str(at("real-nii.gz")))
    sitk.WriteImage(real, str(at("real-nrrd")), useCompression=True)
    for name in ("colour-png", "colour-jpg", "colour-tif", "colour-bmp"):
        Image.fromarray(colours).save(at(name))
    Image.fromarray(colours[..., 0]).convert("P").save(at("palette-png"))
    Image.fromarray(colours[..., 0].astype(np.uint16) * 255).save(at("deep-tif"), compression="tiff_lzw")
    sitk.WriteImage(sitk.GetImageFromArray(colours[..., 0]), str(at("grey-png")))
    Image.fromarray(colours[..., 0]).save(at("deflated-tif"), compression="tiff_adobe_deflate")
    Image.fromarray(colours[..., 0] > 99).save(at("fax-tif"), compression="group4")
    Image.fromarray(colours).save(at("progressive-jpg"), progressive=True)


def write_dicom(folder: Path) -> None:
    """Samples of pydicom, and a series as a folder and as an archive."""
    from pydicom.data import get_testdata_file

    from oncoseg_dicom.series.write_series import write_series

    for name in DICOM:
        path = get_testdata_file(f"{name}.dcm", download=False)
        if path is not None:
            (folder / f"dicom-{name}").mkdir(parents=True)
            shutil.copyfile(str(path), folder / f"dicom-{name}" / f"{name}.dcm")
    origins = [(-20.0, 11.0, 3.0 * index) for index in range(6)]
    files = write_series(folder / "dicom-series", phantom(), origins)
    shutil.copytree(folder / "dicom-series", folder / "_series")
    (folder / "archive-zip").mkdir()
    with zipfile.ZipFile(folder / "archive-zip" / "series.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.name)


def write_structures(folder: Path) -> None:
    """An RTSTRUCT and SEGs on the series, by the exporters."""
    from oncoseg_core import ExporterSpec, Segmentation, load_plugins
    from oncoseg_core.imaging import read_image

    registry = load_plugins()
    series = folder / "_series"
    image = read_image(registry, series)
    masks = {"tumour": np.zeros(image.geometry.shape, bool), "rim": np.zeros(image.geometry.shape, bool)}
    masks["tumour"][1:4, 5:15, 6:20] = True
    masks["tumour"][2, 8:11, 9:13] = False
    masks["rim"][2:5, 16:22, 3:9] = True
    for spec in registry.specs(ExporterSpec):
        if "dicom" in str(registry.component(ExporterSpec, spec.format).plugin):
            target = folder / f"masks-{spec.format}" / f"masks{spec.suffix}"
            target.parent.mkdir(parents=True)
            exporter = registry.build(ExporterSpec, spec.format, {"source": series})
            exporter.export(Segmentation(masks, image.geometry, image_handle=image.handle), target)


def tiny_model() -> Any:
    """A small model to adapt."""
    from oncoseg_core import ModelSpec, load_plugins

    return load_plugins().build(ModelSpec, "sam3-tiny", {"weights": "random:0"})


def write_adapter(folder: Path) -> None:
    """An untrained adapter of a tiny model."""
    from oncoseg_core.path import PathSettings
    from oncoseg_lora import LoraSettings, adapt, save_adapter

    model = adapt(tiny_model(), LoraSettings(rank=2))
    save_adapter(model, folder / "adapter-lora", versions={"oncoseg-core": "0"}, paths={"ct": PathSettings()})


def write_store(folder: Path) -> None:
    """A store of two small cases."""
    import SimpleITK as sitk

    from oncoseg_core import load_plugins
    from oncoseg_store import PreparationJob, prepare_dataset

    scans = folder / "_scans"
    scans.mkdir(parents=True)
    rows = ["case,image,label,patient"]
    for number in range(2):
        label = np.zeros((6, 24, 31), np.uint8)
        label[2:4, 5:15, 6:20] = 1
        sitk.WriteImage(sitk.GetImageFromArray(phantom()), str(scans / f"{number}.nrrd"))
        sitk.WriteImage(sitk.GetImageFromArray(label), str(scans / f"{number}-label.nrrd"))
        rows.append(f"{number},{number}.nrrd,{number}-label.nrrd,{number}")
    (scans / "cases.csv").write_text("\n".join(rows))
    settings = {"layout": "manifest", "manifest": "cases.csv", "modality": "ct", "targets": {"tumour": [1]}}
    prepare_dataset(load_plugins(), PreparationJob("generic", folder / "store-generic", settings, {}), scans, 1)
    for file in (folder / "store-generic").glob("*lock*"):
        file.unlink()


# The process that reads.


class Worker:
    """Reads mutants in another process, which is started anew after a crash or a hang."""

    def __init__(self, seeds: Path) -> None:
        self._seeds = seeds
        self._process: subprocess.Popen[str] | None = None

    def read(self, kind: str, target: Path) -> tuple[str, str, float]:
        """What came of it, in a word and a line, and the memory that it took at most in MB."""
        process = self.start()
        assert process.stdin is not None  # noqa: S101 - a pipe
        assert process.stdout is not None  # noqa: S101
        process.stdin.write(json.dumps([kind, str(target)]) + "\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], LIMIT_SECONDS)[0]:
            self.stop()
            return "hang", f"more than {LIMIT_SECONDS} s", 0.0
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            self._process = None
            return "crash", f"exit code {code}", 0.0
        outcome, detail, megabytes = json.loads(line)
        return outcome, detail, megabytes

    def start(self) -> subprocess.Popen[str]:
        """Start the process, if there is none that waits."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, __file__, "--worker", str(self._seeds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=os.environ | {"ONCOSEG_MAX_IMAGE_BYTES": str(IMAGE_BYTES), "OMP_NUM_THREADS": "1"},
            )
            assert self._process.stdout is not None  # noqa: S101
            self._process.stdout.readline()  # ready: the libraries are loaded
        return self._process

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def answer_requests(seeds: Path) -> None:
    """Read what standard input names, until there is no more."""
    from oncoseg_core import OncoSegError

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    readers = readers_of(seeds)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        kind, target = json.loads(line)
        forget_peak()
        try:
            readers[kind](Path(target))
            outcome = ("read", "")
        except OncoSegError as error:
            outcome = ("several lines" if "\n" in str(error) else "refused", str(error))
        except Exception as error:  # noqa: BLE001 - which is what is looked for
            place = traceback.extract_tb(error.__traceback__)
            ours = [frame for frame in place if "oncoseg" in frame.filename] or place
            outcome = ("traceback", f"{type(error).__name__}: {error} at {ours[-1].filename}:{ours[-1].lineno}")
        print(json.dumps([*outcome, peak_mb()]), file=answers, flush=True)


def readers_of(seeds: Path) -> dict[str, Callable[[Path], Any]]:
    """What reads each kind, as the commands do."""
    import copy

    from oncoseg_core import load_plugins
    from oncoseg_core.imaging import read_image, read_label, read_masks
    from oncoseg_lora import check_files, load_adapter, read_trained_on

    registry = load_plugins()
    series = read_image(registry, seeds / "_series")
    model = tiny_model()

    def image(folder: Path) -> None:
        path = min(
            folder.iterdir(), key=lambda file: file.suffix in {".raw", ".zraw", ".gz"} and ".nii" not in file.name
        )
        volume = read_image(registry, path)
        require(bool(np.isfinite(volume.geometry.affine).all()), "a grid that is not finite")
        if volume.voxels.shape[0] == 1 and volume.voxels.dtype.kind in "iu":
            read_label(path, volume)

    def masks(folder: Path) -> None:
        found = read_masks(registry, next(folder.iterdir()), series)
        for mask in found.masks.values():
            require(mask.shape == series.geometry.shape, "a mask of another shape")

    def adapter(folder: Path) -> None:
        check_files(folder)
        read_trained_on(folder)
        load_adapter(copy.deepcopy(model), folder)

    return {
        "image": image,
        "dicom": lambda folder: read_image(registry, folder),
        "archive": lambda folder: read_image(registry, folder / "series.zip"),
        "masks": masks,
        "adapter": adapter,
        "store": read_store,
    }


def read_store(folder: Path) -> None:
    """Everything that a store holds."""
    from oncoseg_store import PreparedStore

    opened = PreparedStore.open(folder)
    for target in opened.targets:
        opened.foreground_slices(target)
    for number in range(len(opened)):
        case = opened.case(number)
        for z in range(case.volume.geometry.shape[0]):
            case.volume.voxels[:, z]
            for target in case.foreground:
                case.mask(target, z)
        _ = case.stats


def forget_peak() -> None:
    """Let the kernel count the most memory anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_mb() -> float:
    """The most memory since then."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
