"""Computing every score of a finished run again, from its saved masks, and comparing it with the table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from oncoseg_benchmarks.case_scoring import mask_key
from oncoseg_benchmarks.empty_masks import score_all
from oncoseg_benchmarks.results import read_table
from oncoseg_benchmarks.rows import Row
from oncoseg_benchmarks.run_folder import RESULTS_FILE, RunFolder
from oncoseg_benchmarks.saved_masks import Packed, digest, load_masks, unpack
from oncoseg_core.errors import DataError
from oncoseg_core.interfaces import Metric, Progress
from oncoseg_core.records import MetricSpec
from oncoseg_core.registry import Registry

RELATIVE = 1e-9
"""By how much a score may differ: another build of the libraries adds in another order."""


class Mismatch(NamedTuple):
    """A score that is not what the masks say; ``problem`` tells both values, or what is wrong with the masks."""

    row: str
    problem: str


class Verification(NamedTuple):
    """How many rows and scores were computed again, and what differs."""

    rows: int
    scores: int
    mismatches: list[Mismatch]


def verify(path: Path, registry: Registry, progress: Progress) -> Verification:
    """Compute the table of a run again.

    Needs neither the model nor the dataset. Voxel spacing is that of the references' files.

    Raises:
        RunError, DataError: the folder is no finished run.
    """
    folder = RunFolder(path)
    values = folder.identity()["config"]["metrics"]
    rows, names = read_table(path / RESULTS_FILE)
    metrics = {name: (registry.get(MetricSpec, name), registry.build(MetricSpec, name, values[name])) for name in names}
    found: list[Mismatch] = []
    loaded: tuple[tuple[str, str, str], dict[str, Packed], dict[str, Packed], Any] | None = None
    by_case = sorted(rows, key=lambda row: (row["dataset"], row["case"], row["model"]))
    for done, row in enumerate(by_case, start=1):
        progress("rows", done, len(by_case))
        name = " ".join(str(row[key]) for key in ("model", "dataset", "case", "target", "prompt", "level"))
        place = (row["dataset"], row["case"], row["model"])
        try:
            if loaded is None or loaded[0] != place:
                references, spacing = load_masks(folder.references_path(*place[:2]))
                masks, _ = load_masks(folder.masks_path(row["model"], *place[:2]))
                loaded = (place, masks, references, spacing)
            _, masks, references, spacing = loaded
            found += [Mismatch(name, problem) for problem in _problems(row, masks, references, spacing, metrics)]
        except (DataError, KeyError) as error:
            found.append(Mismatch(name, f"no mask {error}" if isinstance(error, KeyError) else str(error)))
    return Verification(len(rows), len(rows) * len(metrics), found)


def _problems(
    row: Row,
    masks: Mapping[str, Packed],
    references: Mapping[str, Packed],
    spacing: tuple[float, float, float],
    metrics: Mapping[str, tuple[MetricSpec, Metric]],
) -> list[str]:
    predicted = masks[mask_key(row["target"], row["prompt"], row["level"])]
    reference = references[row["target"]]
    for what, packed in (("prediction", predicted), ("reference", reference)):
        if digest(packed) != row[f"{what}_sha256"]:
            return [f"the saved {what} is not the one that was scored"]
    prediction, truth = unpack(predicted), unpack(reference)
    counted = {
        "predicted_voxels": int(prediction.sum()),
        "reference_voxels": int(truth.sum()),
        "common_voxels": int((prediction & truth).sum()),
    }
    again = {**counted, **score_all(metrics, prediction, truth, spacing, physical=row["voxel_mm3"] is not None)}
    return [
        f"{name} is {_shown(value)}, the table says {_shown(row[name])}"
        for name, value in again.items()
        if not _same(value, row[name])
    ]


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=RELATIVE, abs_tol=RELATIVE)


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.9g}"
