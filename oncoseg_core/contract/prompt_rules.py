"""What the path, zoom and propagation ask of a prompt of any kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from oncoseg_core.contract.prompt_rectangles import Box

PromptKind: TypeAlias = Literal["box", "point", "text", "mask", "exemplar", "scribble", "lasso"]
Place: TypeAlias = tuple[float, float]
"""x and y in continuous pixel coordinates."""
PointMap: TypeAlias = Callable[[float, float], Place]
"""Where a point is on another grid of pixels: shifted, scaled along the axes, turned by right angles or mirrored."""
MaskMap: TypeAlias = "Callable[[npt.NDArray[np.bool_]], npt.NDArray[np.bool_]]"
"""A mask ``(y, x)`` on the pixels of that other grid."""


class PromptBase:
    """The rules of a kind; those here hold for what has no place on the slice.

    ``points_at_object``: at one object, not at a kind of object. ``outlines_object``: its bounds are the object's.
    ``needs_whole_slice``: what it asks for may also lie far from it. ``corners``: the fewest and the most points that
    its classmethod ``of`` makes it of; none where it is not made of points.
    """

    __slots__ = ()
    kind: ClassVar[PromptKind]
    points_at_object: ClassVar[bool] = True
    outlines_object: ClassVar[bool] = False
    needs_whole_slice: ClassVar[bool] = False
    corners: ClassVar[tuple[int, int]] = (0, 0)

    @property
    def positive(self) -> bool:
        """Whether it shows what is looked for, not what is not meant."""
        return True

    def check_on_slice(self, height: int, width: int) -> None:
        """Refuse a place outside a slice of that size.

        Raises:
            PromptError: with the size.
        """

    def clipped(self, height: int, width: int) -> Self:  # noqa: ARG002 - for kinds that may overhang
        """What of it lies on a slice of that size; kinds that may not overhang stay as they are."""
        return self

    def moved(self, point: PointMap) -> Self:  # noqa: ARG002 - for kinds that have coordinates
        """The same on another grid of pixels, for a kind that has coordinates."""
        return self

    def mapped(self, point: PointMap, mask: MaskMap) -> Self:  # noqa: ARG002 - for kinds that are pixels
        """The same on another grid of pixels: coordinates by ``point``, masks by ``mask``."""
        return self.moved(point)

    def bounds(self) -> Box | None:
        """The box around it, which for places clicked on is that of their pixels; None where it has no place."""
        return None

    def clicks(self) -> tuple[Place, ...]:
        """The places it marks without showing how large the object is."""
        return ()

    def coordinates(self) -> dict[str, Any]:
        """What it says, as plain values for JSON."""
        return {}

    def as_record(self) -> dict[str, Any]:
        """Its kind and what it says, as plain values for JSON; of a mask without its pixels."""
        return {"kind": self.kind, **self.coordinates(), "positive": self.positive}


def outside_slice(height: int, width: int) -> str:
    """The end of a message about a place that is not on a slice of that size."""
    return f"lies outside the slice, which is {width} pixels wide and {height} high"
