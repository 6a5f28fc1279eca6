"""LiteMedSAM's engines: how long each takes, and whether its masks are those of torch, on labelled sample slices.

One process, engine after engine on each slice, so that whatever else the machine does meets all alike: read ratios. On
each slice one box (around the label) and one click (the pixel deepest in it, answered by the search of
``oncoseg_clicks``). The encoder is run as ``oncoseg segment`` runs it; the decoder, which torch computes there, is
exported too and measured on its own, with the boxes of the click's search as one batch. Start times are those of new
processes with an empty and with a filled cache folder.

    OMP_NUM_THREADS=2 python benchmarks/peers/engines.py --load "what else ran"
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oncoseg_benchmarks.record import record
from oncoseg_benchmarks.scoring.clicks import dice
from oncoseg_clicks import with_clicks
from oncoseg_clicks.candidates import Clicks, candidate_boxes
from oncoseg_clicks.choice import choose
from oncoseg_core import (
    BoolArray,
    DatasetSpec,
    ModelSpec,
    Point,
    PromptGeneratorSpec,
    Registry,
    box_around,
    load_plugins,
)
from oncoseg_core.inference import FittedVolume, Precision, Predictor
from oncoseg_core.path import Preprocessor, logits_to_slice
from oncoseg_litemedsam.engines import engines, runtimes
from oncoseg_prompts.api import Objects

SOURCES = (("samples", {"sources": ["pyradiomics"]}, 1), ("samples", {"sources": ["tptbox"]}, 6))
"""Tumours on each labelled slice, vertebrae on every sixth."""

ENGINES: tuple[tuple[str, Precision], ...] = (
    ("torch", "fp32"),
    ("openvino", "fp32"),
    ("onnxruntime", "fp32"),
    ("openvino", "bf16"),
)
DECODERS: tuple[tuple[str, runtimes.Precision], ...] = (
    ("openvino", "fp32"),
    ("onnxruntime", "fp32"),
    ("openvino", "bf16"),
)
MODALITIES = ("ct", "mri")
MOST = 1000

START = """
import sys, time
began = time.perf_counter()
import torch
from oncoseg_core import ModelSpec, load_plugins
model = load_plugins().build(ModelSpec, "litemedsam", {"engine": sys.argv[1]})
pixels = torch.zeros(1, 3, 256, 256)
built = time.perf_counter()
with torch.inference_mode():
    model.encode_image(pixels)
    first = time.perf_counter()
    model.encode_image(pixels)
