"""What is doubted on real chest CTs, and what the checks cost on a large one.

On the sample scans lung1 and lung2 body and lungs are made by ``ct-thresholds`` and examined as they are, with lungs
swapped, with one lung under the other's name, and stored in eight ways (each axis of the array reversed or not), where
the doubts must be the same. None of the scans has more organs contoured. What it costs is measured on a made volume of
512 x 512 x 200 voxels with 32 structures of the head and neck, blocks of made places.

    python benchmarks/peers/structure_plausibility.py
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from oncoseg_benchmarks.record import record, require
from oncoseg_core import AutomaticModelSpec, BoolArray, Geometry, Volume, load_plugins
from oncoseg_core.imaging import read_volume
from oncoseg_core.plugins import peak_memory_mb
from oncoseg_core.system import cache_directory
from oncoseg_structures import examine_structures, judge_structures, measure_structures, read_protocol

LARGE = (200, 512, 512)
MADE = ("External", "Lung_L", "Lung_R", "Lungs")


class Blocks(Mapping[str, BoolArray]):
    """Masks that are made when they are taken, one at a time."""

    def __init__(self, names: list[str], seed: int) -> None:
        self.names, self.seed = names, seed

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, name: str) -> BoolArray:
        mask = np.zeros(LARGE, dtype=bool)
        if name == "External":
            mask[:, 60:450, 40:470] = True
            return mask
        draw = np.random.default_rng((self.seed, self.names.index(name)))
        z, y, x = draw.integers((20, 100, 100), (150, 300, 300))
        mask[z : z + 45, y : y + 100, x : x + 100] = True
        return mask


def stored(masks: dict[str, BoolArray], volume: Volume, axes: tuple[int, ...]) -> tuple[dict[str, BoolArray], Volume]:
    """The same masks and image with axes of the array ``(z, y, x)`` reversed, in the same places."""
    affine = np.array(volume.geometry.affine)
    for axis in axes:
        affine[:3, 3] += affine[:3, 2 - axis] * (volume.geometry.shape[axis] - 1)
        affine[:3, 2 - axis] *= -1
    voxels = np.ascontiguousarray(np.flip(volume.voxels, [axis + 1 for axis in axes]))
    turned = Volume(voxels, Geometry(volume.geometry.shape, affine), volume.modality)
    return {name: np.ascontiguousarray(np.flip(mask, axes)) for name, mask in masks.items()}, turned


def doubts(masks: Mapping[str, BoolArray], volume: Volume) -> dict[str, list[str]]:
    """Kinds by name."""
    found = examine_structures(masks, volume.geometry, read_protocol("thorax"), volume.voxels[0])
    return {name: [one.kind for one in each] for name, each in found.items() if each}


def on_real_scans(folder: Path) -> dict[str, object]:
    """Doubts on the two chest CTs of the samples."""
    found: dict[str, object] = {}
    for scan in ("lung1", "lung2"):
        volume = read_volume(folder / f"{scan}_image.nrrd", "ct")
        model = load_plugins().build(AutomaticModelSpec, "ct-thresholds")
        masks = dict(model.segment(volume, MADE, lambda *_: None).masks)
        swapped = {**masks, "Lung_L": masks["Lung_R"], "Lung_R": masks["Lung_L"]}
        ways = [axes for count in range(4) for axes in itertools.combinations(range(3), count)]
        for name, each in (("as it is", masks), ("lungs swapped", swapped), ("one alone", {"Lung_L": masks["Lung_R"]})):
            kinds = [doubts(*stored(each, volume, axes)) for axes in ways]
            require(all(one == kinds[0] for one in kinds), f"{scan}, {name}: doubts depend on how it is stored")
            found[f"{scan}, {name}"] = {key: ", ".join(value) for key, value in kinds[0].items()} or "none"
        found[f"{scan}, stored in"] = f"{len(ways)} ways, the doubts are the same"
    return found


def cost() -> dict[str, object]:
    """Time and memory of 32 structures on the large grid."""
    protocol = read_protocol("head-neck")
    names = [one.name for one in protocol.structures][:32]
    geometry = Geometry.from_parts(LARGE, (3.0, 1.0, 1.0), origin=(-256.0, -256.0, 0.0))
    before, began = time.process_time(), time.perf_counter()
    measured = measure_structures(Blocks(names, 0), geometry, protocol)
    judge_structures(measured, geometry, protocol, np.zeros(LARGE, dtype=np.int16))
    return {
        "structures": len(measured),
        "voxels": "512 x 512 x 200",
        "processor seconds": round(time.process_time() - before, 2),
        "seconds": round(time.perf_counter() - began, 2),
    }


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=Path, default=cache_directory() / "samples")
    options = parser.parse_args()
    costs = cost() | {"peak memory MB": round(peak_memory_mb())}
    found = {"cost with masks made on the way": costs, **on_real_scans(options.samples)}
    print(record("structure_plausibility", "python benchmarks/peers/structure_plausibility.py", found))


if __name__ == "__main__":
    main()
