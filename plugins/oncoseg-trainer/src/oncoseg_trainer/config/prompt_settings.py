"""The part of the configuration that is about prompts: which kinds are drawn in training, and with which one scores."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, field_validator

from oncoseg_core import Name, Settings


class ComponentChoice(Settings):
    """A registered component by name, with its settings."""

    name: Name
    settings: dict[str, Any] = Field(default_factory=dict)


class TrainPrompts(ComponentChoice):
    """One kind of prompt in training: its generator, and its part of the samples.

    ``share`` is in proportion to the other kinds. ``clicks``, of points: the model's answer to the first click is
    corrected by up to so many clicks in all, each in the middle of the largest error that is left; how many is drawn
    for each sample, each number alike.
    """

    share: Annotated[FiniteFloat, Field(gt=0)] = 1.0
    clicks: Annotated[int, Field(ge=1, le=20)] = 1


class HardNegatives(Settings):
    """Text prompts for what is not there, so that a model learns to tell words apart.

    A share ``rate`` of the samples asks for another target of the case that is empty on the slice, or for one of
    ``names``, which the user vouches are in none of the images; the answer is empty. Without either the sample stays.
    """

    rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    names: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = ()


class Sequences(Settings):
    """Neighbouring slices in one sample, for a model that follows objects with a tracker of its own.

    A ``share`` of the samples whose prompt points at an object that is there goes on to the next ``length - 1`` slices,
    up or down, as far as the volume goes; not of a weak annotation, which may be on one slice of an object that goes
    on. All slices of such a sample together weigh as much as any other sample.
    """

    share: Annotated[float, Field(ge=0, le=1)] = 0.0
    length: Annotated[int, Field(ge=2, le=32)] = 4


class PromptSettings(Settings):
    """How prompts are made from the reference masks, in training and for scoring.

    ``train``: one kind of prompt, or a list of several with their shares. ``per``: each ``lesion`` of a slice gets a
    prompt of its own, or the ``target`` one for all that it has there. By default a prompt is for a lesion where the
    dataset says that the target is one, and for the target otherwise.
    """

    train: Annotated[tuple[TrainPrompts, ...], Field(min_length=1)] = (
        TrainPrompts(name="box", settings={"margin_px": [0, 4]}),
    )
    score: ComponentChoice = ComponentChoice(name="box", settings={"margin_px": [2, 2]})
    per: Literal["lesion", "target"] | None = None
    hard_negatives: HardNegatives = HardNegatives()
    sequences: Sequences = Sequences()

    @field_validator("train", mode="before")
    @classmethod
    def _one_is_a_list(cls, given: Any) -> Any:
        return given if isinstance(given, list | tuple) else [given]
