"""Which prompts a model gets, and how a score says so. Light: no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, FiniteFloat, field_validator

from oncoseg_core.interfaces import Settings
from oncoseg_core.prompts import PromptKind

Level: TypeAlias = Literal["slice", "volume"]
"""``slice``: one prompt on each labelled slice, voxels pooled to the case; ``volume``: nobody says which slices."""


class _Policy(Settings):
    """``level``: prompts on every labelled slice, or one on the slice where the object is largest, then followed."""

    level: Level = "slice"

    @property
    def provenance(self) -> str:
        """Where the prompts come from, as every row says it: scores that differ in it are never averaged."""
        raise NotImplementedError

    @property
    def kinds(self) -> tuple[PromptKind, ...]:
        """What the model has to take."""
        raise NotImplementedError

    @property
    def generator(self) -> tuple[str, dict[str, Any]]:
        """The registered prompt generator and its settings."""
        raise NotImplementedError

    @property
    def points_at_object(self) -> bool:
        """Whether the prompts are made from the reference, so that the object has to be there."""
        return True


class NoPrompt(_Policy):
    """Nobody points at anything or says where to look: the dataset's word for the target, on every slice."""

    kind: Literal["none"]
    level: Literal["volume"] = "volume"

    @property
    def provenance(self) -> str:
        """How a row says it."""
        return "none"

    @property
    def kinds(self) -> tuple[PromptKind, ...]:
        """The word is a text."""
        return ("text",)

    @property
    def generator(self) -> tuple[str, dict[str, Any]]:
        """The target's name."""
        return "text", {}

    @property
    def points_at_object(self) -> bool:
        """Never."""
        return False


class Text(_Policy):
    """The target's name; ``absent`` are concepts, in none of the images, that are asked for as well."""

    kind: Literal["text"]
    absent: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = ()

    @property
    def provenance(self) -> str:
        """How a row says it."""
        return "text"

    @property
    def kinds(self) -> tuple[PromptKind, ...]:
        """A text."""
        return ("text",)

    @property
    def generator(self) -> tuple[str, dict[str, Any]]:
        """The target's name."""
        return "text", {}

    @property
    def points_at_object(self) -> bool:
        """It does not."""
        return False


class GroundTruthBox(_Policy):
    """The box around the reference, ``margin_px`` wider on each side."""

    kind: Literal["gt-box"]
    margin_px: Annotated[FiniteFloat, Field(ge=0)] = 0.0

    @property
    def provenance(self) -> str:
        """How a row says it."""
        return "gt-box" + (f"+{self.margin_px:g}px" if self.margin_px else "")

    @property
    def kinds(self) -> tuple[PromptKind, ...]:
        """A box."""
        return ("box",)

    @property
    def generator(self) -> tuple[str, dict[str, Any]]:
        """A fixed margin."""
        return "box", {"margin_px": [self.margin_px, self.margin_px]}


class JitteredBox(_Policy):
    """The same, each side moved on its own by a number of pixels drawn from ``margin_px``, outward."""

    kind: Literal["gt-box-jittered"]
    margin_px: tuple[FiniteFloat, FiniteFloat] = (0.0, 5.0)

    @field_validator("margin_px")
    @classmethod
    def _ordered(cls, margin: tuple[float, float]) -> tuple[float, float]:
        if margin[0] >= margin[1]:
            raise ValueError("a jittered margin is [lowest, highest], outward; the lowest must be below the highest")
        return margin

    @property
    def provenance(self) -> str:
        """How a row says it."""
        return f"gt-box-jittered({self.margin_px[0]:g}..{self.margin_px[1]:g}px)"

    @property
    def kinds(self) -> tuple[PromptKind, ...]:
        """A box."""
        return ("box",)

    @property
    def generator(self) -> tuple[str, dict[str, Any]]:
        """Drawn for each side."""
        return "box", {"margin_px": list(self.margin_px)}


class OnePoint(_Policy):
    """One click on the reference: in its middle, or anywhere on it."""

    kind: Literal["point"]
    where: Literal["center", "random"] = "center"

    @property
    def provenance(self) -> str:
        """How a row says it."""
        return f"point({self.where})"

    @property
    def kinds(self) -> tuple[PromptKind, ...]:
        """A point."""
        return ("point",)

    @property
    def generator(self) -> tuple[str, dict[str, Any]]:
        """A point."""
        return "point", {"where": self.where}


class Clicks(_Policy):
    """``n`` clicks, each in the middle of the largest error that the mask before it has."""

    kind: Literal["clicks"]
    n: Annotated[int, Field(ge=1, le=50)] = 5

    @property
    def provenance(self) -> str:
        """How a row says it."""
        return f"clicks({self.n})"

    @property
    def kinds(self) -> tuple[PromptKind, ...]:
        """Points."""
        return ("point",)


PromptPolicy: TypeAlias = Annotated[
    NoPrompt | Text | GroundTruthBox | JitteredBox | OnePoint | Clicks, Field(discriminator="kind")
]
