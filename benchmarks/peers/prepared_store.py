"""The prepared store side by side with MONAI's PersistentDataset and with SimpleITK, and what it needs itself.

Real voxels: the two chest CTs of the sample scans, one after the other along z until there are enough slices, written
by SimpleITK as ``.nii.gz`` with a label. The 98,154 cases are generated: small pictures, prepared by the real command's
code with fsync switched off, which spares the benchmark the disk's waiting and changes no file.

    python benchmarks/peers/prepared_store.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import SimpleITK as sitk

from oncoseg_benchmarks.record import record, spread
from oncoseg_core import (
    BoolArray,
    Case,
    DatasetAdapter,
    DatasetSpec,
    FileDataset,
    Geometry,
    LoraSpec,
    ModelSpec,
    Registry,
    Target,
    Volume,
    load_plugins,
)
from oncoseg_core.plugins import Plugin, RegisteredComponent
from oncoseg_store import PreparationJob, PreparedStore, prepare_dataset

SLICES = 200
CASES = 98_154
TARGET = Target(name="tumour", labels=frozenset({1}))
MODEL = ModelSpec(
    name="none",
    factory="none:None",
    summary="Only its input size counts",
    prompt_kinds=("box",),
    input_size=512,
    input_range=(-1.0, 1.0),
    lora=LoraSpec(targets=("none",)),
    weights="none",
)


class Scans(FileDataset):
    """``image*.nii.gz`` with a label of its own each."""

    def discover(self, root: Path) -> Iterator[Case]:
        """The scans."""
        for image in sorted(root.glob("image*.nii.gz")):
            yield Case(
                dataset="scans",
                case_id=image.name,
                patient_id=image.name,
                modality="ct",
                images=(image,),
                labels=(image.with_name(image.name.replace("image", "label")),),
                targets=(TARGET,),
            )


class Pictures(DatasetAdapter):
    """98,154 generated pictures of 64 x 64 pixels, all with the path of one file."""

    def discover(self, root: Path) -> Iterator[Case]:
        """The cases."""
        for number in range(CASES):
            yield Case(
                dataset="pictures",
                case_id=f"picture_{number:06d}",
                patient_id=f"patient_{number // 3:06d}",
                modality="mri",
                images=(root / "picture",),
                labels=(root / "picture",),
                targets=(TARGET,),
            )

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        """A picture of noise with a square in it."""
        rng = np.random.default_rng(int(case.case_id[-6:]))
        mask = np.zeros((1, 64, 64), dtype=bool)
        mask[0, 20:40, 20:40] = rng.random() < 0.7
        voxels = rng.integers(0, 99, (1, 1, 64, 64), dtype=np.uint8) + 100 * mask[np.newaxis]
        return Volume(voxels, Geometry.from_parts((1, 64, 64)), case.modality, None, False), {TARGET.name: mask}


def main() -> None:
    """Measure everything, one after the other, and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=CASES, help="of the generated manifest")
    parser.add_argument("--work", type=Path, help="where files are made (default: a temporary folder)")
    cases, work = parser.parse_args().cases, parser.parse_args().work
    with tempfile.TemporaryDirectory(dir=work) as name:
        folder = Path(name)
        found = {
            "slice": in_a_fresh_process("one_slice", folder, 2),
            "preparing": preparing(folder),
            "memory_while_preparing": in_a_fresh_process("memory", folder, 2),
            "manifest": manifest(folder, cases),
        }
    path = record("prepared_store", f"python benchmarks/peers/{Path(__file__).name}", found)
    print(path.read_text())


def in_a_fresh_process(measurement: str, folder: Path, threads: int) -> Any:
    """Run a measurement of this module by itself, so that its memory is its own."""
    code = (
        f"import json, prepared_store as p, pathlib; print(json.dumps(p.{measurement}(pathlib.Path({str(folder)!r}))))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": str(threads)}
    environment["OMP_WAIT_POLICY"] = "PASSIVE"  # as every OncoSeg program sets it
    done = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def registry_with(name: str, behaviour: type[DatasetAdapter], modality: str) -> Registry:
    """What is installed, and a dataset of this module."""
    registry = load_plugins()
    spec = DatasetSpec(
        name=name,
        factory=f"{__name__}:{behaviour.__name__}",
        summary="For the benchmark",
        modalities=(modality,),
        targets=(TARGET,),
        licence="none",
        url="none",
        citation="none",
    )
    registry.components.append(RegisteredComponent("oncoseg_datasets", spec, Plugin("benchmark", "1")))
    return registry


