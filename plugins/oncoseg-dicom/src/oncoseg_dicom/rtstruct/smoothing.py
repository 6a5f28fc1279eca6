"""Evening out the steps of a contour along voxels' edges, by an amount that is limited and told.

Points half a pixel apart are averaged with their neighbours, again and again, and never move further than allowed. As
no point, and so no part of a side between two, moves by half a pixel along a row or column, no contour ever passes a
voxel's centre: what is read back is the same voxels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from oncoseg_dicom.rtstruct.outlines import Outline

ROUNDS = 20
"""Averages with both neighbours: together a Gaussian of 1.6 pixels."""

FURTHEST = 0.45
"""Pixels by which a point may move along a row or a column: less than from a voxel's edge to its centre."""


@dataclass(frozen=True)
class Smoothing:
    """How far points may move in mm; ``column_mm`` and ``row_mm`` are the distances of neighbours along x and y."""

    limit_mm: float
    column_mm: float
    row_mm: float


def smooth(outline: Outline, smoothing: Smoothing) -> tuple[Outline, float]:
    """Even out an outline; also how far any of its points moved, in mm, which is its largest error."""
    starts = outline.points
    ways = outline.points[outline.following] - starts
    pieces = np.maximum(1, np.rint(2 * np.abs(ways).max(axis=1))).astype(np.int64)
    owners = np.repeat(np.arange(len(starts)), pieces - 1)
    added = len(starts) + np.arange(len(owners))
    first = np.cumsum(pieces - 1) - (pieces - 1)
    part = (1 + np.arange(len(owners)) - first[owners]) / pieces[owners]
    resting = np.concatenate([starts, starts[owners] + part[:, None] * ways[owners]])

    following = np.concatenate([outline.following, added + 1])
    ends = (first + pieces - 2)[pieces > 1]
    following[len(starts) + ends] = outline.following[pieces > 1]
    following[: len(starts)][pieces > 1] = len(starts) + first[pieces > 1]
    before = np.empty(len(following), dtype=np.int64)
    before[following] = np.arange(len(following))

    size = np.array([smoothing.column_mm, smoothing.row_mm])
    moved = np.zeros_like(resting)
    for _ in range(ROUNDS):
        at = resting + moved
        moved = (at[before] + 2 * at + at[following]) / 4 - resting
        pixels = np.abs(moved).max(axis=1)
        millimetres = np.linalg.norm(moved * size, axis=1)
        excess = np.maximum(pixels / FURTHEST, millimetres / smoothing.limit_mm)
        moved /= np.maximum(excess, 1)[:, None]
    error = float(np.linalg.norm(moved * size, axis=1).max(initial=0.0))
    return replace(outline, points=resting + moved, following=following), error
