"""Steps of the wire as the engine's requests. The state of a session is the list of steps; nothing else is kept."""

from __future__ import annotations

from collections.abc import Sequence

from oncoseg_segment.api import Hint, StructureRequest
from oncoseg_server.sessions.refusal import Refusal
from oncoseg_server.web.schemas import HintMessage, PromptStep, PropagateStep, RemoveStep, Step


def structure_after(steps: Sequence[Step], name: str) -> StructureRequest | None:
    """A structure with all hints that steps have given it since it was last taken out; None where there are none.

    Raises:
        PromptError: the hints mean nothing.
        Refusal: a step is of a kind that is not served yet.
    """
    hints: list[Hint] = []
    text: str | None = None
    slice_index: int | None = None
    units, propagate = "pixel", False
    for step in steps:
        if step.structure != name:
            continue
        if isinstance(step, RemoveStep):
            hints, text, slice_index, propagate = [], None, None, False
        elif isinstance(step, PropagateStep):
            propagate = True
        elif isinstance(step, PromptStep):
            if step.replace:
                hints, text = [], None
            hints += [hint_of(hint, step) for hint in step.hints]
            text, slice_index, units, propagate = step.text or text, step.slice, step.units, False
        else:
            raise Refusal("not_implemented", "hand edits are not served yet")
    if not hints and text is None:
        return None
    return StructureRequest(
        name,
        tuple(hints),
        text,
        "mm" if units == "mm" else "voxel",
        slice_index if units == "pixel" else None,
        propagate=propagate,
    )


def hint_of(message: HintMessage, step: PromptStep) -> Hint:
    """A hint as the engine takes it."""
    axes = {len(point) for point in message.points}
    expected = 3 if step.units == "mm" else 2
    if axes != {expected}:
        form = "[x, y, z] in LPS mm" if expected == 3 else "[x, y] in pixels of the slice"
        raise Refusal("prompt_refused", f"a {message.kind} of {step.structure!r}: expected points {form}")
    numbers = tuple(number for point in message.points for number in point)
    return Hint(message.kind, numbers, message.positive, f"the {message.kind}", 3 if expected == 3 else 2)
