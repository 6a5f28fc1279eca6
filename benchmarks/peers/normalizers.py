"""Normalising a volume of 200 x 512 x 512: oncoseg-modalities against MONAI's transforms, in turn, in one run.

The volume is the sample scan lung2 (61 slices of CT), repeated to 200 slices; as float32 with noise between whole
numbers. OncoSeg's time is fit and apply together. Peak memory is what numpy allocates beyond the input.

    python benchmarks/peers/normalizers.py
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.transforms import ScaleIntensityRange, ScaleIntensityRangePercentiles

from oncoseg_benchmarks.record import record, spread
from oncoseg_core import DatasetSpec, Normalizer, NormalizerSpec, load_plugins

SLICES = 200
ALL_VOXELS = {"background_share": 1, "noise_share": 1}


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    registry = load_plugins()
    whole = _volume(registry)
    fractions = whole + np.random.default_rng(0).random(whole.shape, dtype=np.float32)
    ct = registry.build(NormalizerSpec, "ct")
    plain = registry.build(NormalizerSpec, "mri", ALL_VOXELS)
    window = ScaleIntensityRange(-1000, 1000, 0, 1, clip=True)
    percentiles = ScaleIntensityRangePercentiles(1, 99, 0, 1, clip=True)
    works: list[tuple[str, Normalizer, Callable[[Any], Any], np.ndarray, float]] = [
        ("CT window, int16", ct, window, whole, 10),
        ("CT window, float32", ct, window, fractions, 1),
        ("1-99 percentile, int16", plain, percentiles, whole, 5),
        ("1-99 percentile, float32", plain, percentiles, fractions, 3),
        ("1-99 percentile without air, int16", registry.build(NormalizerSpec, "mri"), percentiles, whole, 1),
        ("1-99 percentile without air, float32", registry.build(NormalizerSpec, "mri"), percentiles, fractions, 1),
    ]
    found = {name: _compare(normalizer, peer, voxels, repeats) for name, normalizer, peer, voxels, _ in works}
    for name, _, _, _, wanted in works:
        found[name]["at_least"] = wanted
    for name, voxels in (("int16", whole), ("float32", fractions)):
        stats = plain.fit(voxels)
        exact = np.percentile(voxels.astype(np.float64), (1, 99))
        found[f"1-99 percentile, {name}"]["equal_to_numpy"] = (*stats["low"], *stats["high"]) == tuple(exact)
    found["conditions"] = {
        "shape": list(whole.shape),
        "monai": monai.__version__,
        "torch_threads": torch.get_num_threads(),
    }
    path = record("normalizers", f"python benchmarks/peers/{Path(__file__).name} --repeats {repeats}", found)
    print(path.read_text())


def _volume(registry: Any) -> np.ndarray:
    adapter = registry.build(DatasetSpec, "samples")
    (case,) = [case for case in adapter.discover(adapter.fetch(lambda *_: None)) if case.case_id == "lung2"]
    voxels = adapter.load(case)[0].voxels
    return np.ascontiguousarray(np.resize(voxels[0], (SLICES, *voxels.shape[2:]))[np.newaxis])


def _compare(normalizer: Normalizer, peer: Callable[[Any], Any], voxels: np.ndarray, repeats: int) -> dict[str, Any]:
    own, other = [], []
    for repeat in range(-1, repeats):  # the first of each warms up
        for work, times in (
            (lambda: normalizer.apply(voxels, normalizer.fit(voxels)), own),
            (lambda: peer(voxels), other),
        ):
            started = time.perf_counter()
            work()
            if repeat >= 0:
                times.append(time.perf_counter() - started)
    return {
        "oncoseg_seconds": spread(own),
        "monai_seconds": spread(other),
        "times_faster_by_pair": spread([theirs / ours for ours, theirs in zip(own, other, strict=True)]),
        "oncoseg_peak_over_limit": _peak(normalizer, voxels),
    }


def _peak(normalizer: Normalizer, voxels: np.ndarray) -> float:
    """Peak memory over the bound: the output and a quarter of the input."""
    tracemalloc.start()
    unit = normalizer.apply(voxels, normalizer.fit(voxels))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / (unit.nbytes + voxels.nbytes / 4)


if __name__ == "__main__":
    main()
