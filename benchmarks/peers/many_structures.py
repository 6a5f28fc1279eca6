"""Memory and time of ``oncoseg export`` for many structures: a label image of 60 on a series of 400 slices.

Generated: a CT series of 400 slices of 512 x 512 pixels and a label image of 60 structures, some with holes and some of
speckle, which together reach across the whole series. In processes of their own, by turns with another checkout where
one is given (``--before``): the label image to RTSTRUCT, and with ``--more`` to SEG and that RTSTRUCT to SEG. Memory is
the most that the process held, its image and libraries included; what reading the image alone takes is measured too.

    python benchmarks/peers/many_structures.py --before CHECKOUT
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oncoseg_benchmarks.record import record

SHAPE = (400, 512, 512)
STRUCTURES = 60
LIMIT_MB = 2500
"""What the export to RTSTRUCT may hold at most."""

CHECKOUT = Path(__file__).parents[2]
EXPORTS = {
    "image alone": (),
    "label image to RTSTRUCT": ("labels.nii.gz", "rtstruct=structures.dcm"),
    "label image to SEG": ("labels.nii.gz", "seg=segments.dcm"),
    "RTSTRUCT to SEG": ("structures.dcm", "seg=from_structures.dcm"),
}


def main() -> None:
    """Measure this checkout, and another by turns, and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="an older checkout to compare with")
    parser.add_argument("--dry", action="store_true", help="small, and recorded nowhere: does it run?")
    parser.add_argument("--work", type=Path, help="where files are made (default: a temporary folder)")
    parser.add_argument("--more", action="store_true", help="the exports to SEG too")
    arguments = parser.parse_args()
    shape, structures = ((12, 64, 64), 7) if arguments.dry else (SHAPE, STRUCTURES)
    checkouts = ({} if arguments.before is None else {"before": arguments.before.resolve()}) | {"after": CHECKOUT}
    found: dict[str, Any] = {"shape": shape, "structures": structures, "limit_mb": LIMIT_MB}
    with tempfile.TemporaryDirectory(dir=arguments.work) as name:
        folder = Path(name)
        write_inputs(folder, shape, structures)
        for export in EXPORTS if arguments.more or arguments.dry else list(EXPORTS)[:2]:
            for which, checkout in checkouts.items():
                found.setdefault(which, {})[export] = in_a_fresh_process(checkout, folder, export)
                print(which, export, found[which][export], file=sys.stderr, flush=True)
    found["within_limit"] = found["after"]["label image to RTSTRUCT"]["peak_mb"] <= LIMIT_MB
    if arguments.dry:
        print(json.dumps(found, indent=2))
    else:
        option = "" if arguments.before is None else " --before CHECKOUT"
        print(record("many_structures", f"python benchmarks/peers/{Path(__file__).name}{option}", found).read_text())


def in_a_fresh_process(checkout: Path, folder: Path, export: str) -> dict[str, Any]:
    """Run :func:`measure` with the packages of a checkout."""
    sources = [checkout, *sorted(checkout.glob("plugins/*/src")), checkout / "benchmarks/src", Path(__file__).parent]
    code = (
        "import json, pathlib, many_structures; "
        f"print(json.dumps(many_structures.measure(pathlib.Path({str(folder)!r}), {export!r})))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sources))}
    # From elsewhere: packages of the current folder would be found first.
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(folder: Path, export: str) -> dict[str, float]:
    """One export: seconds by the clock and of the processor, and the most that the process held in MB."""
    from oncoseg_core import load_plugins
    from oncoseg_core.imaging import read_image
    from oncoseg_segment.files.export_masks import ExportRequest, export_masks

    registry = load_plugins()
    started, processor = time.perf_counter(), time.process_time()
    if EXPORTS[export]:
        masks, *outputs = EXPORTS[export]
        named = [output.replace("=", f"={folder}/") for output in outputs]
        export_masks(registry, ExportRequest(folder / masks, folder / "series", named, overwrite=True))
    else:
        read_image(registry, folder / "series")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "processor_seconds": round(time.process_time() - processor, 2),
        "peak_mb": round(int(line.split()[1]) / 1024),
    }


def write_inputs(folder: Path, shape: tuple[int, int, int], structures: int) -> None:
    """A series of nothing with 0.8 mm pixels, 2 mm apart, and a label image on its grid."""
    import SimpleITK as sitk

    from oncoseg_dicom import write_series

    origins = [(-200.0, -180.0, -300.0 + 2 * index) for index in range(shape[0])]
    write_series(folder / "series", np.full(shape, -1000, dtype=np.int16), origins, pixel_spacing=(0.8, 0.8))
    image = sitk.GetImageFromArray(labels(shape, structures))
    image.SetSpacing((0.8, 0.8, 2.0))
    image.SetOrigin(origins[0])
    sitk.WriteImage(image, str(folder / "labels.nii.gz"), useCompression=True)


def labels(shape: tuple[int, int, int], structures: int) -> npt.NDArray[np.uint8]:
    """Ellipsoids of many sizes, of which some are hollow and some have one voxel in fifty missing."""
    rng = np.random.default_rng(0)
    found = np.zeros(shape, dtype=np.uint8)
    size = np.array(shape)
    for number in range(1, structures + 1):
        radii = np.maximum(rng.uniform(0.03, 0.2) * size * (2, 1, 1), 3)
        centre = rng.uniform(0.1, 0.9, 3) * size
        low = np.maximum(np.floor(centre - radii), 0).astype(int)
        high = np.minimum(np.ceil(centre + radii) + 1, size).astype(int)
        part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        z, y, x = (
            (np.arange(a, b, dtype=np.float32) - c) / r for a, b, c, r in zip(low, high, centre, radii, strict=True)
        )
        distance = (z**2)[:, None, None] + (y**2)[:, None] + (x**2)
        inside = distance < 1
        if number % 3 == 1:
            inside &= distance > 0.4
        if number % 3 == 2:
            inside &= rng.random(inside.shape, dtype=np.float32) > 0.02
        found[part][inside] = number
    return found


if __name__ == "__main__":
    main()
