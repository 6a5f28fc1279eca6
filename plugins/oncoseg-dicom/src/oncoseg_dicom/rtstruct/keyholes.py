"""Joining each hole to the ring around it by a bridge without width, so that one ring says it all.

From a hole's first corner (the left one of its topmost side) the bridge runs to the left along the pixels' sides, as
long as all pixels beside it are solid, and so reaches the nearest ring of the same connected solid: that around it, or
that of another of its holes which starts further up or further left. Bridges thus cross nothing, and every hole is
joined to the ring that directly encloses it, in whatever order. No corner is reached by two bridges: the second would
have met the hole where the first starts.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from oncoseg_dicom.rtstruct.outlines import PULL, Ints, Outline, column_key


def holes_of(outline: Outline, firsts: Ints) -> Ints:
    """Those of the rings' first nodes that are holes': below and right of its first corner a hole is not solid."""
    z, y, x = outline.places(outline.corners[firsts])
    return np.asarray(firsts[outline.pixels[z, y + 1, x + 1] == 0], dtype=np.int64)


def landings(outline: Outline, holes: Ints) -> tuple[Outline, Ints]:
    """Where the bridges of holes end: the outline with these nodes added where it has none, and their numbers.

    Args:
        outline: as traced: its nodes are its corners.
        holes: the first node of each hole's ring.
    """
    shape = (len(outline.pixels), *outline.size)
    z, y, x = outline.places(outline.corners[holes])
    rows, row = np.unique(z * shape[1] + y, return_inverse=True)
    slices, above = np.divmod(rows, shape[1])
    solid = outline.pixels[slices, above, :-1] & outline.pixels[slices, above + 1, :-1]
    nearest = np.maximum.accumulate(np.where(solid, -1, np.arange(shape[2])), axis=1)
    x = nearest[row, x - 1]
    places = (z * shape[1] + y) * shape[2] + x

    nodes = np.searchsorted(outline.corners, places)
    # A place that is no corner lies within a vertical side, with the solid on its right: the ring runs up there.
    amid = np.flatnonzero(outline.corners[np.minimum(nodes, len(outline.corners) - 1)] != places)
    keys = column_key(z, y, x, shape)
    amid = amid[np.argsort(-keys[amid])]  # upwards
    added = np.arange(len(outline.points), len(outline.points) + len(amid))
    nodes[amid] = added
    # Where two pixels touch at the side's lower end, the side is that of the node which comes first in its column; the
    # other may be of a ring around something else altogether.
    by_column = np.argsort(outline.column_keys, kind="stable")
    below = by_column[np.searchsorted(outline.column_keys[by_column], keys[amid])]
    following = np.concatenate([outline.following, outline.following[below]])
    continues = np.zeros(len(amid), dtype=bool)
    continues[1:] = below[1:] == below[:-1]
    following[np.where(continues, added - 1, below)] = added
    points = np.concatenate([outline.points, np.stack([x[amid] + PULL, y[amid] - PULL], axis=1)])
    return replace(outline, points=points, following=following), nodes


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
    return replace(outline, points=points, following=following)
