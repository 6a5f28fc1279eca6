"""From what was asked for to prompts on the slices of an image; LPS mm become pixels here. Light: no torch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from oncoseg_core import (
    AnyPrompt,
    BoolArray,
    Geometry,
    Prompt,
    PromptError,
    Text,
    UsageError,
    Volume,
    check_on_slice,
)
from oncoseg_segment.prompts.slices import parse_slices, require_slice
from oncoseg_segment.prompts.structure_request import Hint, StructureRequest

Float64 = npt.NDArray[np.float64]
Corners = tuple[tuple[float, float], tuple[float, float]]

_CORNERS = np.array(list(itertools.product((0, 1), repeat=3)))
_EDGES = [(a, b) for a, b in itertools.combinations(range(8), 2) if np.abs(_CORNERS[a] - _CORNERS[b]).sum() == 1]

_TOUCH = 1e-3
"""Parts of a voxel: a box that ends so close to a slice's plane reaches it."""


@dataclass(frozen=True)
class PlacedStructure:
    """A structure with its prompt on each slice that has one, in pixels; ``propagate`` from these.

    ``drawn`` are masks ``(y, x)`` that stand as they are, by slice. ``over`` is what was followed before; on
    the slices ``settled`` nothing is new since, and its masks stand.
    """

    name: str
    prompts: Mapping[int, Prompt]
    propagate: bool
    drawn: Mapping[int, BoolArray] = field(default_factory=dict)
    over: StructureRequest | None = None
    settled: frozenset[int] = frozenset()

    @property
    def slices(self) -> list[int]:
        """The slices that have a prompt or a drawn mask."""
        return sorted({*self.prompts, *self.drawn})


def place(request: StructureRequest, volume: Volume, *, added: bool = False) -> PlacedStructure:
    """The prompts of a structure on the slices of an image.

    Hints with a z of their own count on their slices; text and hints without on all of these, or, where there are none
    with, on the slices that were chosen. A box in mm counts on every slice that passes through it, as the rectangle
    that holds its section there; one thinner than the distance of slices, that none passes through, on the nearest.

    Hints that are ``added`` to others may all be negative.

    Raises:
        PromptError: a hint lies outside the image, or there is no positive one on a slice.
        UsageError: it is not clear which slices are meant, or they do not exist.
    """
    depth, height, width = volume.geometry.shape
    if request.placed:
        return _as_placed(request, volume)
    if request.units == "mm" and not volume.physical:
        raise UsageError(f"{volume.name}: its format tells no millimetres; give pixels (`units` voxel)")
    deep = _with_their_slices(request, volume)
    if deep and (request.slice_index is not None or request.slices is not None):
        raise UsageError("coordinates with a z say which slices are meant; leave `slice_index` and `slices` out")
    chosen = sorted(deep) if deep else parse_slices(request.slice_index, request.slices, depth, volume.name)
    if request.propagate and len(chosen) > 1:
        raise UsageError("`propagate` starts from one slice; give `slice_index`, not `slices` or a box through several")
    flat = [hint.on_slice() for hint in request.hints if not hint.deep]
    prompts = {index: _in_order([*flat, *deep.get(index, [])], request.text) for index in chosen}
    for index, prompt in prompts.items():
        _check(index, prompt, height, width, added=added)
    return PlacedStructure(request.name, prompts, request.propagate)


def _check(index: int, prompt: Prompt, height: int, width: int, *, added: bool = False) -> None:
    """Refuse what a slice's prompt cannot be."""
    check_on_slice(prompt, height, width)
    if not added and not any(hint.positive for hint in prompt):
        raise PromptError(f"on slice {index} all hints say what is not meant; give one that says what is")
    for kind, several in (("box", "boxes"), ("lasso", "lassos")):
        if sum(hint.kind == kind for hint in prompt) > 1:
            raise PromptError(f"slice {index} has several {several}: a structure has one on a slice")


def _as_placed(request: StructureRequest, volume: Volume) -> PlacedStructure:
    """What a session knows of each slice, checked against the image."""
    depth, height, width = volume.geometry.shape
    prompts, drawn = {}, {}
    for one in request.placed:
        require_slice(one.index, depth, volume.name)
        if one.drawn is not None and (one.drawn.height, one.drawn.width) != (height, width):
            raise PromptError(
                f"the mask drawn on slice {one.index} is {one.drawn.width} x {one.drawn.height} pixels; "
                f"the image is {width} x {height}"
            )
        if one.prompt:
            prompts[one.index] = one.hints()
            _check(one.index, prompts[one.index], height, width)
        elif one.drawn is not None:
            drawn[one.index] = one.drawn.mask()
    before = () if request.over is None else request.over.placed
    settled = frozenset(one.index for one in request.placed if one in before)
    return PlacedStructure(request.name, prompts, request.propagate, drawn, request.over, settled)


