"""Steps of the wire as calls of the engine: each is one step there too, so that undo and redo are the engine's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from oncoseg_client import EncodedMask, decode_mask
from oncoseg_core import BoolArray
from oncoseg_segment.api import Hint, SegmentationResult, Session, StructureRequest
from oncoseg_server.sessions.refusal import Refusal
from oncoseg_server.wire import Bits, EditStep, HintMessage, PromptStep, PropagateStep, Step

Report = Callable[[int, int], None]
"""Told how far a propagation is: slices done, and of how many."""


def take(
    engine: Session, step: Step, report: Report | None, should_stop: Callable[[], bool]
) -> SegmentationResult | None:
    """Let the engine take a step; what it knows then, None after a removal.

    Raises:
        PromptError, UsageError: the step means nothing on this image, or to this model.
        Refusal: its points or its mask do not fit the slice.
        SegmentationCancelledError: ``should_stop`` said so.
    """
    if isinstance(step, PromptStep):
        return engine.add(request_of(step), replaced=step.replace)
    if isinstance(step, EditStep):
        slices = {step.slice: step.mask, **{one.slice: one.mask for one in step.more}}
        for at in slices:
            engine.fitted.require_slice(at)  # before memory is taken for its mask
        _, rows, columns = engine.fitted.volume.geometry.shape
        return engine.draw(step.structure, {at: drawn_mask(mask, rows, columns) for at, mask in slices.items()})
    if isinstance(step, PropagateStep):

        def progress(_what: str, done: int, total: int) -> None:
            if report is not None:
                report(done, total)

        return engine.propagate(step.structure, progress=progress, should_stop=should_stop)
    engine.remove(step.structure)
    return None


def known(engine: Session, should_stop: Callable[[], bool]) -> SegmentationResult | None:
    """What the engine knows; None where that is no structure at all.

    Raises:
        PromptError, UsageError: as for :func:`take`, of steps whose masks were not made yet.
        SegmentationCancelledError: ``should_stop`` said so.
    """
    return engine.result(should_stop=should_stop) if engine.structures else None


def request_of(step: PromptStep) -> StructureRequest:
    """A prompt as the engine takes it.

    Raises:
        PromptError: it has no hint and no text, or hints that cannot be meant.
        Refusal: points have too many or too few numbers.
    """
    in_mm = step.units == "mm"
    return StructureRequest(
        step.structure,
        tuple(hint_of(hint, 3 if in_mm else 2) for hint in step.hints),
        step.text,
        "mm" if in_mm else "voxel",
        step.slice,
    )


def hint_of(message: HintMessage, axes: int) -> Hint:
    """A hint as the engine takes it.

    Raises:
        Refusal: a point does not have as many numbers as ``axes``.
    """
    if {len(point) for point in message.points} != {axes}:
        form = "[x, y, z] in LPS mm (`units` mm)" if axes == 3 else "[x, y] in pixels of the slice (`units` pixel)"
        raise Refusal("prompt_refused", f"the points of a {message.kind}: expected {form}")
    numbers = tuple(number for point in message.points for number in point)
    return Hint(message.kind, numbers, message.positive, f"the {message.kind}", 3 if axes == 3 else 2)


def drawn_mask(bits: Bits, rows: int, columns: int) -> BoolArray:
    """The mask ``(y, x)`` of a whole slice from its rectangle; nothing is inflated beyond the slice's size.

    Raises:
        Refusal: the rectangle reaches beyond the slice, or its bits are not what it needs.
    """
    if bits.x + bits.width > columns or bits.y + bits.height > rows:
        raise Refusal(
            "prompt_refused",
            f"the mask's rectangle reaches to column {bits.x + bits.width} and row {bits.y + bits.height}, and the "
            f"slice has {columns} and {rows}",
        )
    try:
        part = decode_mask(EncodedMask(x=bits.x, y=bits.y, width=bits.width, height=bits.height, bits=bits.bits))
    except ValueError as error:
        raise Refusal("prompt_refused", str(error)) from error
    mask = np.zeros((rows, columns), dtype=bool)
    mask[bits.y : bits.y + bits.height, bits.x : bits.x + bits.width] = part
    return mask