print(first - built - (time.perf_counter() - first))
"""


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", default="none besides it", help="what else the machine did, for the record")
    parser.add_argument("--most", type=int, default=MOST, help="objects, to try the script; records nothing")
    options = parser.parse_args()
    registry = load_plugins()
    found: dict[str, Any] = {"load": options.load, "threads": torch.get_num_threads()}
    if options.most == MOST:
        with tempfile.TemporaryDirectory() as folder:
            found["seconds to start"] = starts(Path(folder))
    rows = measured(registry, options.most)
    found |= {"load average": [round(each, 1) for each in os.getloadavg()], **summary(rows)}
    sys.stdout.write(f"{found}\n")
    if options.most == MOST:
        threads = torch.get_num_threads()
        command = f"OMP_NUM_THREADS={threads} python benchmarks/peers/engines.py --load '{options.load}'"
        sys.stdout.write(f"{record('engines', command, found)}\n")


def starts(folder: Path) -> dict[str, dict[str, float]]:
    """Seconds from the built model to the first embedding, beyond what a further one takes: new file, kept file."""
    found = {}
    for engine in ("openvino", "onnxruntime"):
        environment = os.environ | {"ONCOSEG_CACHE": str(folder / engine)}
        cold, warm = (
            float(
                subprocess.run(
                    [sys.executable, "-c", START, engine], env=environment, check=True, capture_output=True, text=True
                ).stdout
            )
            for _ in range(2)
        )
        found[engine] = {"export, load, comparison with torch": cold, "load": warm}
    return found


def measured(registry: Registry, most: int) -> list[dict[str, Any]]:
    """A row per object: seconds and Dice by engine."""
    spec = registry.get(ModelSpec, "litemedsam")
    models = {engine: with_clicks(registry.build(ModelSpec, "litemedsam", {"engine": engine})) for engine, _ in ENGINES}
    predictors = {
        (engine, precision): Predictor(
            models[engine], {name: Preprocessor(registry, name, spec) for name in MODALITIES}, precision=precision
        )
        for engine, precision in ENGINES
    }
    content = engines.onnx_part(engines.DECODER, models["torch"].model).content
    decoders = {each: runtimes.start(each[0], content, each[1]) for each in DECODERS}
    rows: list[dict[str, Any]] = []
    first = predictors["torch", "fp32"]
    for fitted, name, index, mask, point in objects(registry, first):
        if not rows:
            one_object(predictors, decoders, fitted, index, mask, point)  # first calls allocate, load and compare
        rows.append({**name, "slice": index, **one_object(predictors, decoders, fitted, index, mask, point)})
        sys.stderr.write(f"{len(rows)} {rows[-1]['case']} {index}\n")
        if len(rows) == most:
            break
    return rows


def objects(
    registry: Registry, predictor: Predictor
) -> Iterator[tuple[FittedVolume, dict[str, str], int, BoolArray, Point]]:
    """The largest object of each labelled slice, with the click on it."""
    generator = registry.build(PromptGeneratorSpec, "point", {})
    for dataset, settings, every in SOURCES:
        adapter = registry.build(DatasetSpec, dataset, settings)
        for case in adapter.discover(Path(adapter.fetch(lambda *_: None))):
            volume, masks = adapter.load(case)
            fitted = predictor.fit(volume)
            for target in case.targets:
                mask = masks[target.name]
                parts = Objects.of(mask, each_lesion=target.kind == "lesion")
                for index in np.flatnonzero(mask.any(axis=(1, 2)))[::every].tolist():
                    each = max(parts.on_slice(index, mask[index]), key=lambda one: one.sum())
                    (point,) = generator.generate(each, np.random.default_rng(0), target)
                    yield fitted, {"case": case.case_id, "target": target.name}, index, each, point


def one_object(
    predictors: dict[Any, Predictor],
    decoders: dict[Any, runtimes.Runtime],
    fitted: FittedVolume,
    index: int,
    mask: BoolArray,
    point: Point,
) -> dict[str, Any]:
    """Seconds of encoding, of a box and of a click; masks on the stored slice, to be compared."""
    row: dict[str, Any] = {"reference": mask}
    (box, click) = (fitted.to_model((hint,)) for hint in (box_around(mask), point))
    embedded: Any = None
    for key, predictor in predictors.items():
        with predictor.inference():
            embedding, encode = timed(lambda one=predictor: one.embed(fitted, index))
            boxed, box_seconds = timed(lambda one=predictor, at=embedding: one.model.decode(at, [box]))
            clicked, click_seconds = timed(lambda one=predictor, at=embedding: one.model.decode(at, [click]))
        embedded = embedding if embedded is None else embedded
        row[" ".join(key)] = {
            "encode": encode,
            "box": box_seconds,
            "click": click_seconds,
            "masks": [logits_to_slice(each.logits[0].float(), fitted.grid) > 0 for each in (boxed, clicked)],
        }
    clicks = Clicks(((click[0].x, click[0].y),))
    boxes, _ = candidate_boxes(clicks, 256)
    corners = torch.tensor([each.as_tuple() for each in boxes]).float()
    torch_one = predictors["torch", "fp32"]
    with torch_one.inference():
        decoded, seconds = timed(lambda: torch_one.model.model.decode(embedded.embedding, [(each,) for each in boxes]))
        best = choose(decoded.logits, decoded.scores, embedded.grey[0], clicks)
        row["candidates torch fp32"] = {"boxes": len(boxes), "decode": seconds}
        for key, runtime in decoders.items():
            (logits, scores), seconds = timed(lambda run=runtime: run(embedded.embedding, corners))
            row["candidates " + " ".join(key)] = {
                "decode": seconds,
                "same choice": choose(logits, scores, embedded.grey[0], clicks) == best,
                "lowest Dice": min(
                    dice(np.asarray(a > 0), np.asarray(b > 0))
                    for a, b in zip(logits, decoded.logits, strict=True)
                    if bool((b > 0).any())
                ),
            }
    return row


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and the seconds it took."""
    started = time.perf_counter()
    found = work()
    return found, time.perf_counter() - started


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians and p95 by engine; ratios are of torch's time to the engine's on the same slice."""
    found: dict[str, Any] = {
        "objects": len(rows),
        "slices": len({(row["case"], row["slice"]) for row in rows}),
        "cases": sorted({row["case"] for row in rows}),
    }
    base = " ".join(ENGINES[0])
    for name in map(" ".join, ENGINES):
        dices = np.array([[dice(a, b) for a, b in zip(r[name]["masks"], r[base]["masks"], strict=True)] for r in rows])
        to_label = np.array([[dice(each, row["reference"]) for each in row[name]["masks"]] for row in rows])
        found[name] = {
            **{what: times([row[name][what] for row in rows]) for what in ("encode", "box", "click")},
            "torch's time by this one's, encode": times([row[base]["encode"] / row[name]["encode"] for row in rows]),
            "Dice with torch, box": lowest(dices[:, 0]),
            "Dice with torch, click": lowest(dices[:, 1]),
            "mean Dice with the label, box": float(to_label[:, 0].mean()),
            "mean Dice with the label, click": float(to_label[:, 1].mean()),
        }
    base = "candidates torch fp32"
    found["boxes of a click's search"] = {base: times([row[base]["decode"] for row in rows])}
    for name in ("candidates " + " ".join(each) for each in DECODERS):
        found["boxes of a click's search"][name] = {
            **times([row[name]["decode"] for row in rows]),
            "torch's time by this one's": times([row[base]["decode"] / row[name]["decode"] for row in rows]),
            "other choice than torch": sum(not row[name]["same choice"] for row in rows),
            "lowest Dice with torch": lowest(np.array([row[name]["lowest Dice"] for row in rows])),
        }
    return found


def times(values: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    return {"median": float(np.median(values)), "p95": float(np.percentile(values, 95))}


def lowest(values: Any) -> dict[str, float]:
    """Lowest and median."""
    return {"lowest": float(values.min()), "median": float(np.median(values))}


if __name__ == "__main__":
    main()
