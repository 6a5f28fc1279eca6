"""Whether contours enclose the mask that they were drawn from, by both rules that readers fill by, and in plastimatch.

Generated: masks of speckle, checkerboards, blocks with holes and islands in them, on even series in any orientation,
with any pixels, slice distance and place. Each is written as an RT Structure Set and read from disk: by the even-odd
rule of all contours, and by the union of the contours, filled one by one by a fill of its own, no voxel being in two.
A part of them is read by plastimatch, on series on disk. Then thresholded organs of the sample scans (``oncoseg samples
fetch``): lungs, bone and soft tissue with all their speckle, on all slices, by plastimatch and by the union.

    python benchmarks/peers/rtstruct_exact.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset

from oncoseg_benchmarks.record import record
from oncoseg_core import BoolArray, Geometry, Segmentation
from oncoseg_datasets.sources.samples import samples_directory
from oncoseg_dicom import (
    DicomFile,
    Plane,
    RTStructSettings,
    Series,
    fill_polygons,
    find_series,
    read_structures,
    write_series,
    write_structures,
)

MASKS, IN_PLASTIMATCH, ON_EACH_SERIES = 10_000, 200, 20
SCANS = ("lung1", "lung2")
ORGANS = {"lung": (-950, -400), "bone": (200, 3000), "soft_tissue": (-50, 150)}
"""Hounsfield units from and to."""

PLASTIMATCH = Path(sys.executable).with_name("plastimatch")

Grid = tuple[npt.NDArray[np.float64], tuple[float, float], npt.NDArray[np.float64]]
"""Unit vectors along rows, columns and slices ``(3, 3)``, sizes of a pixel in mm along them, origins ``(z, 3)``."""


def main() -> None:
    """Write and read everything, and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="few masks, and recorded nowhere: does it run?")
    parser.add_argument("--work", type=Path, help="where files are made (default: a temporary folder)")
    arguments = parser.parse_args()
    masks, in_plastimatch = (100, 20) if arguments.dry else (MASKS, IN_PLASTIMATCH)
    with tempfile.TemporaryDirectory(dir=arguments.work) as name:
        found: dict[str, Any] = {
            "random masks": timed(lambda: random_masks(Path(name), masks)),
            "random masks in plastimatch": timed(lambda: random_masks_in_plastimatch(Path(name), in_plastimatch)),
        }
        for scan in SCANS[: 1 if arguments.dry else None]:
            found[f"thresholded organs of {scan}"] = timed(lambda scan=scan: organs(Path(name), scan))
    if arguments.dry:
        print(json.dumps(found, indent=2))
    else:
        print(record("rtstruct_exact", f"python benchmarks/peers/{Path(__file__).name}", found).read_text())


def timed(measure: Any) -> dict[str, Any]:
    """What a measurement found, and how long it took."""
    started = time.perf_counter()
    found: dict[str, Any] = measure()
    return found | {"seconds": round(time.perf_counter() - started)}


def random_masks(folder: Path, count: int) -> dict[str, int]:
    """Masks on series in memory, by our reader and by the union."""
    found = {"masks": 0, "geometries": 0, "voxels": 0, "contours": 0, "off by even-odd": 0, "off by the union": 0}
    rng = np.random.default_rng(0)
    while found["masks"] < count:
        shape = tuple(int(size) for size in rng.integers((1, 5, 5), (4, 25, 25)))
        series = in_memory(shape, random_grid(rng, shape[0]))
        masks = {f"m{number}": random_mask(rng, shape) for number in range(min(ON_EACH_SERIES, count - found["masks"]))}
        path = folder / "random.dcm"
        write_structures(Segmentation(masks, series.geometry), series, path, RTStructSettings(source=folder))
        add(found, differences(path, series, masks))
        found["geometries"] += 1
    return found


def random_masks_in_plastimatch(folder: Path, count: int) -> dict[str, int]:
    """Masks on series on disk, by plastimatch too."""
    found = {"masks": 0, "geometries": 0, "off in plastimatch": 0}
    rng = np.random.default_rng(1)
    while found["masks"] < count:
        place = folder / f"series {found['geometries']}"
        shape = tuple(int(size) for size in rng.integers((2, 6, 6), (5, 33, 33)))
        axes, pixel, origins = random_grid(rng, shape[0])
        write_series(place, np.zeros(shape, np.int16), origins, pixel_spacing=pixel[::-1], orientation=axes[:2].ravel())
        masks = {f"m{number}": random_mask(rng, shape) for number in range(ON_EACH_SERIES)}
        add(found, export_and_read(place, masks))
        found["geometries"] += 1
    return {key: found[key] for key in ("masks", "geometries", "off in plastimatch", "off by the union")}


def organs(folder: Path, scan: str) -> dict[str, int]:
    """Thresholded organs of a sample scan, all slices."""
    image = sitk.ReadImage(str(samples_directory() / f"{scan}_image.nrrd"))
    voxels = sitk.GetArrayFromImage(image)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    origins = [image.TransformIndexToPhysicalPoint((0, 0, index)) for index in range(len(voxels))]
    place = folder / scan
    write_series(
        place,
        voxels.astype(np.int16),
        origins,
        pixel_spacing=image.GetSpacing()[1::-1],
        orientation=direction[:, :2].T.ravel(),
    )
    masks = {name: (voxels >= low) & (voxels <= high) for name, (low, high) in ORGANS.items()}
    return export_and_read(place, masks)


