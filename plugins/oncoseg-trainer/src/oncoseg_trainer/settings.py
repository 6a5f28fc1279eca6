"""The training configuration: every key is read by the trainer, every default stands here."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from oncoseg_core.channels import ChannelChoice
from oncoseg_core.config import apply_overrides, read_yaml, validate
from oncoseg_core.errors import ConfigError, close_matches
from oncoseg_core.interfaces import Settings
from oncoseg_core.lora_settings import LoraSettings
from oncoseg_core.records import Name
from oncoseg_trainer.data_settings import AugmentationSettings, DataSettings, LabelledSampling, SamplingSettings


class ComponentChoice(Settings):
    """A registered component by name, with its settings."""

    name: Name
    settings: dict[str, Any] = Field(default_factory=dict)


class HardNegatives(Settings):
    """Text prompts for what is not there, so that a model learns to tell words apart.

    A share ``rate`` of the samples asks for another target of the case that is empty on the slice, or for one of
    ``names``, which the user vouches are in none of the images; the answer is empty. Without either the sample stays.
    """

    rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    names: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = ()


class PromptSettings(Settings):
    """How prompts are made from the reference masks, in training and for scoring."""

    train: ComponentChoice = ComponentChoice(name="box", settings={"margin_px": [0, 4]})
    score: ComponentChoice = ComponentChoice(name="box", settings={"margin_px": [2, 2]})
    hard_negatives: HardNegatives = HardNegatives()


class OptimisationSettings(Settings):
    """The training loop. ``batch_size`` is per process and micro-step; weight decay spares vectors (norms, biases).

    ``workers`` are processes, per process of the run, that make samples ready ahead; with 0 it does so itself.
    ``loss_at`` is where the masks are compared: on the model's ``input``, to which smaller logits are scaled, or on its
    ``logits``.
    """

    epochs: Annotated[int, Field(ge=1)] = 4
    batch_size: Annotated[int, Field(ge=1)] = 1
    accumulation: Annotated[int, Field(ge=1)] = 1
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-4
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_every: Annotated[int, Field(ge=1, description="optimizer steps")] = 10
    score_every_epoch: bool = True
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    loss_at: Literal["input", "logits"] = "input"


class TrainSettings(Settings):
    """A whole run.

    ``output`` is the run's folder; ``normalizers`` holds settings by modality, ``channels`` which three channels of an
    image are taken, by modality (a mode, names or indices).
    """

    name: Name
    seed: Annotated[int, Field(ge=0)] = 0
    output: Path
    data: DataSettings
    sampling: SamplingSettings = LabelledSampling()
    augmentation: AugmentationSettings = AugmentationSettings()
    normalizers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    channels: dict[str, ChannelChoice] = Field(default_factory=dict)
    model: ComponentChoice
    lora: LoraSettings = LoraSettings()
    loss: ComponentChoice = ComponentChoice(name="dice-focal")
    prompts: PromptSettings = PromptSettings()
    training: OptimisationSettings = OptimisationSettings()
    metrics: tuple[Name, ...] = Field(default=("dice", "iou"), min_length=1)
    trackers: tuple[Name, ...] = ("jsonl", "html")

    @model_validator(mode="after")
    def _html_needs_jsonl(self) -> TrainSettings:
        if "html" in self.trackers and "jsonl" not in self.trackers:
            raise ValueError("the html report draws its curves from the jsonl tracker: name both, or neither")
        return self


def built_in_names() -> list[str]:
    """The configurations that come with the trainer."""
    folder = resources.files("oncoseg_trainer") / "configs"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_settings(config: str, overrides: list[str]) -> TrainSettings:
    """Read a configuration: a YAML file, or the name of a built-in one, with ``a.b=value`` overrides.

    Raises:
        ConfigError: no such file or name, an unknown key (the nearest is named), or a wrong value.
    """
    if config in built_in_names():
        path = Path(str(resources.files("oncoseg_trainer") / "configs" / f"{config}.yaml"))
        where = f"configuration {config!r}"
    else:
        path = Path(config)
        where = config
        if not path.exists():
            near = close_matches(config, built_in_names())
            raise ConfigError(f"{config}: no such file, and no built-in configuration of that name{near}")
    return validate(TrainSettings, apply_overrides(read_yaml(path), overrides), where)
