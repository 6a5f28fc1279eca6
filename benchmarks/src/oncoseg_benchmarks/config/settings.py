"""The configuration of a benchmark: every key is read by a run, every default stands here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from oncoseg_benchmarks.config.prompt_settings import PromptPolicy, Text
from oncoseg_benchmarks.table.rows import DESCRIPTION
from oncoseg_core import Fit, Name, Settings
from oncoseg_core.data import OfficialSplit, SplitSettings
from oncoseg_core.path import ChannelChoice
from oncoseg_core.plugins import apply_overrides, find_config, read_yaml, validate

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+@-]*$", max_length=64)]
"""What rows call a model. No colon: ``floor:`` and ``ceiling:`` are the built-in references."""


class ModelChoice(Settings):
    """A registered model, with an adapter or without.

    ``adapter`` is an adapter's folder or the name of a pulled one. ``zoom`` shows the model a window around small
    objects, by the settings of :mod:`oncoseg_core.path.zoom`; none when omitted. ``fit`` is how a slice fills the
    model's square: as the adapter was trained, or ``letterbox`` without one, when omitted. ``structures`` says which
    structure of an automatic model a target is, where they are not called alike. ``label`` is what the rows call it: by
    default its name, and the adapter's folder where it has one.
    """

    name: Name
    settings: dict[str, Any] = Field(default_factory=dict)
    adapter: Path | None = None
    zoom: dict[str, Any] | None = None
    fit: Fit | None = None
    structures: dict[str, str] = Field(default_factory=dict)
    label: Label | None = None

    @property
    def display_name(self) -> str:
        """What rows call it."""
        if self.label is not None:
            return self.label
        parts = [
            self.name,
            *([self.adapter.name] if self.adapter else []),
            *(["zoom"] if self.zoom is not None else []),
            *(["stretch"] if self.fit == "stretch" else []),
        ]
        return "+".join(parts)


class PublishedScore(Settings):
    """A score that somebody published on the dataset, shown beside ours and never mixed with it."""

    source: Annotated[str, Field(min_length=1)]
    dice: Annotated[float, Field(ge=0, le=1)] | None = None
    iou: Annotated[float, Field(ge=0, le=1)] | None = None
    how: str = ""


class BenchDataset(Settings):
    """Which labelled cases of a dataset are scored.

    ``root`` is its folder; without it and without a ``data_root`` the dataset is fetched, where that can be done.
    ``side`` is that of the ``split``, by default the official one; ``all`` takes every labelled case. ``targets``
    chooses among the dataset's; all when empty. ``limit`` takes that many cases, chosen by the seed. ``optional``
    leaves the dataset out, and tells so, where its folder is not there. ``leave_out`` are ids of cases that are not
    scored, ``leave_out_bad`` leaves out all that cannot be used, and tells which; without it such a case is refused
    unless ``leave_out`` names it. ``reference`` is somebody else's score on it.
    """

    name: Name
    root: Path | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    side: Literal["all", "train", "validation", "test"] = "all"
    split: SplitSettings | None = None
    targets: tuple[str, ...] = ()
    limit: Annotated[int, Field(ge=1)] | None = None
    optional: bool = False
    leave_out: tuple[str, ...] = ()
    leave_out_bad: bool = False
    reference: PublishedScore | None = None

    @model_validator(mode="after")
    def _split_has_a_side(self) -> BenchDataset:
        if self.side == "all" and self.split is not None:
            raise ValueError(
                f"dataset {self.name!r} has a split but no side, and all its cases would be scored; add side: test, or "
                "leave out the split"
            )
        return self

    @property
    def chosen_split(self) -> SplitSettings:
        """The one that ``side`` is of."""
        return self.split or OfficialSplit()


class Grid(Settings):
    """The sides, in pixels, of a model's square input and of the logits that it answers with; how slices fill it."""

    input: Annotated[int, Field(ge=8, le=4096)]
    logits: Annotated[int, Field(ge=8, le=4096)]
    fit: Fit = "letterbox"