def export_and_read(place: Path, masks: Mapping[str, BoolArray]) -> dict[str, int]:
    """Write masks on a series on disk; in how many voxels they differ by each reader."""
    series = find_series(place)
    path = place.with_suffix(".dcm")
    write_structures(Segmentation(masks, series.geometry), series, path, RTStructSettings(source=place))
    found = differences(path, series, masks)
    out = place.with_name(f"{place.name} read")
    command = ["convert", "--input", path, "--referenced-ct", place, "--output-prefix", out, "--prefix-format", "nrrd"]
    subprocess.run([str(PLASTIMATCH), *map(str, command)], check=True, stdout=subprocess.DEVNULL)
    found["off in plastimatch"] = sum(
        int(np.count_nonzero((sitk.GetArrayFromImage(sitk.ReadImage(str(out / f"{name}.nrrd"))) > 0) != mask))
        for name, mask in masks.items()
    )
    return found


def add(found: dict[str, int], more: Mapping[str, int]) -> None:
    """Add counts to counts."""
    for key, value in more.items():
        found[key] = found.get(key, 0) + value


def differences(path: Path, series: Series, masks: Mapping[str, BoolArray]) -> dict[str, int]:
    """How many masks, voxels and contours there are, and voxels that differ by the even-odd rule and by the union."""
    dataset = pydicom.dcmread(path)
    by_parity = read_structures(dataset, series).masks
    found = {"masks": len(masks), "voxels": 0, "contours": 0, "off by even-odd": 0, "off by the union": 0}
    for roi, (name, mask) in zip(dataset.ROIContourSequence, masks.items(), strict=True):
        times = np.zeros(mask.shape, dtype=np.int64)
        for plane, ring in rings(roi, series):
            low = np.maximum(np.floor(ring.min(axis=0)).astype(int), 0)
            high = np.ceil(ring.max(axis=0)).astype(int)
            width, height = high - low
            times[plane, low[1] : high[1], low[0] : high[0]] += fill_polygons([ring - low], (height, width))
            found["contours"] += 1
        found["voxels"] += int(np.count_nonzero(mask))
        found["off by even-odd"] += int(np.count_nonzero(by_parity[name] != mask))
        found["off by the union"] += int(np.count_nonzero(times != mask))
    return found


def rings(roi: Dataset, series: Series) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    """The slice that each contour names, and its corners (x, y) in pixels."""
    numbers = {plane.sop_instance_uid: number for number, plane in enumerate(series.planes)}
    to_pixels = np.linalg.pinv(np.stack([series.column_step, series.row_step], axis=1)).T
    for contour in roi.ContourSequence:
        plane = numbers[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
        text = contour.get_item("ContourData").value  # as it is in the file: far cheaper than pydicom's numbers
        points = np.array(text.split(b"\\"), dtype=np.float64).reshape(-1, 3)
        yield plane, (points - series.planes[plane].position) @ to_pixels + 0.5


def random_mask(rng: np.random.Generator, shape: tuple[int, ...]) -> BoolArray:
    """Speckle, with blocks and checkerboards turned over in it; never empty."""
    mask = rng.random(shape) < rng.choice([0.0, 0.05, 0.3, 0.6, 0.9, 0.98])
    for _ in range(rng.integers(0, 7)):
        low = rng.integers(0, shape)
        part = mask[
            tuple(slice(start, start + rng.integers(1, size + 1)) for start, size in zip(low, shape, strict=True))
        ]
        part ^= True if rng.random() < 0.6 else np.indices(part.shape).sum(axis=0) % 2 == 0
    mask.flat[rng.integers(mask.size)] = True
    return mask


def random_grid(rng: np.random.Generator, depth: int) -> Grid:
    """An even grid in any orientation, at right angles, near to the origin or far away."""
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0] if rng.random() < 0.5 else np.eye(3)[rng.permutation(3)]
    axes = axes * rng.choice([-1, 1], 3)[:, None]
    axes[2] = np.cross(axes[0], axes[1])
    pixel = tuple(rng.choice([0.08, 0.35, 0.9765625, 4.07], 2).tolist())
    first = rng.uniform(-1, 1, 3) * rng.choice([1.0, 300.0, 5000.0])
    return axes, pixel, first + np.arange(depth)[:, None] * rng.choice([0.3, 0.6, 2.5, 7.0]) * axes[2]


def in_memory(shape: tuple[int, ...], grid: Grid) -> Series:
    """A series without files."""
    axes, pixel, origins = grid
    header = Dataset()
    header.PatientName, header.StudyInstanceUID, header.SeriesInstanceUID = "Nobody", "1.2.3", "1.2.3.4"
    header.FrameOfReferenceUID = "1.2.3.5"
    planes = tuple(
        Plane(DicomFile(Path("none")), None, "1.2.840.10008.5.1.4.1.1.2", f"1.2.3.4.{index}", origin)
        for index, origin in enumerate(origins)
    )
    steps = axes[0] * pixel[0], axes[1] * pixel[1]
    geometry = Geometry.from_slices(shape[1:], *steps, origins, 2.0)
    return Series(Path("none"), planes, *shape[1:], *steps, header, geometry, "ct")


if __name__ == "__main__":
    main()
