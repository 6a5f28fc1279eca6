"""Which three channels of an image a model sees.

Models take three channels. An image of one is repeated, one of two has its second channel repeated, one of three is
taken as it is. An image of more needs a choice: a mode of its modality (``t1_t1gd_flair``), names, or indices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from oncoseg_core.contract.errors import DataError, close_matches
from oncoseg_core.contract.records import NormalizerSpec

ChannelChoice: TypeAlias = str | tuple[int | str, ...]
"""A mode's name, or one to three channels by index (from 0) or by name."""


def choose_channels(
    choice: ChannelChoice | None,
    spec: NormalizerSpec | None,
    count: int,
    names: Sequence[str] = (),
    image: str = "the image",
) -> tuple[int, int, int]:
    """The indices of the three channels that a model sees.

    A name is never guessed: it is looked up among the image's own channel names, by the spellings that the modality
    knows. Only a mode may do without them, for an image of as many channels as the modality's usual order has, which
    whoever asks for the mode thereby vouches for.

    Args:
        choice: a mode, names or indices; None chooses as said above, and the modality's first mode for an image whose
            channels have names and are more than three.
        spec: the modality's record; None for an image of mixed modalities, which has no modes.
        count: how many channels the image has.
        names: the names of its channels in their order, if they have any.
        image: its name, for messages.

    Raises:
        DataError: the image has no such channels, or its channels have no names, or it is not said which to take.
    """
    if choice is None:
        if count <= 3:
            return _three(tuple(range(count)))
        if not names or spec is None or not spec.channel_modes:
            raise DataError(f"{image}: has {count} channels{_named(names)}; say which three: {_examples(spec)}")
        choice = next(iter(spec.channel_modes))
    if isinstance(choice, str):
        return _mode(choice, spec, count, names, image)
    if not 1 <= len(choice) <= 3:
        raise DataError(f"channels {list(choice)}: expected one to three channels, found {len(choice)}")
    return _three(tuple(_index(one, spec, count, names, image) for one in choice))


def parse_channels(text: str) -> ChannelChoice:
    """``2,0,1`` as indices; a single word as the name of a mode."""
    parts = tuple(part.strip() for part in text.split(","))
    if len(parts) == 1 and not parts[0].isdigit():
        return parts[0]
    return tuple(int(part) if part.isdigit() else part for part in parts)


def _mode(mode: str, spec: NormalizerSpec | None, count: int, names: Sequence[str], image: str) -> tuple[int, int, int]:
    modes = {} if spec is None else spec.channel_modes
    if spec is None or mode not in modes:
        raise DataError(f"unknown channel mode {mode!r}{close_matches(mode, modes)}")
    if not names:
        order = spec.channel_order
        if count != len(order):
            raise DataError(
                f"{image}: has {count} channels without names; the mode {mode!r} expects {len(order)}, in the order "
                f"{', '.join(order)}: name the channels, or choose them by index"
            )
        names = order
    first, second, third = (_index(name, spec, count, names, image) for name in modes[mode])
    return (first, second, third)


def _index(one: int | str, spec: NormalizerSpec | None, count: int, names: Sequence[str], image: str) -> int:
    if isinstance(one, int):
        if not 0 <= one < count:
            raise DataError(f"{image}: has no channel {one}; it has {count}, counted from 0")
        return one
    if not names:
        raise DataError(
            f"{image}: its channels have no names, so {one!r} cannot be found; choose channels by index, "
            "or have the dataset name them"
        )
    wanted = canonical_name(one, spec)
    found = [index for index, name in enumerate(names) if canonical_name(name, spec) == wanted]
    if len(found) != 1:
        problem = f"has {len(found)} channels" if found else "has no channel"
        raise DataError(f"{image}: {problem} {one!r}{_named(names)}{close_matches(one, names) if not found else ''}")
    return found[0]


def canonical_name(name: str, spec: NormalizerSpec | None) -> str:
    """The modality's own name for a channel, whatever its spelling; an unknown one in small letters."""
    small = name.lower()
    for canonical, spellings in ({} if spec is None else spec.channel_names).items():
        if small == canonical or small in spellings:
            return canonical
    return small


def _three(indices: tuple[int, ...]) -> tuple[int, int, int]:
    """Three of one, two or three: the last is repeated."""
    first, second, third = (indices[min(position, len(indices) - 1)] for position in range(3))
    return (first, second, third)


def _named(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})" if names else " without names"


def _examples(spec: NormalizerSpec | None) -> str:
    modes = [] if spec is None else [f"channels: {mode}" for mode in spec.channel_modes]
    return " or ".join([*modes, "channels: [0, 1, 2]"])
