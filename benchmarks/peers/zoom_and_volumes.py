"""What zoom and propagation do to LiteMedSAM, zero-shot, on the five real tumour scans of the samples.

Zoom: on every labelled slice a box 2 pixels wide of the label; Dice over these slices together, with the whole slice
shown and zoomed. Shrunk: the three largest slices of the two large tumours, made smaller by averaging and put on an
empty slice of the old size: the same object at fewer logits. Propagation: one such box on the largest slice, followed
through the volume; Dice over the whole volume, and the slices found beside those labelled. The labels of breast1 and
brain2 are outlines of three slices of a larger lesion: of them only what lies on these slices can be compared.

    python benchmarks/peers/zoom_and_volumes.py
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from oncoseg_benchmarks.record import record
from oncoseg_core import BoolArray, DatasetSpec, ModelSpec, box_around, load_plugins
from oncoseg_core.data import labelled_slices
from oncoseg_core.inference import EmbeddingCache, FittedVolume, Predictor
from oncoseg_core.path import Preprocessor, ZoomSettings
from oncoseg_segment.api import PropagationSettings, propagate, smallest_resolvable_mm

MARGIN = 2.0
SHRUNK = {"lung2": (0.5, 0.25, 0.125), "brain1": (0.5, 0.25)}
PARTLY_LABELLED = ("breast1", "brain2")
ZOOMS = {"off": None, "auto": ZoomSettings(), "always": ZoomSettings(when="always")}


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="litemedsam")
    parser.add_argument("--cases", nargs="+", default=["lung1", "breast1", "brain2", "lung2", "brain1"])
    options = parser.parse_args()
    registry = load_plugins()
    model = registry.build(ModelSpec, options.model)
    paths = {name: Preprocessor(registry, name, model.spec) for name in ("ct", "mri")}
    samples = registry.build(DatasetSpec, "samples")
    cases = {case.case_id: case for case in samples.discover(samples.fetch(lambda *_: None))}
    found: dict[str, Any] = {
        "zoom": {name: None if zoom is None else zoom.model_dump() for name, zoom in ZOOMS.items()},
        "propagation": PropagationSettings().model_dump(),
        "cases": {},
    }
    for name in options.cases:
        volume, masks = samples.load(cases[name])
        ((_, reference),) = masks.items()
        predictor = Predictor(model, paths, EmbeddingCache())
        fitted = predictor.fit(volume)
        case = {how: _prompted(predictor, fitted, reference, zoom) for how, zoom in ZOOMS.items()}
        case["propagation"] = {
            how: _propagated(predictor, fitted, reference, zoom) for how, zoom in ZOOMS.items() if how != "always"
        }
        if name in SHRUNK:
            case["shrunk"] = {str(factor): _shrunk(predictor, fitted, reference, factor) for factor in SHRUNK[name]}
        found["cases"][name] = {"labelled": labelled_slices(reference), "partly": name in PARTLY_LABELLED, **case}
        print(name, found["cases"][name], flush=True)
    print(record(f"zoom_and_volumes_{options.model}", "python benchmarks/peers/zoom_and_volumes.py", found))


def _prompted(
    predictor: Predictor, fitted: FittedVolume, reference: BoolArray, zoom: ZoomSettings | None
) -> dict[str, Any]:
    """A box on every labelled slice."""
    predictor.zoom = zoom
    slices = labelled_slices(reference)
    results = [predictor.predict_slice(fitted, index, [(box_around(reference[index], MARGIN),)])[0] for index in slices]
    masks = np.stack([result.mask for result in results])
    geometry, spec = fitted.volume.geometry, predictor.model.spec
    return {
        "dice": _dice(masks, reference[slices]),
        "dice_by_slice": [_dice(mask, reference[index]) for mask, index in zip(masks, slices, strict=True)],
        "scores": [round(result.score, 3) for result in results],
        "windows": [result.window and [result.window.height, result.window.width] for result in results],
        "resolvable_mm": [round(smallest_resolvable_mm(geometry, spec, result.window), 2) for result in results],
    }


def _propagated(
    predictor: Predictor, fitted: FittedVolume, reference: BoolArray, zoom: ZoomSettings | None
) -> dict[str, Any]:
    """One box on the largest slice."""
    predictor.zoom = zoom
    start = int(reference.sum(axis=(1, 2)).argmax())
    done = propagate(predictor, fitted, start, (box_around(reference[start], MARGIN),))
    labelled = labelled_slices(reference)
    return {
        "start": start,
        "found": list(done.scores),
        "scores": {index: round(score, 3) for index, score in done.scores.items()},
        "dice_volume": _dice(done.mask, reference),
        "dice_labelled_slices": _dice(done.mask[labelled], reference[labelled]),
        "ended": done.ended,
    }


def _shrunk(predictor: Predictor, fitted: FittedVolume, reference: BoolArray, factor: float) -> dict[str, Any]:
    """Boxes on the largest slices of a smaller picture, normalised as the real one."""
    largest = sorted(labelled_slices(reference), key=lambda index: -int(reference[index].sum()))[:3]
    voxels = fitted.volume.voxels
    picture = np.full((1, len(largest), *voxels.shape[2:]), voxels.min(), dtype=np.float32)
    label = np.zeros((len(largest), *voxels.shape[2:]), dtype=bool)
    for position, index in enumerate(largest):
        small = _smaller(voxels[:1, index], factor)
        rows, columns = small.shape[1:]
        y, x = (voxels.shape[2] - rows) // 2, (voxels.shape[3] - columns) // 2
        picture[:, position, y : y + rows, x : x + columns] = small
        label[position, y : y + rows, x : x + columns] = _smaller(reference[index][np.newaxis], factor)[0] >= 0.5
    geometry = replace(fitted.volume.geometry, shape=label.shape)
    shrunk = predictor.fit(replace(fitted.volume, voxels=picture, geometry=geometry))
    shrunk.stats = fitted.stats
    boxes = [box_around(mask, MARGIN * factor) for mask in label]
    per_pixel = predictor.model.spec.logits_size / max(label.shape[1:])
    found: dict[str, Any] = {
        "logits": [round(max(box.x1 - box.x0, box.y1 - box.y0) * per_pixel, 1) for box in boxes],
    }
    for how in ("off", "always"):
        predictor.zoom = ZOOMS[how]
        masks = [predictor.predict_slice(shrunk, position, [(box,)])[0].mask for position, box in enumerate(boxes)]
        found[how] = _dice(np.stack(masks), label)
    return found


def _smaller(picture: npt.NDArray[Any], factor: float) -> npt.NDArray[np.float32]:
    """``(channel, y, x)``, averaged."""
    tensor = torch.from_numpy(picture.astype(np.float32))[None]
    small = F.interpolate(tensor, scale_factor=factor, mode="bilinear", antialias=True)[0].numpy()
    return np.asarray(small, dtype=np.float32)


def _dice(one: BoolArray, other: BoolArray) -> float:
    return round(float(2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))), 4)


if __name__ == "__main__":
    main()
