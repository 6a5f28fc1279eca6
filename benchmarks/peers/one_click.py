"""One click on LiteMedSAM, which takes boxes only: the search of ``oncoseg_clicks`` on all labelled sample slices.

One click is the pixel deepest in the object's part of a slice, as the generator ``point`` makes it; corrective clicks
go to the middle of the largest error. Beside the search stand floors (a disc of one size, a region grown by brightness;
the size and the tolerance are those that are best on these very slices), the model's score as the only rule of choice,
and bounds (the best of the candidates, the box from the reference). The rule's weights are chosen anew without each
scan.

    OMP_NUM_THREADS=2 python benchmarks/peers/one_click.py
    OMP_NUM_THREADS=2 python benchmarks/peers/one_click.py corrected --every 3    # with corrective clicks
    OMP_NUM_THREADS=2 python benchmarks/peers/one_click.py spines --every 6    # vertebrae, every sixth slice, one click
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from oncoseg_benchmarks.record import record
from oncoseg_benchmarks.scoring.clicks import click, dice
from oncoseg_clicks import with_clicks
from oncoseg_clicks.candidates import Clicks, candidate_boxes
from oncoseg_clicks.choice import AGREEMENT, CONTRAST, MOST_CONTRAST, agreement, choose, rim_contrast
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
from oncoseg_core.inference import EmbeddingCache, FittedVolume, Predictor
from oncoseg_core.path import Preprocessor, logits_to_slice
from oncoseg_prompts.api import Objects

TUMOURS = (("samples", {"sources": ["pyradiomics"]}),)
SPINES = (("samples", {"sources": ["tptbox"]}), ("samples-neighbours", {}))
GROUPS: dict[str, tuple[Any, bool]] = {
    "tumours": (TUMOURS, False),
    "corrected": (TUMOURS, True),
    "spines": (SPINES, False),
}
"""The scans, and whether their answers are corrected by further clicks."""

MODALITIES = ("ct", "mri")
CORRECTIONS = (0, 1, 3, 5)
DISCS = (6, 9, 13, 18, 26, 36, 50, 70)
TOLERANCES = (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)
WEIGHTS = tuple(itertools.product((0.0, 0.1, 0.2, 0.3, 0.5), (0.0, 0.2, 0.3, 0.5, 1.0)))


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", default="none besides it", help="what else the machine did, for the record")
    parser.add_argument("group", nargs="?", choices=sorted(GROUPS), default="tumours")
    parser.add_argument("--every", type=int, default=1, help="of the labelled slices, every which")
    parser.add_argument("--only", help="one case, to try the script; nothing is recorded")
    options = parser.parse_args()
    registry = load_plugins()
    spec = registry.get(ModelSpec, "litemedsam")
    model = with_clicks(registry.build(ModelSpec, "litemedsam"))
    preprocessors = {name: Preprocessor(registry, name, spec) for name in MODALITIES}
    predictor = Predictor(model, preprocessors, EmbeddingCache())
    rows = []
    sources, corrected = GROUPS[options.group]
    for fitted, name, index, mask, point in objects(registry, predictor, sources, options.every, options.only):
        row = measured(predictor, fitted, index, mask, point, corrected=corrected)
        rows.append({**name, "slice": index, **row})
        sys.stderr.write(f"{rows[-1]['case']} {index}: {rows[-1]['search']:.3f} {row.get('corrections', '')}\n")
    found: dict[str, Any] = {
        "load": options.load,
        "load average": [round(each, 1) for each in os.getloadavg()],
        "threads": torch.get_num_threads(),
        "weights": {"contrast": CONTRAST, "most contrast": MOST_CONTRAST, "agreement": AGREEMENT},
        "every": options.every,
        **summary(rows),
        "rows": [{key: value for key, value in row.items() if not key.startswith("_")} for row in rows],
    }
    sys.stdout.write(f"{ {key: value for key, value in found.items() if key != 'rows'} }\n")
    if options.only is None:
        arguments = f" {options.group} --every {options.every}"
        command = f"OMP_NUM_THREADS={torch.get_num_threads()} python benchmarks/peers/one_click.py{arguments}"
        sys.stdout.write(f"{record(f'one_click_{options.group}', command, found)}\n")


def objects(
    registry: Registry, predictor: Predictor, sources: Any, every: int, only: str | None
) -> Iterator[tuple[FittedVolume, dict[str, str], int, BoolArray, Point]]:
    """Each object of each labelled slice, with the click on it."""
    generator = registry.build(PromptGeneratorSpec, "point", {})
    for dataset, settings in sources:
        adapter = registry.build(DatasetSpec, dataset, settings)
        for case in adapter.discover(Path(adapter.fetch(lambda *_: None))):
            if only not in {None, case.case_id}:
                continue
            volume, masks = adapter.load(case)
            fitted = predictor.fit(volume)
            for target in case.targets:
                mask = masks[target.name]
                parts = Objects.of(mask, each_lesion=target.kind == "lesion")
                for index in np.flatnonzero(mask.any(axis=(1, 2)))[::every].tolist():
                    for each in parts.on_slice(index, mask[index]):
                        (point,) = generator.generate(each, np.random.default_rng(0), target)
                        yield fitted, {"case": case.case_id, "target": target.name}, index, each, point


def measured(
    predictor: Predictor, fitted: FittedVolume, index: int, mask: BoolArray, point: Point, *, corrected: bool
) -> dict[str, Any]:
    """Dice of the search, of floors and bounds on one object, and the seconds after the encoding."""
    with predictor.inference():
        embedded = predictor.embed(fitted, index)
    predictor.predict_slice(fitted, index, [(point,)])  # a first call allocates
    started, used = time.perf_counter(), time.process_time()
    (answer,) = predictor.predict_slice(fitted, index, [(point,)])
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - used
    (reference_box,) = predictor.predict_slice(fitted, index, [(box_around(mask),)])
    row: dict[str, Any] = {
        "pixels": int(mask.sum()),
        "corrected": corrected,
        "search": dice(answer.mask, mask),
        "box from the reference": dice(reference_box.mask, mask),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
    }
    if corrected:
        after: list[float] = []

        def ask(prompt: Any) -> BoolArray:
            (result,) = predictor.predict_slice(fitted, index, [prompt])
            after.append(dice(result.mask, mask))
            return result.mask

        click(ask, mask, CORRECTIONS[-1] + 1)
        row["corrections"] = [after[min(number, len(after) - 1)] for number in CORRECTIONS]
    (on_input,) = fitted.to_model((point,))
    return {
        **row,
        **candidates(predictor, fitted, embedded, on_input, mask),
        **floors(fitted, embedded, on_input, mask),
    }


def candidates(
    predictor: Predictor, fitted: FittedVolume, embedded: Any, point: Any, mask: BoolArray
) -> dict[str, Any]:
    """The best candidate, the choice by the model's score alone, and what the rule's weights are chosen from."""
    clicks = Clicks(((point.x, point.y),))
    size = predictor.model.spec.input_size
    boxes, _ = candidate_boxes(clicks, size)
    with predictor.inference():
        decoded = predictor.model.decode(embedded, [(box,) for box in boxes])
        masks = decoded.logits > 0
        holds = masks[:, int(point.y * masks.shape[1] / size), int(point.x * masks.shape[2] / size)].numpy()
        contrast = rim_contrast(masks.float(), embedded.grey[0]).clamp(max=MOST_CONTRAST).numpy()
        alike = agreement(masks.float()).numpy()
        chosen = choose(decoded.logits, decoded.scores, embedded.grey[0], clicks)
    scores = [dice(logits_to_slice(each, fitted.grid) > 0, mask) for each in decoded.logits]
    own = decoded.scores.numpy()
    return {
        "candidates": len(boxes),
        "best candidate": max(scores),
        "model's score alone": scores[int(np.argmax(np.where(holds, own, -np.inf)))],
        "chosen side": round(max(boxes[chosen].x1 - boxes[chosen].x0, boxes[chosen].y1 - boxes[chosen].y0)),
        "_dice": np.array(scores),
        "_terms": (np.where(holds, own, -100.0), contrast, alike),
    }


def floors(fitted: FittedVolume, embedded: Any, point: Any, mask: BoolArray) -> dict[str, Any]:
    """A disc around the click, and the region around it that is about as bright, for each size and tolerance."""
    grey = embedded.grey[0].numpy()
    rows, columns = np.ogrid[: grey.shape[0], : grey.shape[1]]
    far = np.hypot(rows + 0.5 - point.y, columns + 0.5 - point.x)
    row, column = int(point.y), int(point.x)
    smooth = ndimage.gaussian_filter(grey, 1.0)

    def native(region: BoolArray) -> float:
        return dice(logits_to_slice(torch.from_numpy(region.astype(np.float32) - 0.5), fitted.grid) > 0, mask)

    grown = []
    for tolerance in TOLERANCES:
        parts, _ = ndimage.label(np.abs(smooth - smooth[row, column]) < tolerance)
        grown.append(native(ndimage.binary_fill_holes(parts == parts[row, column])))
    return {"_discs": [native(far <= side / 2) for side in DISCS], "_grown": grown}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over all objects of all slices, and by scan."""
    if not rows:
        return {}
    names = ("search", "model's score alone", "best candidate", "box from the reference")
    means = {name: float(np.mean([row[name] for row in rows])) for name in names}
    discs, grown = (np.mean([row[name] for row in rows], axis=0) for name in ("_discs", "_grown"))
    seconds, cpu = ([row[name] for row in rows] for name in ("seconds", "cpu_seconds"))
    told: dict[str, Any] = {
        "objects": len(rows),
        "slices": len({(row["case"], row["slice"]) for row in rows}),
        "mean": means,
        "weights chosen without the scan": without_the_scan(rows),
        "disc": {"side": DISCS[int(discs.argmax())], "dice": float(discs.max())},
        "region growing": {"tolerance": TOLERANCES[int(grown.argmax())], "dice": float(grown.max())},
        "seconds": {"median": float(np.median(seconds)), "p95": float(np.percentile(seconds, 95))},
        "processor seconds": {"median": float(np.median(cpu)), "p95": float(np.percentile(cpu, 95))},
        "by case": {
            case: {
                "objects": len(own),
                **{name: float(np.mean([row[name] for row in own])) for name in names},
            }
            for case in sorted({row["case"] for row in rows})
            if (own := [row for row in rows if row["case"] == case])
        },
    }
    if rows[0]["corrected"]:
        after = np.mean([row["corrections"] for row in rows], axis=0)
        told["after corrective clicks"] = dict(zip(map(str, CORRECTIONS), map(float, after), strict=True))
    return told


def without_the_scan(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The weights that are best on the other scans, scored on each scan."""

    def chosen(row: dict[str, Any], weights: tuple[float, float]) -> float:
        own, contrast, alike = row["_terms"]
        return float(row["_dice"][int(np.argmax(own + weights[0] * contrast + weights[1] * alike))])

    table = np.array([[chosen(row, weights) for row in rows] for weights in WEIGHTS])
    cases = np.array([row["case"] for row in rows])
    held_out, picked = np.zeros(len(rows)), {}
    for case in sorted(set(cases)):
        best = int(table[:, cases != case].mean(axis=1).argmax()) if (cases != case).any() else 0
        held_out[cases == case], picked[str(case)] = table[best, cases == case], list(WEIGHTS[best])
    return {
        "dice": float(held_out.mean()),
        "contrast, agreement": picked,
        "all scans": {f"{a:g}, {b:g}": float(mean) for (a, b), mean in zip(WEIGHTS, table.mean(axis=1), strict=True)},
    }


if __name__ == "__main__":
    main()
