"""A file of prompts: several structures for one image, in JSON. Light: no torch, no image is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from oncoseg_core import ConfigError, PromptError, Text
from oncoseg_core.plugins import validate
from oncoseg_segment.prompts.structure_request import DrawnKind, Hint, StructureRequest, Units

LARGEST_FILE = 10_000_000
"""Bytes; a prompt has about a hundred."""

_Place = Annotated[list[FiniteFloat], Field(min_length=2, max_length=3)]
_Corners = Annotated[list[FiniteFloat], Field(min_length=4, max_length=6)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class StructureInFile(_Strict):
    """One structure; its keys are what the options of ``oncoseg segment`` are called."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    box: _Corners | None = None
    points: list[_Place] = Field(default_factory=list)
    negative_points: list[_Place] = Field(default_factory=list)
    text: str | None = None
    exemplars: list[_Corners] = Field(default_factory=list)
    negative_exemplars: list[_Corners] = Field(default_factory=list)
    scribbles: list[list[_Place]] = Field(default_factory=list)
    negative_scribbles: list[list[_Place]] = Field(default_factory=list)
    lasso: list[_Place] | None = None
    slice: int | None = None
    slices: str | None = None
    propagate: bool = False


class PromptFile(_Strict):
    """The whole file; ``units`` are those of all numbers (:class:`Hint`)."""

    units: Units = "voxel"
    structures: Annotated[list[StructureInFile], Field(min_length=1)]


def read_prompts(path: Path) -> tuple[StructureRequest, ...]:
    """The structures that a file asks for, in its order.

    Raises:
        ConfigError: it cannot be read, is no JSON, or has a key or value that is not known.
        PromptError: a prompt cannot be meant; the message says in which structure.
    """
    content = validate(PromptFile, _read_json(path), str(path))
    found = []
    for number, structure in enumerate(content.structures):
        where = f"{path}: structure {number + 1} ({structure.name!r})"
        try:
            found.append(_request(structure, content.units))
        except PromptError as error:
            raise PromptError(f"{where}: {error}") from error
    return tuple(found)


def _request(structure: StructureInFile, units: Units) -> StructureRequest:
    written: list[tuple[DrawnKind, bool, str, list[list[float]]]] = [
        ("box", True, "box", [] if structure.box is None else [structure.box]),
        ("point", True, "points", structure.points),
        ("point", False, "negative_points", structure.negative_points),
        ("exemplar", True, "exemplars", structure.exemplars),
        ("exemplar", False, "negative_exemplars", structure.negative_exemplars),
    ]
    hints = [
        Hint(kind, tuple(numbers), positive, f"{key} {numbers}")
        for kind, positive, key, several in written
        for numbers in several
    ]
    lines: list[tuple[DrawnKind, bool, str, list[list[list[float]]]]] = [
        ("scribble", True, "scribbles", structure.scribbles),
        ("scribble", False, "negative_scribbles", structure.negative_scribbles),
        ("lasso", True, "lasso", [] if structure.lasso is None else [structure.lasso]),
    ]
    hints.extend(_line(kind, points, positive, key) for kind, positive, key, several in lines for points in several)
    if not hints and structure.text is None:
        raise PromptError("no prompt was given: expected box, points, text or exemplars")
    return StructureRequest(
        name=structure.name,
        hints=tuple(hints),
        text=None if structure.text is None else Text(structure.text).text,
        units=units,
        slice_index=structure.slice,
        slices=structure.slices,
        propagate=structure.propagate,
    )


def _line(kind: DrawnKind, points: list[list[float]], positive: bool, key: str) -> Hint:
    axes = {len(point) for point in points}
    numbers = tuple(number for point in points for number in point) if len(axes) == 1 else ()
    return Hint(kind, numbers, positive, f"{key} {points}", axes=3 if 3 in axes else 2)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ConfigError(f"{path}: is larger than {LARGEST_FILE // 1_000_000} MB; expected a file of prompts")
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; expected a readable JSON file") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: not valid JSON, line {error.lineno}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not text in UTF-8; expected JSON") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply") from error
    except _TwiceError as error:
        raise ConfigError(f"{path}: key {error.args[0]!r} is given twice; keep one") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected {{'structures': […]}}, found {type(content).__name__}")
    return content


class _TwiceError(ValueError):
    """A key stands twice in one object, of which plain JSON keeps the last silently."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _TwiceError(key)
        found[key] = value
    return found
