"""What a node's report costs: 32 structures on 512 x 512 x 200, pictures, page and PDF.

The chest CT of the samples (real pixels, every slice repeated until there are 200) and 32 made structures: ellipsoids
of 3 to 180 mm at derived places, each made when it is taken, as the node reads its masks. Seconds of wall and processor
time, the most memory that the process held (image included), and the sizes of the files.

    python benchmarks/peers/node_report.py
    python benchmarks/peers/node_report.py --most 3    # try it small; nothing is recorded
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from oncoseg_benchmarks.record import record
from oncoseg_core import BoolArray, Geometry, Volume, load_plugins
from oncoseg_core.plugins import peak_memory_mb
from oncoseg_core.system import derived_generator
from oncoseg_dicom import demonstration_series, find_series, read_voxels
from oncoseg_node.config.settings import NodeSettings
from oncoseg_node.records.job import Job, State
from oncoseg_node.records.results import CheckedStructure
from oncoseg_node.reports import write_report

STRUCTURES, SLICES = 32, 200


class Ellipsoids(Mapping[str, BoolArray]):
    """Masks bool ``(z, y, x)`` by name, none kept."""

    def __init__(self, count: int, geometry: Geometry) -> None:
        self._geometry = geometry
        self._names = [f"Structure_{number}" for number in range(1, count + 1)]

    def __getitem__(self, name: str) -> BoolArray:
        generator = derived_generator(0, name)
        shape, spacing = np.array(self._geometry.shape), np.array(self._geometry.spacing)
        centre = shape * generator.uniform(0.3, 0.7, 3)
        radius = np.exp(generator.uniform(np.log(1.5), np.log(90.0))) * generator.uniform(0.7, 1.0, 3) / spacing
        first = np.maximum(np.floor(centre - radius), 0).astype(int)
        last = np.minimum(np.ceil(centre + radius) + 1, shape).astype(int)
        box = tuple(slice(low, high) for low, high in zip(first, last, strict=True))
        at = [((np.arange(one.start, one.stop) - c) / r) ** 2 for one, c, r in zip(box, centre, radius, strict=True)]
        mask = np.zeros(self._geometry.shape, dtype=bool)
        mask[box] = at[0][:, None, None] + at[1][:, None] + at[2] <= 1
        return mask

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, help="structures, to try the script; nothing is recorded")
    parser.add_argument("--load", default="none besides it", help="what else the machine did, for the record")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = measured(Path(scratch), arguments.most or STRUCTURES) | {"load": arguments.load}
    if arguments.most:
        sys.stdout.write(f"{found}\n")
        return
    command = f"python benchmarks/peers/{Path(__file__).name} {' '.join(sys.argv[1:])}".rstrip()
    sys.stdout.write(record("node_report", command, found).read_text(encoding="utf-8"))


def measured(scratch: Path, count: int) -> dict[str, Any]:
    """Write the report of a job with so many structures, with pictures, and once more without."""
    series = read_voxels(find_series(demonstration_series(load_plugins(), lambda *_: None)))
    voxels = np.repeat(series.voxels, -(-SLICES // series.voxels.shape[1]), axis=1)[:, :SLICES]
    geometry = Geometry.from_parts(voxels.shape[1:], (1.5, *series.geometry.spacing[1:]))
    volume = Volume(np.ascontiguousarray(voxels), geometry, "ct", headers=series.headers)
    masks = Ellipsoids(count, geometry)
    checked = [
        CheckedStructure(
            name=name, decision="written", model="made", source=name, confidence=0.5, confidences={"made": 0.5},
            volume_ml=1.0, slices=(0, SLICES - 1),
        )
        for name in masks
    ]  # fmt: skip
    rule = {"name": "r", "when": {"Modality": {"equals": "CT"}}, "protocol": "thorax", "models": ["m"]}
    job = Job(
        id=1, study_uid="1.2", series_uid="1.3", folder=scratch / "job", state=State.CHECKED, rule="r", created=0.0,
        changed=0.0,
    )  # fmt: skip
    runs: dict[str, Any] = {}
    for what, pdf, drawn in (
        ("pictures and page", False, True),
        ("page anew", False, False),
        ("page anew and PDF", True, False),
    ):
        settings = NodeSettings.model_validate(
            {
                "data": scratch / "data",
                "receive": {},
                "rules": [rule],
                "models": {"m": {"model": "made"}},
                "report": {"pdf": pdf},
            }
        )
        wall, processor = time.monotonic(), time.process_time()
        pictures: dict[str, Any] = {"masks": masks, "volume": volume} if drawn else {}
        files = write_report(job, settings, None, None, checked, [], [], [], **pictures)
        runs[what] = {
            "wall_s": round(time.monotonic() - wall, 2),
            "processor_s": round(time.process_time() - processor, 2),
        }
    return {
        "structures": count,
        "grid": list(voxels.shape[1:]),
        "runs": runs,
        "peak_memory_mb": peak_memory_mb(),
        "image_mb": round(volume.voxels.nbytes / 2**20),
        "bytes": {path.name: path.stat().st_size for path in files},
    }


if __name__ == "__main__":
    main()