class References(Settings):
    """What stands in the table besides the models.

    ``floors``: one that returns the box it was given, and one that finds nothing. ``ceilings``: the reference mask
    brought to each model's logits and back, and for a model that zooms in its windows too; ``grids`` are further sizes.
    """

    floors: bool = True
    ceilings: bool = True
    grids: tuple[Grid, ...] = ()


class Statistics(Settings):
    """``draws`` of the bootstrap, the confidence ``level``, the paired ``test`` between models, on ``metric``."""

    draws: Annotated[int, Field(ge=100)] = 2000
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    test: Literal["wilcoxon", "permutation"] = "wilcoxon"
    metric: Name = "dice"


class BenchSettings(Settings):
    """A whole benchmark.

    ``output`` is the run's folder; ``data_root`` holds a folder for each dataset without a ``root``, by its name.
    ``metrics`` are names with their settings. ``propagation`` are the settings by which an object is followed through
    a volume (:mod:`oncoseg_segment.engine.propagation`). ``leakage``: refuse to score what an adapter has certainly
    seen, or mark
    such scores. ``normalizers`` and ``channels`` are by modality, for models without an adapter: those have their own.
    ``pictures`` is how many of the best and worst cases the report shows.
    """

    name: Name
    seed: Annotated[int, Field(ge=0)] = 0
    output: Path
    data_root: Path | None = None
    models: tuple[ModelChoice, ...] = Field(min_length=1)
    datasets: tuple[BenchDataset, ...] = Field(min_length=1)
    prompts: tuple[PromptPolicy, ...] = Field(min_length=1)
    metrics: dict[Name, dict[str, Any]] = Field(min_length=1)
    references: References = References()
    propagation: dict[str, Any] = Field(default_factory=dict)
    normalizers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    channels: dict[str, ChannelChoice] = Field(default_factory=dict)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    leakage: Literal["refuse", "mark"] = "refuse"
    statistics: Statistics = Statistics()
    pictures: Annotated[int, Field(ge=0, le=20)] = 3

    @field_validator("prompts", mode="before")
    @classmethod
    def _by_kind(cls, given: Any) -> Any:
        if not isinstance(given, list | tuple):
            return given
        return [{"kind": choice} if isinstance(choice, str) else choice for choice in given]

    @field_validator("metrics", mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        if isinstance(given, list | tuple):
            return {name: {} for name in given}
        return {name: settings or {} for name, settings in given.items()} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _each_once(self) -> BenchSettings:
        for what, names in (
            ("models: two are called", [model.display_name for model in self.models]),
            ("datasets: named twice:", [dataset.name for dataset in self.datasets]),
            ("prompts: asked for twice:", self._prompt_names(lesion=False)),
            ("prompts: asked for twice:", self._prompt_names(lesion=True)),
        ):
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(
                        f"{what} {name!r}; keep one" + (", or give it a label" if "models" in what else "")
                    )
        for name in self.metrics:
            if name in DESCRIPTION:
                raise ValueError(f"metric {name!r} has the name of another column of the table")
        if self.statistics.metric not in self.metrics:
            raise ValueError(
                f"models are compared by statistics.metric, {self.statistics.metric!r}, which is not among the metrics "
                f"({', '.join(self.metrics)}): add it, or set statistics.metric to one of them"
            )
        return self

    def _prompt_names(self, *, lesion: bool) -> list[str]:
        """What rows will call the prompts of a target that is a lesion, or of one that is none."""
        return [
            policy.provenance_for(each_lesion=(policy.per == "lesion" or (lesion and policy.per is None)))
            + f" ({policy.level})"
            for policy in self.prompts
            if policy.points_at_object or not lesion
        ]

    @property
    def absent(self) -> tuple[str, ...]:
        """Concepts that the user vouches are in no image."""
        return tuple(dict.fromkeys(name for each in self.prompts if isinstance(each, Text) for name in each.absent))


def load_settings(config: str, overrides: list[str]) -> BenchSettings:
    """Read a configuration: a YAML file, or the name of a built-in one, with ``a.b=value`` overrides.

    Raises:
        ConfigError: no such file or name, an unknown key (the nearest is named), or a wrong value.
    """
    path, where = find_config(config, __package__, "benchmark")
    return validate(BenchSettings, apply_overrides(read_yaml(path), overrides, example="seed=1"), where)