def _with_their_slices(request: StructureRequest, volume: Volume) -> dict[int, list[AnyPrompt]]:
    """By slice, the prompts of the hints that say their slices themselves."""
    deep: dict[int, list[AnyPrompt]] = {}
    in_box: set[int] = set()
    for hint in request.hints:
        if hint.deep:
            sections = _sections(hint, volume.geometry) if request.units == "mm" else _in_voxels(hint, volume)
            for index, prompt in sections.items():
                deep.setdefault(index, []).append(prompt)
            if hint.kind == "box":
                in_box = set(sections)
    if in_box and set(deep) != in_box:
        outside = min(set(deep) - in_box)
        raise PromptError(f"a hint on slice {outside} lies outside the box, which is on {min(in_box)} to {max(in_box)}")
    return deep


def _in_order(hints: list[AnyPrompt], text: str | None) -> Prompt:
    """What points at one object first, then the text, then exemplars."""
    pointing = [hint for hint in hints if hint.points_at_object]
    others = [hint for hint in hints if not hint.points_at_object]
    return (*pointing, *([] if text is None else [Text(text)]), *others)


def _in_voxels(hint: Hint, volume: Volume) -> dict[int, AnyPrompt]:
    first, last = int(hint.points[0][2]), int(hint.points[-1][2])
    for index in (first, last):
        require_slice(index, volume.geometry.shape[0], volume.name)
    return dict.fromkeys(range(first, last + 1), hint.on_slice())


def _sections(hint: Hint, geometry: Geometry) -> dict[int, AnyPrompt]:
    """The slices that a hint in LPS mm is on, and the prompt there; the points of a line are on one slice."""
    if hint.is_block:
        return {index: hint.on_slice(corners) for index, corners in box_sections(geometry, hint).items()}
    points = np.array(hint.points)
    indices = {_nearest(float(z), geometry, hint) for z in geometry.lps_to_index(points)[:, 2]}
    if len(indices) > 1:
        raise PromptError(f"{hint.where}: is on slices {min(indices)} to {max(indices)}; give points of one slice")
    (index,) = indices
    # Onto the slice's plane straight, not along a tilted stack.
    off = (geometry.index_to_lps([(0, 0, index)])[0] - points) @ geometry.normal
    pixels = geometry.lps_to_index(points + off[:, None] * geometry.normal)[:, :2] + 0.5
    return {index: hint.on_slice([(float(x), float(y)) for x, y in pixels])}


def _nearest(z: float, geometry: Geometry, hint: Hint) -> int:
    index = round(z)
    depth = geometry.shape[0]
    if not -0.5 <= z <= depth - 0.5:
        ends = geometry.index_to_lps([(0, 0, 0), (0, 0, depth - 1)]) @ geometry.normal
        raise PromptError(
            f"{hint.where}: lies {min(abs(z + 0.5), abs(z - depth + 0.5)) * geometry.spacing[0]:.4g} mm beyond the "
            f"volume's slices, which reach over {abs(float(ends[1] - ends[0])):.4g} mm; are the numbers LPS mm?"
        )
    return min(max(index, 0), depth - 1)


def box_sections(geometry: Geometry, hint: Hint) -> dict[int, Corners]:
    """The rectangle ``(x0, y0), (x1, y1)`` in pixels around a box's section with each slice that passes through it.

    Raises:
        PromptError: the box lies beyond the slices, or has no area on any.
    """
    low, high = np.array(hint.points)
    corners = low + _CORNERS * (high - low)
    depth = geometry.shape[0]
    origins = geometry.index_to_lps([(0, 0, index) for index in range(depth)])
    places = origins @ geometry.normal
    heights = corners @ geometry.normal
    touch = _TOUCH * geometry.spacing[0]
    met = np.flatnonzero((places >= heights.min() - touch) & (places <= heights.max() + touch))
    if not met.size:
        centre = (low + high) / 2
        nearest = _nearest(float(geometry.lps_to_index([centre])[0, 2]), geometry, hint)
        corners = corners + (places[nearest] - centre @ geometry.normal) * geometry.normal
        met = np.array([nearest])
    found: dict[int, Corners] = {}
    for index in met:
        pixels = geometry.lps_to_index(_section(corners, geometry.normal, float(places[index]), touch))[:, :2] + 0.5
        (x0, y0), (x1, y1) = pixels.min(axis=0), pixels.max(axis=0)
        if x1 - x0 > _TOUCH and y1 - y0 > _TOUCH:
            found[int(index)] = ((float(x0), float(y0)), (float(x1), float(y1)))
    if not found:
        raise PromptError(f"{hint.where}: has no area on any slice")
    return found


def _section(corners: Float64, normal: Float64, place: float, touch: float) -> Float64:
    """The points ``(n, 3)`` in which a plane meets the edges of a box, whose corners within ``touch`` mm included."""
    above = corners @ normal - place
    points = [corners[index] for index in np.flatnonzero(np.abs(above) <= touch)]
    for one, other in _EDGES:
        if above[one] * above[other] < 0:
            share = above[one] / (above[one] - above[other])
            points.append(corners[one] + share * (corners[other] - corners[one]))
    return np.array(points)
