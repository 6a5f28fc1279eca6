"""Which slices of an image a prompt is on."""

from __future__ import annotations

from oncoseg_core import UsageError


def parse_slices(slice_index: int | None, slices: str | None, depth: int, name: str) -> range:
    """The slices to prompt: one, ``A:B`` with both included, or ``all``.

    Raises:
        UsageError: nothing or both were said of a volume with several slices, or it has no such slices.
    """
    if slice_index is not None and slices is not None:
        raise UsageError("`slice_index` and `slices` are both given; keep one")
    if slices is None:
        if slice_index is None:
            if depth > 1:
                raise UsageError(
                    f"{name}: has {depth} slices; say on which one the prompt is: `slice_index` 0 to {depth - 1}, "
                    "or `slices` A:B or all"
                )
            slice_index = 0
        chosen = range(slice_index, slice_index + 1)
    elif slices == "all":
        chosen = range(depth)
    else:
        try:
            first, last = (int(part) for part in slices.split(":"))
        except ValueError:
            raise UsageError(f"`slices` {slices}: expected A:B, both included, such as 20:29, or all") from None
        if first > last:
            raise UsageError(f"`slices` {slices}: the first slice comes after the last; expected A:B with A <= B")
        chosen = range(first, last + 1)
    for index in (chosen[0], chosen[-1]):
        require_slice(index, depth, name)
    return chosen


def require_slice(index: int, depth: int, name: str) -> None:
    """Refuse the index of a slice that an image does not have.

    Raises:
        UsageError: with those that it has.
    """
    if not 0 <= index < depth:
        raise UsageError(f"slice {index} does not exist: {name} has slices 0 to {depth - 1}")
