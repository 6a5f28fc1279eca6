"""The structures of a session as segments of one segmentation on its volume, and what a hand changed of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from oncoseg_slicer.volumes import RefusedError, VolumeGrid, grid_of

COLOURS = (
    (0.90, 0.62, 0.00), (0.34, 0.71, 0.91), (0.00, 0.62, 0.45), (0.94, 0.89, 0.26),
    (0.00, 0.45, 0.70), (0.84, 0.37, 0.00), (0.80, 0.47, 0.65),
)  # fmt: skip
"""Okabe and Ito's, which the colour-blind can tell apart."""


class Segments:
    """A ``vtkMRMLSegmentationNode`` with the geometry and the transform of a volume; segments are named as structures.

    Args:
        scene: the MRML scene.
        volume: the volume node.
        node: a segmentation to resume with; a new one when None.
    """

    def __init__(self, scene: Any, volume: Any, node: Any = None) -> None:
        self._volume = volume
        self._written: dict[str, dict[int, npt.NDArray[np.bool_]]] = {}  # what is not of a hand, by slice
        self._stamps: dict[str, int] = {}  # when a segment was last known to be what was written
        self.grid: VolumeGrid = grid_of(volume)
        if node is None:
            node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{volume.GetName()} structures")
            node.CreateDefaultDisplayNodes()
        self.node = node
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())

    def require_same_place(self) -> None:
        """Refuse to go on where somebody moved the volume away from what the session was opened on.

        Raises:
            RefusedError: the volume, or the segmentation under another transform, lies elsewhere now, or is gone.
        """
        if self.node.GetScene() is None:
            raise RefusedError(f"{self.node.GetName()}: was deleted; press Start again, the prompts are kept")
        grid = grid_of(self._volume)
        if grid.shape != self.grid.shape or not np.allclose(grid.to_world, self.grid.to_world, atol=1e-6):
            raise RefusedError(f"{self.grid.name}: was moved since the session was opened; start it again")
        if self.node.GetTransformNodeID() != self._volume.GetTransformNodeID():
            raise RefusedError(
                f"{self.node.GetName()}: is under another transform than its volume; put it under the same"
            )

    def id_of(self, name: str) -> str | None:
        """The segment of that name."""
        found: str = self.node.GetSegmentation().GetSegmentIdBySegmentName(name)
        return found or None

    def names(self) -> list[str]:
        """All segments."""
        segmentation = self.node.GetSegmentation()
        return [segmentation.GetNthSegment(number).GetName() for number in range(segmentation.GetNumberOfSegments())]

    def show(self, name: str, mask: npt.NDArray[Any], under_way: Collection[int] = ()) -> None:
        """Let a segment be this mask ``(k, j, i)``, but for what a hand changed since; a new one gets the next colour.

        ``under_way`` are slices of the hand that were taken, and are no part of the mask yet.
        """
        import slicer.util

        written = self._written.get(name, {})
        by_hand = self.edits(name)
        now = {int(index): mask[index] != 0 for index in np.flatnonzero(mask.any(axis=(1, 2)))}
        for index in under_way:
            now[index] = written.get(index, np.zeros(self.grid.shape[1:], dtype=bool))
        self._written[name] = now
        if by_hand or under_way:
            mask = mask.copy()
            for index in under_way:
                mask[index] = now[index]
            for index, drawn in by_hand.items():
                mask[index] = drawn
        segment = self.id_of(name)
        if segment is None:
            segmentation = self.node.GetSegmentation()
            colour = COLOURS[segmentation.GetNumberOfSegments() % len(COLOURS)]
            segment = segmentation.AddEmptySegment("", name, colour)
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            np.ascontiguousarray(mask, dtype=np.uint8), self.node, segment, self._volume
        )
        self._stamps.pop(name, None)
        if not by_hand:
            self._stamps[name] = self._stamp(segment)

    def remove(self, name: str) -> None:
        """Take a segment out."""
        segment = self.id_of(name)
        self._written.pop(name, None)
        if segment is not None:
            self.node.GetSegmentation().RemoveSegment(segment)

    def mask(self, name: str) -> npt.NDArray[np.bool_]:
        """A segment's mask ``(k, j, i)`` on the volume's grid; empty where there is none of that name."""
        import slicer.util

        segment = self.id_of(name)
        if segment is None:
            return np.zeros(self.grid.shape, dtype=bool)
        labelmap = slicer.util.arrayFromSegmentBinaryLabelmap(self.node, segment, self._volume)
        return np.asarray(labelmap, dtype=bool)

    def edits(self, name: str) -> dict[int, npt.NDArray[np.bool_]]:
        """The slices of a segment that a hand changed and nobody took, with what they are now; none of one deleted."""
        segment = self.id_of(name)
        if segment is None or self._stamps.get(name) == self._stamp(segment):  # comparing a CT takes 0.2 s
            return {}
        mask, written = self.mask(name), self._written.get(name, {})
        return {
            index: now.copy()
            for index, now in enumerate(mask)
            if (now.any() if index not in written else not np.array_equal(now, written[index]))
        }

    def taken(self, name: str, edits: Mapping[int, npt.NDArray[np.bool_]]) -> None:
        """These edits of a segment are a step now."""
        self._written.setdefault(name, {}).update(edits)

    def _stamp(self, segment: str) -> int:
        """VTK's time of the last change of a segment's labelmap, or of one that shares it; times are never reused."""
        labelmap = self.node.GetSegmentation().GetSegment(segment).GetRepresentation("Binary labelmap")
        return -1 if labelmap is None else int(labelmap.GetMTime())