def write_scans(folder: Path, slices: int, count: int) -> list[Path]:
    """Real CT voxels, ``count`` scans of ``slices`` slices with a label each; all the files, images first."""
    samples = load_plugins().build(DatasetSpec, "samples").fetch(lambda *_: None)
    folder.mkdir(exist_ok=True)
    files = []
    for kind in ("image", "label"):
        parts = [
            sitk.GetArrayFromImage(sitk.ReadImage(str(samples / f"lung{number}_{kind}.nrrd"))) for number in (1, 2)
        ]
        both = np.concatenate(parts)
        for number in range(count):
            array = np.concatenate([both] * (slices // len(both) + 1))[number : number + slices]
            image = sitk.GetImageFromArray(array if kind == "image" else array.astype(np.uint8))
            image.SetSpacing((0.6, 0.6, 5.0))
            path = folder / f"{kind}{number}.nii.gz"
            sitk.WriteImage(image, str(path), useCompression=True)
            files.append(path)
    return files


def times_of(work: Callable[[int], Any], numbers: np.ndarray, warm: int = 3) -> list[float]:
    """Milliseconds of each call; the first ones warm up and do not count."""
    spent = []
    for number in [*numbers[:warm], *numbers]:
        started = time.perf_counter()
        work(int(number))
        spent.append(1000 * (time.perf_counter() - started))
    return spent[warm:]


def one_slice(folder: Path) -> dict[str, Any]:
    """A random training slice: image and mask, normalised, three channels, 512 x 512.

    MONAI: ``PersistentDataset`` with LoadImaged (image and label), EnsureChannelFirstd, ScaleIntensityRanged to [0, 1]
    cached in its cache folder, and after that a random slice of image and label, as a Lambda that MONAI does not cache
    (a RandomizableTransform), repeated to three channels. Both have their files in the page cache; nothing is resized.
    """
    import torch
    from monai.data import PersistentDataset
    from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, RandomizableTransform, ScaleIntensityRanged

    from oncoseg_core.path import Preprocessor, mask_to_model

    scans = folder / "one"
    image, label = write_scans(scans, SLICES, 1)
    prepare_dataset(
        registry_with("scans", Scans, "ct"), PreparationJob("scans", folder / "store-one", {}, {}), scans, 1
    )
    store = PreparedStore.open(folder / "store-one")
    path = Preprocessor(load_plugins(), "ct", MODEL)
    stats = store.stats_for(0, path.normalization)

    def ours(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        case = store.case(0)
        volume = case.volume
        return path.pixels(volume, index, stats), mask_to_model(case.mask(TARGET.name, index), path.grid(volume))

    class OneSlice(RandomizableTransform):  # type: ignore[misc]
        """The slice that is asked for, from the whole cached volume."""

        index = 0

        def __call__(self, data: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
            image = data["image"][..., self.index].expand(3, -1, -1) * 2 - 1
            return image.contiguous(), (data["label"][0, ..., self.index] == 1).float()

    picker = OneSlice()
    both = ["image", "label"]
    transform = Compose(
        [
            LoadImaged(keys=both),
            EnsureChannelFirstd(keys=both),
            ScaleIntensityRanged(keys="image", a_min=-1000, a_max=1000, b_min=0, b_max=1, clip=True),
            picker,
        ]
    )
    dataset = PersistentDataset([{"image": str(image), "label": str(label)}], transform, cache_dir=folder / "monai")

    def theirs(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        picker.index = index
        pixels, mask = dataset[0]
        return pixels, mask

    rng = np.random.default_rng(0)
    for index in rng.integers(0, SLICES, 5):  # the same slice: MONAI has x first, and this file's x runs to the left
        (our_pixels, our_mask), (their_pixels, their_mask) = ours(int(index)), theirs(int(index))
        assert torch.allclose(our_pixels, their_pixels.transpose(1, 2).as_subclass(torch.Tensor), atol=1e-5)  # noqa: S101
        assert torch.equal(our_mask, their_mask.transpose(0, 1).as_subclass(torch.Tensor))  # noqa: S101
    default = torch.get_num_threads()
    our_times = times_of(ours, rng.integers(0, SLICES, 400))
    their_times = times_of(theirs, rng.integers(0, SLICES, 20))
    torch.set_num_threads(1)  # as in a worker of a DataLoader
    our_times_1 = times_of(ours, rng.integers(0, SLICES, 400))
    their_times_1 = times_of(theirs, rng.integers(0, SLICES, 20))
    cold = times_of(
        lambda index: PreparedStore.open(folder / "store-one").case(0).volume.voxels[:, index], np.arange(50)
    )
    return {
        "slices": SLICES,
        "ms": spread(our_times),
        "monai_ms": spread(their_times),
        "times_faster": statistics.median(their_times) / statistics.median(our_times),
        "threads": default,
        "one_thread_ms": spread(our_times_1),
        "one_thread_monai_ms": spread(their_times_1),
        "one_thread_times_faster": statistics.median(their_times_1) / statistics.median(our_times_1),
        "open_store_and_read_one_slice_ms": spread(cold),
        "store_bytes": size_of(folder / "store-one"),
        "nii_gz_bytes": image.stat().st_size + label.stat().st_size,
        "size_ratio": size_of(folder / "store-one") / (image.stat().st_size + label.stat().st_size),
        "monai_cache_bytes": size_of(folder / "monai"),
    }


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def preparing(folder: Path, count: int = 4, repeats: int = 5) -> dict[str, Any]:
    """Preparing ``count`` scans with one process, against SimpleITK reading image and label; they take turns.

    By the clock, and in processor time, which other work on the machine does not change.
    """
    scans = folder / "several"
    files = write_scans(scans, SLICES, count)
    registry = registry_with("scans", Scans, "ct")

    def read() -> None:
        for path in files:
            sitk.ReadImage(str(path))

    reading, one = [], []
    for repeat in range(repeats + 1):  # the first of each warms up
        job = PreparationJob("scans", folder / f"store-{repeat}", {}, {})
        pair = seconds_of(read), seconds_of(lambda job=job: prepare_dataset(registry, job, scans, 1))
        if repeat:
            reading.append(pair[0])
            one.append(pair[1])
    found: dict[str, Any] = {"scans": count, "slices": SLICES}
    for number, clock in enumerate(("seconds", "processor_seconds")):
        found[f"simpleitk_read_{clock}"] = spread([both[number] for both in reading])
        found[f"prepare_{clock}"] = spread([both[number] for both in one])
        ratios = [ours[number] / theirs[number] for ours, theirs in zip(one, reading, strict=True)]
        found[f"ratio_of_each_pair_{clock}"] = spread(ratios)
    return found


def seconds_of(work: Callable[[], Any]) -> tuple[float, float]:
    """By the clock, and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def memory(folder: Path) -> dict[str, Any]:
    """The most memory that preparing 512 x 512 x 1000 with its label takes, above what the process has without."""
    scans = folder / "long"
    write_in_another_process(scans)
    registry = registry_with("scans", Scans, "ct")
    registry.build(DatasetSpec, "scans")
    before = resident_mb()  # with the store's libraries, which this module has imported
    prepare_dataset(registry, PreparationJob("scans", folder / "store-long", {}, {}), scans, 1)
    after = peak_mb()
    volume = 512 * 512 * 1000 * 2 / 2**20
    return {
        "volume_mb": volume,
        "peak_mb": after,
        "libraries_mb": before,
        "volumes": (after - before) / volume,
        "volumes_with_libraries": after / volume,
    }


def write_in_another_process(scans: Path) -> None:
    """The long scan, made where its memory does not count here."""
    code = f"import prepared_store as p, pathlib; p.write_scans(pathlib.Path({str(scans)!r}), 1000, 1)"
    subprocess.run([sys.executable, "-c", code], check=True)


def manifest(folder: Path, cases: int) -> dict[str, Any]:
    """Prepare many small cases, then open the store and read it in a process of its own."""
    root = folder / "pictures"
    root.mkdir()
    (root / "picture").touch()
    registry = registry_with("pictures", Pictures, "mri")
    started = time.perf_counter()
    with mock.patch.object(os, "fsync"), mock.patch.object(sys.modules[__name__], "CASES", cases):
        prepare_dataset(registry, PreparationJob("pictures", folder / "store-pictures", {}, {}), root, 1)
    prepared = time.perf_counter() - started
    return {
        "cases": cases,
        "prepare_seconds_without_fsync": prepared,
        "index_bytes": (folder / "store-pictures" / "index.oncoseg").stat().st_size,
        **in_a_fresh_process("epoch", folder, 1),
    }


def epoch(folder: Path) -> dict[str, Any]:
    """Open, a first batch of 8, and every case once in random order; memory is the process's resident set."""
    from oncoseg_core.path import Preprocessor

    path = Preprocessor(load_plugins(), "mri", MODEL)
    before = resident_mb()
    started = time.perf_counter()
    store = PreparedStore.open(folder / "store-pictures")
    opened = time.perf_counter() - started
    index_memory = resident_mb() - before
    numbers, indices = store.foreground_slices(TARGET.name)
    order = np.random.default_rng(0).permutation(len(numbers))

    def sample(position: int) -> None:
        number, index = int(numbers[position]), int(indices[position])
        case = store.case(number)
        path.pixels(case.volume, index, store.stats_for(number, path.normalization))
        case.mask(TARGET.name, index)

    for position in order[:8]:
        sample(int(position))
    first_batch = time.perf_counter() - started
    memory_at = []
    for step, position in enumerate(order):
        sample(int(position))
        if step % (len(order) // 20) == 0:
            memory_at.append(round(resident_mb(), 1))
    return {
        "open_seconds": opened,
        "open_and_first_batch_seconds": first_batch,
        "libraries_mb": before,
        "index_mb_in_memory": index_memory,
        "samples_of_the_epoch": len(order),
        "resident_mb_over_the_epoch": memory_at,
        "peak_mb": peak_mb(),
        "peak_mb_without_libraries": peak_mb() - before,
        "epoch_seconds": time.perf_counter() - started,
    }


def peak_mb() -> float:
    """The most that the process has held; unlike ``getrusage``, without what its parent held when it started it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def resident_mb() -> float:
    """What the process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
