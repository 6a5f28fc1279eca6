"""Which prompts a model gets, and how a score says so. Light: no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, FiniteFloat, field_validator

from oncoseg_core import Name, PromptKind, Settings
from oncoseg_core.system import json_text

Level: TypeAlias = Literal["slice", "volume"]
"""``slice``: one prompt on each labelled slice, voxels pooled to the case; ``volume``: nobody says which slices."""

Per: TypeAlias = Literal["lesion", "target"]
"""What a prompt points at: a connected component of the target in the volume (26 neighbours), or all of the target."""

PER_LESION = ", per lesion"
"""What the provenance of prompts for each lesion ends with."""

Generator: TypeAlias = tuple[str, dict[str, Any]]
"""The name of a registered prompt generator, and its settings."""


class _Policy(Settings, ABC):
    """``level``: prompts on every labelled slice, or one on the slice where the object is largest, then followed.

    ``per``: each ``lesion`` gets a prompt of its own, or the ``target`` one for all that it has on a slice; by default
    a lesion where the dataset says that the target is one, and the target otherwise. ``kinds`` are what the model has
    to take; ``points_at_object``: the prompts are made from the reference, so that the object has to be there.
    """

    kind: str
    level: Level = "slice"
    per: Per | None = None
    kinds: ClassVar[tuple[PromptKind, ...]]
    points_at_object: ClassVar[bool] = True

    @property
    def provenance(self) -> str:
        """Where the prompts come from, as every row says it: scores that differ in it are never averaged."""
        return self.kind

    def provenance_for(self, *, each_lesion: bool) -> str:
        """The same, with what each prompt points at."""
        return self.provenance + PER_LESION * each_lesion

    @property
    @abstractmethod
    def generator(self) -> Generator | None:
        """What makes the prompts; None for clicks, which depend on the answers."""


class _Word(_Policy):
    """The target's name."""

    per: None = None
    kinds = ("text",)
    points_at_object = False

    @property
    def generator(self) -> Generator:
        """The name, never a synonym."""
        return "text", {}


class NoPrompt(_Word):
    """Nobody points at anything or says where to look: the dataset's word for the target, on every slice."""

    kind: Literal["none"]
    level: Literal["volume"] = "volume"


class Text(_Word):
    """The target's name; ``absent`` are concepts, in none of the images, that are asked for as well."""

    kind: Literal["text"]
    absent: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = ()


class GroundTruthBox(_Policy):
    """The box around the reference, ``margin_px`` wider on each side."""

    kind: Literal["gt-box"]
    margin_px: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    kinds = ("box",)

    @property
    def provenance(self) -> str:
        """With the margin, where there is one."""
        return self.kind + (f"+{self.margin_px:g}px" if self.margin_px else "")

    @property
    def generator(self) -> Generator:
        """A fixed margin."""
        return "box", {"margin_px": [self.margin_px, self.margin_px]}


class JitteredBox(_Policy):
    """The same, each side moved on its own by a number of pixels drawn from ``margin_px``, outward."""

    kind: Literal["gt-box-jittered"]
    margin_px: tuple[FiniteFloat, FiniteFloat] = (0.0, 5.0)
    kinds = ("box",)

    @field_validator("margin_px")
    @classmethod
    def _ordered(cls, margin: tuple[float, float]) -> tuple[float, float]:
        if margin[0] >= margin[1]:
            raise ValueError("a jittered margin is [lowest, highest], outward; the lowest must be below the highest")
        return margin

    @property
    def provenance(self) -> str:
        """With the range."""
        return f"{self.kind}({self.margin_px[0]:g}..{self.margin_px[1]:g}px)"

    @property
    def generator(self) -> Generator:
        """Drawn for each side."""
        return "box", {"margin_px": list(self.margin_px)}


class OnePoint(_Policy):
    """One click on the reference: in its middle, or anywhere on it."""

    kind: Literal["point"]
    where: Literal["center", "random"] = "center"
    kinds = ("point",)

    @property
    def provenance(self) -> str:
        """With the place."""
        return f"{self.kind}({self.where})"

    @property
    def generator(self) -> Generator:
        """A point."""
        return "point", {"where": self.where}


class Clicks(_Policy):
    """``n`` clicks, each in the middle of the largest error that the mask before it has."""

    kind: Literal["clicks"]
    n: Annotated[int, Field(ge=1, le=50)] = 5
    kinds = ("point",)

    @property
    def provenance(self) -> str:
        """With their number."""
        return f"{self.kind}({self.n})"

    @property
    def generator(self) -> None:
        """Each click depends on the answer to those before."""


class Generated(_Policy):
    """The prompts of any registered generator, by its ``name`` and its ``settings``; a plugin's too."""

    kind: Literal["generator"]
    name: Name
    settings: dict[str, Any] = Field(default_factory=dict)
    kinds = ()  # what the generator's record says

    @property
    def provenance(self) -> str:
        """The generator, with the settings that are not its defaults."""
        given = ", ".join(f"{key}={json_text(value)}" for key, value in sorted(self.settings.items()))
        return self.name + (f"({given})" if given else "")

    @property
    def generator(self) -> Generator:
        """Itself."""
        return self.name, self.settings


PromptPolicy: TypeAlias = Annotated[
    NoPrompt | Text | GroundTruthBox | JitteredBox | OnePoint | Clicks | Generated, Field(discriminator="kind")
]
