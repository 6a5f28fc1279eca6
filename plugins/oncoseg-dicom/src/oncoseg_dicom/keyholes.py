"""Joining each hole to the ring around it by a bridge without width, so that one ring says it all.

From a hole's first corner (the left one of its topmost side) the bridge runs to the left along the pixels' sides, as
long as all pixels beside it are solid, and so reaches the nearest ring: that around the object, or that of a hole which
starts further up or further left. Bridges thus cross nothing, and every hole is joined, in whatever order. No corner is
reached by two bridges: the second would have met the hole where the first starts.
"""

from __future__ import annotations

import numpy as np

from oncoseg_dicom.outlines import LOWER_LEFT, PULL, UPPER_LEFT, Ints, Outline, column_key

LEFT = UPPER_LEFT | LOWER_LEFT


def landings(outline: Outline, holes: Ints) -> tuple[Outline, Ints]:
    """Where the bridges of holes end: the outline with these nodes added where it has none, and their numbers.

    Args:
        outline: as traced: its nodes are its corners.
        holes: the first node of each hole's ring.
    """
    _, height, width = outline.codes.shape
    rows, columns = np.divmod(outline.corners[holes], width)
    rows_of_holes, row = np.unique(rows, return_inverse=True)
    stops = outline.codes.reshape(-1, width)[rows_of_holes] & LEFT != LEFT
    nearest = np.maximum.accumulate(np.where(stops, np.arange(width), -1), axis=1)
    places = rows * width + nearest[row, columns - 1]

    nodes = np.searchsorted(outline.corners, places)
    # A place that is no corner lies within a vertical side, with the solid on its right: the ring runs up there.
    amid = np.flatnonzero(outline.corners[np.minimum(nodes, len(outline.corners) - 1)] != places)
    amid = amid[np.argsort(-column_key(places[amid], outline.codes.shape))]  # upwards
    added = np.arange(len(outline.points), len(outline.points) + len(amid))
    nodes[amid] = added
    keys = column_key(outline.corners, outline.codes.shape)
    by_column = np.argsort(keys, kind="stable")
    below = by_column[np.searchsorted(keys[by_column], column_key(places[amid], outline.codes.shape))]
    following = np.concatenate([outline.following, outline.following[below]])
    continues = np.zeros(len(amid), dtype=bool)
    continues[1:] = below[1:] == below[:-1]
    following[np.where(continues, added - 1, below)] = added

    y, x = np.divmod(places[amid] % (height * width), width)
    points = np.concatenate([outline.points, np.stack([x + PULL, y - PULL], axis=1)])
    return Outline(outline.codes, outline.corners, points, following), nodes


def join(outline: Outline, holes: Ints, nodes: Ints) -> Outline:
    """Join each hole, at its node in ``holes``, to the node in ``nodes`` where its bridge ends; both are doubled."""
    count, joined = len(outline.points), len(holes)
    back, landed = count + np.arange(joined), count + joined + np.arange(joined)
    following = np.concatenate([outline.following, landed, np.empty(joined, dtype=np.int64)])
    before = np.empty(count, dtype=np.int64)
    before[outline.following] = np.arange(count)
    following[before[holes]] = back
    following[landed] = following[nodes]
    following[nodes] = holes
    points = np.concatenate([outline.points, outline.points[holes], outline.points[nodes]])
    return Outline(outline.codes, outline.corners, points, following)
