"""Pictures of the worst and the best cases: the largest slice of the object, with reference, prediction and prompt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from oncoseg_benchmarks.cases.case_selection import Scored
from oncoseg_benchmarks.run.run import Bench
from oncoseg_benchmarks.scoring.case_scoring import mask_key
from oncoseg_benchmarks.scoring.saved_masks import load_masks, unpack
from oncoseg_benchmarks.table.rows import Row
from oncoseg_core import BoolArray, OncoSegError, PlaneView
from oncoseg_core.imaging import (
    PREDICTION_COLOUR,
    PROMPT_COLOUR,
    REFERENCE_COLOUR,
    draw_legend,
    draw_outline,
    draw_slice,
    new_figure,
    png_bytes,
    set_window,
    window_around,
)
from oncoseg_core.path import Normalization


class CasePicture(NamedTuple):
    """A picture, and what it shows."""

    title: str
    png: bytes
    caption: str


def extreme_rows(rows: Sequence[Row], metric: str, better: str, number: int) -> list[tuple[str, Row]]:
    """The worst and the best rows of a model in one section, none twice: ``(worst or best, row)``.

    Where nothing was found and the score is for that undefined (a distance), nothing is worse.
    """

    def goodness(row: Row) -> tuple[float, str, str, str]:
        value = -np.inf if row[metric] is None else row[metric] if better == "higher" else -row[metric]
        return value, row["dataset"], row["case"], row["target"]

    scored = [row for row in rows if row[metric] is not None or row["predicted_voxels"] == 0 < row["reference_voxels"]]
    ordered = sorted(scored, key=goodness)
    worst = ordered[:number]
    best = ordered[len(worst) :][::-1][:number]
    return [*(("worst", row) for row in worst), *(("best", row) for row in best)]


def draw_rows(bench: Bench, chosen: Sequence[tuple[str, Row]], metric: str) -> dict[int, CasePicture]:
    """Draw rows of a finished run, by their number in ``chosen``; a case that cannot be read any more is left out.

    Each case is read once, however many pictures are made of it, and one at a time is in memory.
    """
    cases = {(each.case.dataset, each.case.case_id): each for each in bench.chosen.cases}
    by_case: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, (_, row) in enumerate(chosen):
        by_case[row["dataset"], row["case"]].append(number)
    drawn = {}
    for place, numbers in by_case.items():
        try:
            image = _CaseImage(bench, cases[place])
        except (OncoSegError, OSError):
            continue
        for number in numbers:
            with suppress(OncoSegError, KeyError):
                drawn[number] = _draw(bench, *chosen[number], metric, image)
    return drawn


class _CaseImage:
    """A case's image as the modality's normalizer gives it, in [0, 1]; the first channel."""

    def __init__(self, bench: Bench, scored: Scored) -> None:
        self.volume, _ = scored.adapter.load(scored.case)
        self._normalization = Normalization(bench.registry, self.volume.modality, bench.settings.normalizers)
        self._calibrated = self._normalization.calibrated(self.volume)
        self._stats = self._normalization.fit(self._calibrated)

    def slice(self, index: int) -> npt.NDArray[np.float32]:
        """One slice ``(y, x)``."""
        voxels = self._calibrated.voxels[:, index]
        return np.asarray(self._normalization.normalizer.apply(voxels, self._stats)[0])


def _draw(bench: Bench, what: str, row: Row, metric: str, case_image: _CaseImage) -> CasePicture:
    references, _ = load_masks(bench.folder.references_path(row["dataset"], row["case"]))
    masks, _ = load_masks(bench.folder.masks_path(row["model"], row["dataset"], row["case"]))
    reference = unpack(references[row["target"]])
    prediction = unpack(masks[mask_key(row["target"], row["prompt"], row["level"])])
    largest, index = slice_to_show(reference, prediction, row["level"])
    geometry = case_image.volume.geometry
    view = geometry.view
    spacing = view.spacing(*geometry.spacing[1:])
    image = np.asarray(view.apply(case_image.slice(index)))
    true, found = (np.asarray(view.apply(mask[index])) for mask in (reference, prediction))
    score = "missed" if row[metric] is None else f"{metric} {row[metric]:.3f}"
    title = f"{row['model']}, {row['case']}: {row['target']} ({what}: {score})"
    size = "" if row["diameter_mm"] is None else f" Longest diameter {row['diameter_mm']:.0f} mm."
    leak = "" if row["leak"] is None else f" Trained on: {row['leak']}."
    most = "the largest area" if index == largest else "most wrong pixels"
    caption = (
        f"{row['dataset']}/{row['case']}, {row['modality']}, {row['prompt']}, {row['level']} level; slice {index} of "
        f"0 to {geometry.shape[0] - 1}, the one with {most}; pixel {spacing[1]:.2f} x "
        f"{spacing[0]:.2f} mm.{size} The score is that of the whole case.{leak}"
    )
    hints = row.get("shown_prompt", ()) if index == largest else ()  # it was made on that slice
    prompt = [_upright(hint, view, geometry.shape[1], geometry.shape[2]) for hint in hints]
    return CasePicture(title, draw_overlay(image, true, found, prompt, spacing, title), caption)


def slice_to_show(reference: BoolArray, prediction: BoolArray, level: str) -> tuple[int, int]:
    """The slice with the largest area, of the prediction where the reference is empty, and the one to show.

    Where an object was followed through a volume, what goes wrong does so away from the prompt: there the slice with
    most wrong pixels is shown.
    """
    largest = int((reference if reference.any() else prediction).sum(axis=(1, 2)).argmax())
    wrong = (reference ^ prediction).sum(axis=(1, 2))
    return largest, int(wrong.argmax()) if level == "volume" and wrong.any() else largest


def draw_overlay(
    image: npt.NDArray[np.float32],
    reference: BoolArray,
    prediction: BoolArray,
    prompt: Sequence[Mapping[str, Any]],
    spacing: tuple[float, float],
    title: str,
) -> bytes:
    """The whole slice with the prompt, and the object close by with both outlines; ``spacing`` is (row, column) mm."""
    figure = new_figure(10, 5.2, dpi=90)
    whole, close = figure.subplots(1, 2)
    for axes in (whole, close):
        draw_slice(axes, image, spacing[0] / spacing[1])
        _draw_prompt(axes, prompt)
        draw_outline(axes, reference, REFERENCE_COLOUR)
        draw_outline(axes, prediction, PREDICTION_COLOUR, "--")
    set_window(close, window_around(reference | prediction))
    figure.suptitle(title, fontsize=12)
    entries = {"reference": (REFERENCE_COLOUR, "-"), "prediction": (PREDICTION_COLOUR, "--")}
    if prompt:
        entries["prompt"] = ("#888888", ":")
    draw_legend(figure, entries, ncols=3, frameon=False, fontsize=10)
    return png_bytes(figure)


def _draw_prompt(axes: Any, prompt: Sequence[Mapping[str, Any]]) -> None:
    for hint in prompt:
        if "box" in hint:
            x0, y0, x1, y1 = hint["box"]
            axes.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], ":", color=PROMPT_COLOUR, lw=1.4)
        else:
            x, y = hint["point"]
            axes.plot(x, y, "+" if hint["positive"] else "x", color=PROMPT_COLOUR, ms=9, mew=2)


def _upright(hint: Mapping[str, Any], view: PlaneView, height: int, width: int) -> dict[str, Any]:
    """A box or a click on the stored slice, on the turned one."""
    if "box" in hint:
        x0, y0, x1, y1 = hint["box"]
        corners = [view.point(x, y, height, width) for x, y in ((x0, y0), (x1, y1))]
        xs, ys = zip(*corners, strict=True)
        return {"box": [min(xs), min(ys), max(xs), max(ys)]}
    x, y = hint["point"]
    return {"point": list(view.point(x, y, height, width)), "positive": hint["positive"]}
