"""The corners of an object's outline on its slices, and which corner follows which.

A corner of the pixel grid is a corner of the outline where the four pixels around it are not split along a row or a
column. Along a row of the grid the outline's horizontal sides run from the first corner to the second, from the third
to the fourth, and so on; along a column likewise. So two sortings join all corners, of all slices at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oncoseg_core.volume import BoolArray

PULL = 0.02
"""Pixels by which outlines are pulled to their solid side. Measured: with it plastimatch, dcmrtstruct2nii, platipy and
an even-odd fill all read the voxels that were drawn; on the very edge some readers round the wrong way."""

Ints = npt.NDArray[np.int64]
Points = npt.NDArray[np.float64]

UPPER_LEFT, UPPER_RIGHT, LOWER_LEFT, LOWER_RIGHT = 1, 2, 4, 8
"""The pixels around a corner of the grid, as bits of its code."""

RISING, FALLING = UPPER_RIGHT | LOWER_LEFT, UPPER_LEFT | LOWER_RIGHT
"""Two solid pixels that touch at a corner only."""

_IS_CORNER = np.ones(16, dtype=bool)
_IS_CORNER[[0, 15, UPPER_LEFT | UPPER_RIGHT, LOWER_LEFT | LOWER_RIGHT]] = False
_IS_CORNER[[UPPER_LEFT | LOWER_LEFT, UPPER_RIGHT | LOWER_RIGHT]] = False


@dataclass(frozen=True, eq=False)
class Outline:
    """The outline of an object on a block of slices: nodes, and for each the one that follows.

    ``codes`` ``(z, y + 1, x + 1)`` are the grid's corners; ``corners`` are the nodes' places among them, flat and in
    rising order; nodes that were added later have none. ``points`` are the nodes' (x, y) in continuous pixels of the
    block, ``following`` the next node of the ring, with the solid on the right (y growing downwards).
    """

    codes: npt.NDArray[np.uint8]
    corners: Ints
    points: Points
    following: Ints

    def walk(self) -> tuple[Ints, Ints]:
        """The nodes ring by ring, and how many each ring has; a ring starts at its node of lowest number."""
        following = self.following.tolist()
        seen = bytearray(len(following))
        nodes: list[int] = []
        lengths = []
        for start in range(len(following)):
            before = len(nodes)
            node = start
            while not seen[node]:
                seen[node] = True
                nodes.append(node)
                node = following[node]
            if len(nodes) > before:
                lengths.append(len(nodes) - before)
        return np.array(nodes, dtype=np.int64), np.array(lengths, dtype=np.int64)


def outline_of(block: BoolArray) -> Outline:
    """The outline of a block of slices ``(z, y, x)``.

    Where two pixels touch at a corner only, the corner is two nodes, one of each pixel's ring: solid pixels are
    joined by their sides only. Every node is pulled to the solid side, so that no ring touches another or itself.
    """
    depth, height, width = block.shape
    pixels = np.zeros((depth, height + 2, width + 2), dtype=np.uint8)
    pixels[:, 1:-1, 1:-1] = block
    codes = pixels[:, :-1, :-1] | pixels[:, :-1, 1:] << 1
    codes |= pixels[:, 1:, :-1] << 2
    codes |= pixels[:, 1:, 1:] << 3
    places = np.flatnonzero(_IS_CORNER[codes])
    kinds = codes.reshape(-1)[places]
    corners = np.repeat(places, 1 + ((kinds == RISING) | (kinds == FALLING)))
    kinds = codes.reshape(-1)[corners]
    second = np.zeros(len(corners), dtype=bool)
    second[1:] = corners[1:] == corners[:-1]

    following = np.empty(len(corners), dtype=np.int64)
    towards = np.empty((len(corners), 2), dtype=np.int8)
    # The first node of a touching pair has the side to the left, as the end of that side.
    left, right = np.arange(0, len(corners), 2), np.arange(1, len(corners), 2)
    below = kinds[left] & LOWER_RIGHT != 0
    following[np.where(below, left, right)] = np.where(below, right, left)
    towards[left, 1] = towards[right, 1] = np.where(below, 1, -1)
    # Which of the two has the side above it depends on which two pixels are solid.
    by_column = np.argsort(column_key(corners, codes.shape) + (second ^ (kinds == RISING)), kind="stable")
    top, bottom = by_column[0::2], by_column[1::2]
    solid_left = kinds[top] & LOWER_LEFT != 0
    following[np.where(solid_left, top, bottom)] = np.where(solid_left, bottom, top)
    towards[top, 0] = towards[bottom, 0] = np.where(solid_left, -1, 1)

    y, x = np.divmod(corners % (codes.shape[1] * codes.shape[2]), codes.shape[2])
    points = np.stack([x, y], axis=1) + PULL * towards
    return Outline(codes, corners, points, following)


def column_key(corners: Ints, shape: tuple[int, ...]) -> Ints:
    """Numbers that sort the grid's corners by slice, then column, then row; even, so that ties can be broken."""
    _, height, width = shape
    slices, within = np.divmod(corners, height * width)
    y, x = np.divmod(within, width)
    return np.asarray(2 * ((slices * width + x) * height + y), dtype=np.int64)
