"""Dice, IoU, NSD and HD95 of one pair of masks in a CT of 200 x 512 x 512 voxels, beside MONAI's four.

Two pairs: large objects that fill most of the scan, and a tumour of a few centimetres, since cost should follow the
object. Both libraries see the same masks in memory, MONAI as one-hot tensors, which is what it takes. The values of NSD
and HD95 differ: MONAI's boundary is the outermost voxels' centres, ours that of DeepMind's surface-distance.

    python benchmarks/peers/metrics.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from monai.metrics import (
    compute_dice,
    compute_hausdorff_distance,
    compute_iou,
    compute_surface_dice,
)

from oncoseg_benchmarks.record import record, spread
from oncoseg_core import MetricSpec, load_plugins

SHAPE = (200, 512, 512)
SPACING = (3.0, 0.75, 0.75)
TOLERANCE_MM = 2.0
OBJECTS = {"large": (90.0, 230.0, 230.0), "tumour": (8.0, 30.0, 30.0)}
"""Half axes in voxels, (z, y, x)."""

Mask = npt.NDArray[np.bool_]


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dry", action="store_true", help="record nothing")
    options = parser.parse_args()
    registry = load_plugins()
    settings = {"nsd": {"tolerance_mm": TOLERANCE_MM}}
    metrics = {name: registry.build(MetricSpec, name, settings.get(name)) for name in ("dice", "iou", "nsd", "hd95")}

    def ours(prediction: Mask, reference: Mask) -> dict[str, float | None]:
        return {name: metric.compute(prediction, reference, SPACING) for name, metric in metrics.items()}

    found = {}
    for name, axes in OBJECTS.items():
        seconds: dict[str, list[float]] = {"oncoseg": [], "monai": []}
        for repeat in range(options.repeats):
            # Another pair each time: the distances of the last one are kept, wherever in the scan it lies.
            smaller = tuple(half - repeat / 2 for half in axes)
            pair = ellipsoid(smaller, (3.0, 5.0, -4.0)), ellipsoid(smaller, (0.0, 0.0, 0.0))
            tensors = one_hot(pair[0]), one_hot(pair[1])
            took, values = timed(lambda pair=pair: ours(*pair))
            seconds["oncoseg"].append(took)
            took, theirs = timed(lambda tensors=tensors: monai(*tensors))
            seconds["monai"].append(took)
        ratios = [slow / fast for fast, slow in zip(seconds["oncoseg"], seconds["monai"], strict=True)]
        found[name] = {
            "half_axes_voxels": axes,
            "oncoseg_seconds": spread(seconds["oncoseg"]),
            "monai_seconds": spread(seconds["monai"]),
            "times_faster": spread(ratios),
            "oncoseg_values": values,
            "monai_values": theirs,
        }
        print(name, found[name])
    if not options.dry:
        record(
            "metrics",
            "python benchmarks/peers/metrics.py",
            {"shape": SHAPE, "spacing_mm": SPACING, "tolerance_mm": TOLERANCE_MM, **found},
        )


def ellipsoid(axes: tuple[float, float, float], shift: tuple[float, float, float]) -> Mask:
    """In the middle of the scan, moved by so many voxels."""
    grids = np.ogrid[tuple(slice(0, size) for size in SHAPE)]
    total = sum(
        ((grid - size / 2 - moved) / half) ** 2
        for grid, size, moved, half in zip(grids, SHAPE, shift, axes, strict=True)
    )
    return np.asarray(total <= 1)


def one_hot(mask: Mask) -> torch.Tensor:
    """``(1, 2, z, y, x)``: background and object."""
    return torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32))


def monai(prediction: torch.Tensor, reference: torch.Tensor) -> dict[str, float]:
    """The four scores of the object, without background."""
    return {
        "dice": float(compute_dice(prediction, reference, include_background=False)),
        "iou": float(compute_iou(prediction, reference, include_background=False)),
        "nsd": float(compute_surface_dice(prediction, reference, [TOLERANCE_MM], spacing=SPACING)),
        "hd95": float(compute_hausdorff_distance(prediction, reference, percentile=95, spacing=SPACING)),
    }


def timed(work: Callable[[], dict[str, float]]) -> tuple[float, dict[str, float]]:
    """Seconds and result."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


if __name__ == "__main__":
    main()
