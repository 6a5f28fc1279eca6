"""Letterbox or stretch: which way into the square is better, on the sample scans, with a box and with a text.

Meta and Hugging Face stretch every image to SAM3's square, in training too; OncoSeg pads it, so that a lesion keeps its
shape. On a square slice both are the same, and four of the five sample scans have square slices. So each scan is also
scored on a part of its slices: rows are cut off above and below the lesion, or columns beside it, until the height is
a given multiple of the width. The voxels stay as they are. Per scan and shape: Dice over all labelled slices together,
with both fits, and the difference (stretch minus letterbox).

    python benchmarks/peers/sam3_fit.py --weights sam3.pt --device cuda
    python benchmarks/peers/sam3_fit.py --model litemedsam
    python benchmarks/peers/sam3_fit.py --model sam3-tiny --cases breast1 --shapes 1      # does it run at all?
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch

from oncoseg_benchmarks.record import RESULTS, record
from oncoseg_benchmarks.statistics.statistics import paired_test
from oncoseg_core import (
    BoolArray,
    DatasetSpec,
    Fit,
    ModelSpec,
    Prompt,
    Registry,
    Text,
    Volume,
    box_around,
    load_plugins,
)
from oncoseg_core.data import labelled_slices
from oncoseg_core.inference import EmbeddingCache, Precision, Predictor
from oncoseg_core.path import PathSettings, Preprocessor, Window

CASES = ["brain1", "brain2", "breast1", "lung1", "lung2"]
MARGIN = 2.0
"""Of the box around the reference, in pixels of the slice."""
FITS: tuple[Fit, ...] = get_args(Fit)
SHAPES = [0.5, 0.75, 1.5, 2.0]
"""Height over width of what is scored of a slice."""
AS_STORED = "as stored"


class Scan(NamedTuple):
    """A volume, or a part of its slices, with the reference of one target."""

    case: str
    shape: str
    target: str
    volume: Volume
    reference: BoolArray


def main() -> None:
    """Score, print and record."""
    arguments, parser = _arguments()
    registry = load_plugins()
    spec = registry.get(ModelSpec, arguments.model)
    if arguments.model == "sam3" and arguments.weights is None:
        parser.error("which fit is better cannot be told from random weights: give SAM3's by --weights FILE")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="SAM3 is built with random weights")
        settings = {} if arguments.weights is None else {"weights": str(arguments.weights)}
        model: Any = registry.build(ModelSpec, arguments.model, settings)
    device = torch.device(arguments.device)
    rows = []
    for scan in _scans(registry, arguments.cases, arguments.shapes):
        rows += [_row(registry, model.to(device), scan, kind, arguments) for kind in _kinds(spec)]
        sys.stdout.write("".join(_line(row) for row in rows[-len(_kinds(spec)) :]))
        sys.stdout.flush()
    meaningless = str(model.weights_sha256).startswith("random:")
    found = {
        "model": arguments.model,
        "weights": model.weights_sha256,
        "numbers_mean_nothing": meaningless,
        "device": arguments.device,
        "precision": arguments.precision,
        "box_margin_pixels": MARGIN,
        "verdicts": {kind: verdict([row for row in rows if row["prompt"] == kind]) for kind in _kinds(spec)},
        "rows": rows,
    }
    for kind, one in found["verdicts"].items():
        sys.stdout.write(f"{kind}: {one['better']} ({one['why']})\n")
    if meaningless:
        sys.stdout.write(f"THE WEIGHTS ARE RANDOM ({model.weights_sha256}): THESE NUMBERS MEAN NOTHING\n")
    command = " ".join(["python benchmarks/peers/sam3_fit.py", *_options(arguments)])
    sys.stdout.write(f"{record(f'sam3_fit_{arguments.model}', command, found, arguments.output)}\n")


def _arguments() -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("sam3", "sam3-tiny", "litemedsam"), default="sam3")
    parser.add_argument("--weights", type=Path, help="the model's, a local file")
    parser.add_argument("--cases", nargs="+", default=CASES)
    parser.add_argument("--shapes", nargs="*", type=float, default=SHAPES, help="height over width, besides as stored")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cpu")
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the record")
    return parser.parse_args(), parser


def _options(arguments: argparse.Namespace) -> list[str]:
    """The options that anyone has to repeat; the file's name without its folder."""
    options = ["--model", arguments.model, "--device", arguments.device, "--precision", arguments.precision]
    options += [] if arguments.weights is None else ["--weights", arguments.weights.name]
    options += ["--cases", *arguments.cases] if arguments.cases != CASES else []
    return options + (["--shapes", *map(str, arguments.shapes)] if arguments.shapes != SHAPES else [])


def _kinds(spec: ModelSpec) -> list[str]:
    return [kind for kind in ("box", "text") if kind in spec.prompt_kinds]


