"""The part of the configuration that is about data: datasets, split, weak annotations, sampling, augmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from oncoseg_core import Name, Settings, Split
from oncoseg_core.data import FileSplit, OfficialSplit, SplitSettings

Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class DatasetChoice(Settings):
    """One dataset.

    ``root`` is its folder; without it the dataset is fetched, where that can be done. ``prepared`` is a prepared store
    instead, which knows its root and its adapter's settings. ``targets`` chooses among the dataset's targets; all of
    them when empty. ``side`` takes all labelled cases for one purpose, whatever ``data.split`` says. Of a ``replayed``
    dataset the cases to train on are used, and none is scored. ``leave_out`` are ids of cases that are not used.
    """

    dataset: Name
    root: Path | None = None
    prepared: Path | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    targets: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    side: Literal["train", "validation", "score"] | None = None
    replayed: bool = False

    @model_validator(mode="after")
    def _prepared_knows_the_rest(self) -> DatasetChoice:
        if self.prepared is not None and (self.root is not None or self.settings):
            raise ValueError("a prepared store has its own root and settings: give either prepared, or the others")
        return self


class WeakChoice(Settings):
    """How weak annotations are trained on: boxes, RECIST axes, image classes.

    ``shape`` of the target on each slice: the ``box`` around what the adapter made of the annotation, filled, or that
    as it is ``drawn``. ``weight`` multiplies the loss of these samples.
    """

    shape: Literal["box", "drawn"] = "box"
    weight: Annotated[float, Field(gt=0, le=1)]


class DataSettings(Settings):
    """Which cases are trained on and scored.

    Either one dataset, by the keys of :class:`DatasetChoice`, or several as ``datasets``. ``train_split`` and
    ``score_split`` are the sides of the ``split`` that are used; the scores before and after are taken on the latter.
    ``validation_split`` is a third, scored after each epoch, for what is decided by scores. ``weak`` allows, by
    dataset, training on annotations that are no masks. ``allow_leakage`` lets a run go on that scores what it was
    trained on, and marks its results. ``leave_out_bad`` leaves out all cases that cannot be used or read, and says
    which; without it such a case is refused unless ``leave_out`` names it.
    """

    dataset: Name | None = None
    root: Path | None = None
    prepared: Path | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    targets: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    datasets: tuple[DatasetChoice, ...] = ()
    train_split: Split = "train"
    score_split: Split = "test"
    validation_split: Split | None = None
    split: SplitSettings = OfficialSplit()
    weak: dict[Name, WeakChoice] = Field(default_factory=dict)
    allow_leakage: bool = False
    leave_out_bad: bool = False

    @property
    def chosen(self) -> tuple[DatasetChoice, ...]:
        """The datasets, in either form."""
        if self.dataset is None:
            return self.datasets
        return (
            DatasetChoice(
                dataset=self.dataset,
                root=self.root,
                prepared=self.prepared,
                settings=self.settings,
                targets=self.targets,
                leave_out=self.leave_out,
            ),
        )

    @model_validator(mode="after")
    def _one_form(self) -> DataSettings:
        if (self.dataset is None) == (not self.datasets):
            raise ValueError("give either one dataset (dataset, root, …) or several (datasets)")
        if self.datasets and (self.root or self.prepared or self.settings or self.targets or self.leave_out):
            raise ValueError("root, prepared, settings, targets and leave_out stand with each of the datasets")
        names = [choice.dataset for choice in self.chosen]  # also checks the single form
        if len(set(names)) < len(names):
            raise ValueError("a dataset is named twice in datasets")
        if self.train_split == self.score_split:
            raise ValueError("train_split and score_split are the same side")
        if self.validation_split in (self.train_split, self.score_split):
            raise ValueError("validation_split is a side of its own: not that of train_split or score_split")
        if self.validation_split is None and any(choice.side == "validation" for choice in self.datasets):
            raise ValueError("side: validation needs a validation_split")
        if isinstance(self.split, FileSplit) and any(choice.side for choice in self.datasets):
            raise ValueError("a frozen split says the side of every case: leave side out of datasets")
        return self


class LabelledSampling(Settings):
    """Every labelled slice once in an epoch, in an order of its own in each."""

    mode: Literal["labelled"] = "labelled"


class ForegroundSampling(Settings):
    """Slices drawn at random, with replacement (:class:`oncoseg_trainer.data.sampling.ForegroundSampler` has the law).

    ``foreground_share`` of the samples are slices with the target, the others any slice of the case. Several datasets
    are mixed in proportion to their labelled slices to the power of 1 / ``temperature``, but for those whose part of
    the samples ``shares`` says. ``samples_per_epoch`` is by default as many as let the datasets without a share come to
    their number of labelled slices (all datasets, where each has a share).
    """

    mode: Literal["foreground"]
    foreground_share: Share = 0.8
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    shares: dict[Name, Annotated[float, Field(gt=0, lt=1)]] = Field(default_factory=dict)
    samples_per_epoch: Annotated[int, Field(ge=1)] | None = None


SamplingSettings: TypeAlias = Annotated[LabelledSampling | ForegroundSampling, Field(discriminator="mode")]


class AugmentationSettings(Settings):
    """Spatial changes of image and mask together; none by default.

    ``flip_horizontal`` and ``flip_vertical`` are probabilities. Angles are uniform within ± ``rotate_degrees``, scales
    within 1 ± ``scale``. ``elastic_px`` is the standard deviation, in pixels of the model's input, by which the nodes
    of a grid of 32 pixels are moved.
    """

    flip_horizontal: Share = 0.0
    flip_vertical: Share = 0.0
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    elastic_px: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
