"""One box for all lesions of a slice against a box for each, by LiteMedSAM as it comes, on generated livers.

The images are generated, for no package index serves a liver with many tumours: two bodies with a liver and sixteen
round tumours of 5 to 18 mm each, at the contrast, noise and blur of portal venous CT. They show what the way of
prompting does to a score, and nothing of how well the model segments real tumours.

    python benchmarks/peers/lesion_prompts.py
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import yaml
from scipy import ndimage

from oncoseg_benchmarks.record import record

CASES, TUMOURS, SHAPE, SPACING = 2, 16, (12, 256, 256), (4.0, 1.2, 1.2)
METRICS = ("dice", "lesion-recall", "lesion-precision", "lesion-f1", "pq", "any-overlap-f1")


def main() -> None:
    """Generate, score and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", default="none besides it", help="what else the machine did, for the record")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        cases = [write_case(root / "data", seed) for seed in range(CASES)]
        (root / "config.yaml").write_text(yaml.safe_dump(config(root)), encoding="utf-8")
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "oncoseg_benchmarks", str(root / "config.yaml")], check=True)
        seconds = time.perf_counter() - started
        with (root / "run" / "results.csv").open(encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if not row["model"].startswith("ceiling")]
    found = {
        "seconds": round(seconds),
        "load": options.load,
        "generated": cases,
        "mean": [
            {
                "prompt": prompt,
                "model": model,
                **_means([r for r in rows if (r["prompt"], r["model"]) == (prompt, model)]),
            }
            for prompt, model in sorted({(row["prompt"], row["model"]) for row in rows})
        ],
    }
    sys.stdout.write(f"{record('lesion_prompts', 'python benchmarks/peers/lesion_prompts.py', found)}\n")


def config(root: Path) -> dict[str, Any]:
    """Two kinds of prompt on the generated cases."""
    return {
        "name": "lesion-prompts",
        "output": str(root / "run"),
        "models": [{"name": "litemedsam"}],
        "datasets": [
            {
                "name": "generic",
                "root": str(root / "data"),
                "settings": {
                    "layout": "folders",
                    "modality": "ct",
                    "images": "{case}-image.nii.gz",
                    "labels": "{case}-label.nii.gz",
                    "targets": {"liver tumour": [1]},
                },
            }
        ],
        "prompts": [{"kind": "gt-box", "margin_px": 2, "per": per} for per in ("target", "lesion")],
        "metrics": {name: {} for name in METRICS},
        "normalizers": {"ct": {"window": [-60, 240]}},
        "references": {"ceilings": False},
        "pictures": 0,
    }


def write_case(folder: Path, seed: int) -> dict[str, Any]:
    """Write an image and its label; what was generated."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    body = ((y - 128) / 105) ** 2 + ((x - 128) / 122) ** 2 < 1
    liver = (((z - 6) / 8) ** 2 + ((y - 118) / 78) ** 2 + ((x - 100) / 70) ** 2 < 1) & body
    image = np.where(liver, 110.0, np.where(body, 35.0, -1000.0)) * np.ones(SHAPE)
    label = np.zeros(SHAPE, bool)
    inside = np.argwhere(ndimage.binary_erosion(liver, iterations=3))
    drawn = 0
    while drawn < TUMOURS:
        centre, radius_mm = inside[rng.integers(len(inside))], rng.uniform(5, 18)
        mm2 = sum(((axis - c) * s) ** 2 for axis, c, s in zip((z, y, x), centre, SPACING, strict=True))
        tumour = (mm2 < radius_mm**2) & liver
        if not (ndimage.binary_dilation(tumour, iterations=3) & label).any():
            image[tumour] = rng.normal(65, 8)
            label |= tumour
            drawn += 1
    image = ndimage.gaussian_filter(image, (0, 0.8, 0.8))
    image += ndimage.gaussian_filter(rng.normal(0, 24, SHAPE), (0, 0.6, 0.6))
    for name, values in (("image", image.astype(np.int16)), ("label", label.astype(np.uint8))):
        written = sitk.GetImageFromArray(values)
        written.SetSpacing(SPACING[::-1])
        sitk.WriteImage(written, str(folder / f"case{seed}-{name}.nii.gz"))
    lesions, number = ndimage.label(label, np.ones((3, 3, 3)))
    per_slice = [len(np.unique(plane)) - 1 for plane in lesions if plane.any()]
    return {
        "case": f"case{seed}",
        "tumours": number,
        "labelled slices": len(per_slice),
        "a slice": float(np.mean(per_slice)),
    }


def _means(rows: list[dict[str, str]]) -> dict[str, float | None]:
    """Of each score over the cases in which it is defined."""
    defined = {name: [float(row[name]) for row in rows if row[name]] for name in METRICS}
    return {name: round(float(np.mean(values)), 4) if values else None for name, values in defined.items()}


if __name__ == "__main__":
    main()
