"""The corners of an object's outline on its slices, and which corner follows which.

A corner of the pixel grid is a corner of the outline where sides of the outline meet that run along a row and along a
column. Along a row of the grid the outline's sides run from the first corner to the second, from the third to the
fourth, and so on; along a column likewise. So two sortings join all corners, of all slices at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oncoseg_core import BoolArray

PULL = 0.02
"""Pixels by which outlines are pulled to their solid side. Measured: with it plastimatch, dcmrtstruct2nii, platipy and
an even-odd fill all read the voxels that were drawn; on the very edge some readers round the wrong way."""

Ints = npt.NDArray[np.int64]
Points = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Outline:
    """The outline of an object on a block of slices: nodes, and for each the one that follows.

    ``pixels`` are the block with a margin of one pixel, 0 or 1 ``(z, y + 2, x + 2)``; corner ``(i, j)`` of the grid has
    pixel ``(i, j)`` of these at its upper left. ``corners`` are the nodes' places among the grid's corners
    ``(z, y + 1, x + 1)``, flat and in rising order; nodes that were added later have none. ``column_keys`` sort the
    same nodes by slice, column and row (:func:`column_key`); of two at one corner, that with the side above it comes
    first. ``points`` are the nodes' (x, y) in continuous pixels of the block, ``following`` the next node of the ring,
    with the solid on the right (y growing downwards). ``starts`` are nodes of which every ring has its lowest-numbered
    one.
    """

    pixels: npt.NDArray[np.uint8]
    corners: Ints
    column_keys: Ints
    points: Points
    following: Ints
    starts: Ints

    @property
    def size(self) -> tuple[int, int]:
        """How many corners of the grid there are in a column and in a row of a slice."""
        return self.pixels.shape[1] - 1, self.pixels.shape[2] - 1

    def places(self, corners: Ints) -> tuple[Ints, Ints, Ints]:
        """Slice, row and column of corners of the grid."""
        height, width = self.size
        slices, within = np.divmod(corners, height * width)
        return (slices, *np.divmod(within, width))

    def walk(self) -> tuple[Ints, Ints]:
        """The nodes ring by ring, each from its node of lowest number on, and how many nodes each ring has."""
        following = self.following.tolist()
        nodes: list[int] = []
        add = nodes.append
        ends = [0]
        for start in self.starts.tolist():
            node = start
            while (after := following[node]) >= 0:
                following[node] = -1  # been there
                add(node)
                node = after
            if len(nodes) > ends[-1]:
                ends.append(len(nodes))
        return np.array(nodes, dtype=np.int64), np.diff(np.array(ends, dtype=np.int64))


def outline_of(block: BoolArray) -> Outline:
    """The outline of a block of slices ``(z, y, x)``.

    Where two pixels touch at a corner only, the corner is two nodes, one of each pixel's ring: solid pixels are
    joined by their sides only. Every node is pulled to the solid side, so that no ring touches another or itself.
    """
    depth, height, width = block.shape
    pixels = np.zeros((depth, height + 2, width + 2), dtype=np.uint8)
    pixels[:, 1:-1, 1:-1] = block
    along = pixels[:, :-1] ^ pixels[:, 1:]
    across = pixels[..., :-1] ^ pixels[..., 1:]
    meet = (along[..., :-1] | along[..., 1:]) & (across[:, :-1] | across[:, 1:])
    corners = np.flatnonzero(meet.view(bool))
    z, y, x = np.unravel_index(corners, meet.shape)
    upper_left, upper_right, lower_left, lower_right = (
        pixels[z, y + down, x + right].view(bool) for down in (0, 1) for right in (0, 1)
    )
    touching = (upper_left == lower_right) & (upper_left != upper_right)  # three alike would not meet so
    touching &= lower_left == upper_right
    again = np.repeat(np.arange(len(corners)), 1 + touching)
    second = np.zeros(len(again), dtype=bool)
    second[1:] = again[1:] == again[:-1]

    following = np.empty(len(again), dtype=np.int64)
    towards = np.empty((len(again), 2), dtype=np.int8)
    # The first node of a touching pair has the side to the left, as the end of that side.
    left, right = np.arange(0, len(again), 2), np.arange(1, len(again), 2)
    below = lower_right[again[left]]
    following[np.where(below, left, right)] = np.where(below, right, left)
    towards[left, 1] = towards[right, 1] = np.where(below, 1, -1)
    # Which of the two has the side above it depends on which two pixels are solid.
    rising = touching & upper_right
    column_keys = column_key(z, y, x, meet.shape)[again] + (second ^ rising[again])
    by_column = np.argsort(column_keys, kind="stable")
    top, bottom = by_column[0::2], by_column[1::2]
    solid_left = lower_left[again[top]]
    following[np.where(solid_left, top, bottom)] = np.where(solid_left, bottom, top)
    towards[top, 0] = towards[bottom, 0] = np.where(solid_left, -1, 1)

    points = np.stack([x, y], axis=1)[again] + PULL * towards
    # A ring's first node begins a side to the right and one downwards.
    return Outline(pixels, corners[again], column_keys, points, following, np.sort(top[top % 2 == 0]))


def column_key(z: Ints, y: Ints, x: Ints, shape: tuple[int, ...]) -> Ints:
    """Numbers that sort the grid's corners by slice, then column, then row; even, so that ties can be broken."""
    return np.asarray(2 * ((z * shape[2] + x) * shape[1] + y), dtype=np.int64)
