"""The training configuration: every key is read by the trainer, every default stands here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from oncoseg_core import ConfigError, Fit, Name, Settings
from oncoseg_core.path import ChannelChoice
from oncoseg_core.plugins import apply_overrides, built_in_names, find_config, read_yaml, validate
from oncoseg_lora import LoraSettings
from oncoseg_trainer.config.data_settings import AugmentationSettings, DataSettings, LabelledSampling, SamplingSettings
from oncoseg_trainer.config.prompt_settings import ComponentChoice, PromptSettings
from oncoseg_trainer.config.training_settings import DECIDES, OptimisationSettings

ALWAYS_TRACKED = ("jsonl", "html")
"""Trackers of every run, named or not: whether a run leaves its numbers must not hang on a forgotten line."""


class TrainSettings(Settings):
    """A whole run.

    ``output`` is the run's folder; ``normalizers`` holds settings by modality, ``channels`` which three channels of an
    image are taken, by modality (a mode, names or indices), ``fit`` how a slice fills the model's square. ``trackers``
    are names, or names with settings. ``start_from`` is the folder of an adapter whose weights training starts from,
    all else being fresh. ``phase`` goes to the trackers: the part of a chain that the run is.
    """

    name: Name
    seed: Annotated[int, Field(ge=0)] = 0
    output: Path
    data: DataSettings
    sampling: SamplingSettings = LabelledSampling()
    augmentation: AugmentationSettings = AugmentationSettings()
    normalizers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    channels: dict[str, ChannelChoice] = Field(default_factory=dict)
    fit: Fit = "letterbox"
    model: ComponentChoice
    start_from: Path | None = None
    phase: str | None = None
    lora: LoraSettings = LoraSettings()
    loss: ComponentChoice = ComponentChoice(name="dice-focal")
    prompts: PromptSettings = PromptSettings()
    training: OptimisationSettings = OptimisationSettings()
    metrics: tuple[Name, ...] = Field(default=("dice", "iou"), min_length=1)
    trackers: tuple[ComponentChoice, ...] = tuple(ComponentChoice(name=name) for name in ALWAYS_TRACKED)

    @field_validator("trackers", mode="before")
    @classmethod
    def _trackers_by_name(cls, given: Any) -> Any:
        if not isinstance(given, list | tuple):
            return given
        return [{"name": choice} if isinstance(choice, str) else choice for choice in given]

    @field_validator("trackers")
    @classmethod
    def _all_trackers_once(cls, choices: tuple[ComponentChoice, ...]) -> tuple[ComponentChoice, ...]:
        names = [choice.name for choice in choices]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"tracker {name!r} is named twice; keep one")
        return (*(ComponentChoice(name=name) for name in ALWAYS_TRACKED if name not in names), *choices)

    @model_validator(mode="after")
    def _decisions_need_validation(self) -> TrainSettings:
        if not self.training.needs_validation:
            return self
        if self.data.validation_split is None:
            raise ValueError(
                "training.early_stopping and training.keep: best go by the Dice of validation cases, and there are "
                "none; name their side, such as data.validation_split: validation, and where the dataset has no such "
                "side, make one, such as data.split: {how: made, fractions: {train: 0.7, validation: 0.1, test: 0.2}}. "
                "The cases of the final scores never decide"
            )
        if DECIDES not in self.metrics:
            raise ValueError(f"training.early_stopping and training.keep: best need {DECIDES!r} among the metrics")
        return self


def read_config(config: str) -> tuple[dict[str, Any], str]:
    """The keys of a configuration, unchecked, and what to call it: a YAML file, or the name of a built-in one.

    Raises:
        ConfigError: there is no such file or name, or it is no YAML.
    """
    path, where = find_config(config, __package__, "configuration")
    return read_yaml(path), where


def load_settings(config: str, overrides: list[str]) -> TrainSettings:
    """Read a configuration: a YAML file, or the name of a built-in one, with ``a.b=value`` overrides.

    Raises:
        ConfigError: no such file or name, an unknown key (the nearest is named), or a wrong value.
    """
    values, where = read_config(config)
    values = apply_overrides(values, overrides)
    data = values.get("data")
    if config in built_in_names(__package__) and isinstance(data, dict) and not data.keys() & {"dataset", "datasets"}:
        raise ConfigError(
            f"{where} leaves the data to you: --set data.dataset=NAME --set data.root=DIR (or data.prepared=DIR); "
            "oncoseg datasets list has the names"
        )
    return validate(TrainSettings, values, where)