def _scans(registry: Registry, wanted: list[str], shapes: list[float]) -> Iterator[Scan]:
    """Each case as it is stored, and cut to each shape that its lesion and its slices leave room for."""
    samples: Any = registry.build(DatasetSpec, "samples")
    cases = {case.case_id: case for case in samples.discover(samples.fetch(lambda *_: None))}
    for name in wanted:
        volume, masks = samples.load(cases[name])
        ((target, reference),) = masks.items()
        yield Scan(name, AS_STORED, target, volume, reference)
        for shape in shapes:
            window = window_of(reference, shape)
            if window is not None:
                yield Scan(
                    name, f"{shape:.2f}", target, _cut(volume, window), np.ascontiguousarray(window.cut(reference))
                )


def window_of(reference: BoolArray, shape: float) -> Window | None:
    """The largest part of every slice of that height over width which holds the lesion, about its middle.

    None where that is all of the slice, or the lesion does not fit with its box.
    """
    height, width = reference.shape[1:]
    rows, columns = (min(height, round(width * shape)), min(width, round(height / shape)))
    seen = np.asarray(reference.any(axis=0), dtype=bool)
    lesion = box_around(seen, MARGIN).clipped(height, width)
    if (rows, columns) == (height, width) or lesion.y1 - lesion.y0 > rows or lesion.x1 - lesion.x0 > columns:
        return None
    y0 = round((lesion.y0 + lesion.y1 - rows) / 2)
    x0 = round((lesion.x0 + lesion.x1 - columns) / 2)
    return Window(min(max(y0, 0), height - rows), min(max(x0, 0), width - columns), rows, columns)


def _cut(volume: Volume, window: Window) -> Volume:
    """The window of every slice; where it lies in the patient does not matter here."""
    geometry = replace(volume.geometry, shape=(volume.geometry.shape[0], window.height, window.width))
    return replace(volume, voxels=np.ascontiguousarray(window.cut(volume.voxels)), geometry=geometry)


def _row(registry: Registry, model: Any, scan: Scan, kind: str, arguments: argparse.Namespace) -> dict[str, Any]:
    # A square slice gives the same pixels with both fits: it is scored once.
    rows, columns = scan.reference.shape[1:]
    fits = FITS if rows != columns else FITS[:1]
    dice = {fit: _dice(registry, model, scan, kind, fit, arguments) for fit in fits}
    dice = {fit: dice.get(fit, dice[FITS[0]]) for fit in FITS}
    return {
        "case": scan.case,
        "shape": scan.shape,
        "rows": rows,
        "columns": columns,
        "slices": len(labelled_slices(scan.reference)),
        "prompt": kind,
        "dice": {fit: round(value, 4) for fit, value in dice.items()},
        "stretch_minus_letterbox": round(dice["stretch"] - dice["letterbox"], 4),
    }


def _dice(registry: Registry, model: Any, scan: Scan, kind: str, fit: Fit, arguments: argparse.Namespace) -> float:
    """Over all labelled slices together; the whole slice is shown, without zoom."""
    modality = scan.volume.modality
    path = Preprocessor(registry, modality, model.spec, PathSettings(fit=fit))
    predictor = Predictor(model, {modality: path}, EmbeddingCache(), arguments.device, arguments.precision)
    fitted = predictor.fit(scan.volume)
    slices = labelled_slices(scan.reference)
    masks = []
    for index in slices:
        around = box_around(scan.reference[index], MARGIN)
        prompt: Prompt = (around,) if kind == "box" else (Text(scan.target),)
        masks.append(predictor.predict_slice(fitted, index, [prompt])[0].mask)
    mask, reference = np.stack(masks), scan.reference[slices]
    return float(2 * np.count_nonzero(mask & reference) / (np.count_nonzero(mask) + np.count_nonzero(reference)))


def verdict(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Which fit is better by the mean over scans of each scan's mean difference; square slices do not count."""
    by_case: dict[str, list[float]] = {}
    for row in rows:
        if row["rows"] != row["columns"]:
            by_case.setdefault(row["case"], []).append(row["stretch_minus_letterbox"])
    differences = {case: float(np.mean(values)) for case, values in by_case.items()}
    values = list(differences.values())
    if not any(values):
        return {"better": "neither", "why": "no slice tells the two apart", "by_case": differences}
    mean = float(np.mean(values))
    better: Fit = "stretch" if mean > 0 else "letterbox"
    agree = sum((value > 0) == (mean > 0) for value in values if value)
    p = paired_test(values, [0.0] * len(values), list(differences), method="permutation").p
    why = f"mean difference of Dice {mean:+.4f}; {agree} of {len(values)} scans agree, p = {p:.3g}"
    return {"better": better, "why": why, "mean_difference": round(mean, 4), "p": p, "by_case": differences}


def _line(row: dict[str, Any]) -> str:
    scores = ", ".join(f"{fit} {value:.4f}" for fit, value in row["dice"].items())
    return (
        f"{row['case']:8} {row['rows']:4} x {row['columns']:<4} {row['prompt']:5} {scores}, "
        f"difference {row['stretch_minus_letterbox']:+.4f}\n"
    )


if __name__ == "__main__":
    main()
