"""The part of the configuration that is about the training loop: optimizer, precision, epochs, validation."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from oncoseg_core import Settings
from oncoseg_core.inference import Precision

NotNegative: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count: TypeAlias = Annotated[int, Field(ge=1)]

DECIDES = "dice"
"""The metric by which epochs are compared."""

EPOCHS_BY_CASES = {0: 50, 50: 30, 200: 20, 450: 17, 1001: 15}
"""From so many training cases on, so many epochs. The paper's Table 6 has 50 below 50 cases, 30 from 50 to 200, 15 to
20 from 200 to 1000, and 15 above. Its one range is told apart here at 450, about the geometric middle of 200 and 1000.
"""


class ConstantSchedule(Settings):
    """The learning rate stays as it is."""

    name: Literal["constant"] = "constant"


class CosineWarmRestarts(Settings):
    """The learning rate falls along a cosine to ``minimum``, and starts again at its height (SGDR, Loshchilov 2017).

    The first fall takes ``first_epochs`` epochs, each later one ``factor`` times as many as the one before. The rate
    is set for every optimizer step, in fractions of an epoch. It is torch's ``CosineAnnealingWarmRestarts``.
    """

    name: Literal["cosine-warm-restarts"]
    first_epochs: Count = 5
    factor: Count = 2
    minimum: NotNegative = 0.0


ScheduleSettings: TypeAlias = Annotated[ConstantSchedule | CosineWarmRestarts, Field(discriminator="name")]


class EarlyStopping(Settings):
    """End after ``patience`` epochs in a row none of which beat the best validation Dice by more than ``min_delta``."""

    patience: Count = 10
    min_delta: NotNegative = 0.0


class DdpSettings(Settings):
    """How several processes put their gradients together (torch's DistributedDataParallel).

    ``find_unused_parameters`` lets a step leave weights without a gradient, as prompts do with parts of a decoder.
    ``static_graph`` promises that every step uses the same weights, which is faster; it takes the other's place.
    """

    find_unused_parameters: bool = True
    static_graph: bool = False

    @model_validator(mode="after")
    def _one_of_them(self) -> DdpSettings:
        if self.static_graph and self.find_unused_parameters:
            raise ValueError("static_graph takes the place of find_unused_parameters: set that to false")
        return self


class OptimisationSettings(Settings):
    """The training loop. ``batch_size`` is per process and micro-step.

    ``epochs`` is a number, or ``auto``: that which ``epochs_by_cases`` has for the number of training cases.
    ``precision`` is that of the model's forward pass, in training and scoring; weights and losses are float32.
    ``learning_rate``, ``betas`` and ``weight_decay`` are AdamW's; weight decay spares vectors (norms, biases).
    ``clip_norm`` bounds the norm of the gradient; 0 is no bound. ``ema_decay`` keeps a moving average of the trained
    weights, which is scored and saved in their place. ``keep`` says whose weights are scored and saved at the end:
    those of the ``last`` epoch, or of the one that was ``best`` on the validation cases.
    ``base_dropout`` switches on the dropout and DropPath of the base model, in its frozen parts and in those that are
    trained whole; that of LoRA is ``lora.dropout``.
    ``workers`` are processes, per process of the run, that make samples ready ahead; with 0 it does so itself.
    ``loss_at`` is where the masks are compared: on the model's ``input``, to which smaller logits are scaled, or on its
    ``logits``.
    """

    epochs: Count | Literal["auto"] = 4
    epochs_by_cases: Annotated[dict[Annotated[int, Field(ge=0)], Count], Field(min_length=1)] = EPOCHS_BY_CASES
    batch_size: Count = 1
    accumulation: Count = 1
    precision: Precision = "fp32"
    learning_rate: Positive = 1e-4
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    weight_decay: NotNegative = 0.01
    schedule: ScheduleSettings = ConstantSchedule()
    clip_norm: NotNegative = 0.0
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    early_stopping: EarlyStopping | None = None
    keep: Literal["last", "best"] = "last"
    ddp: DdpSettings = DdpSettings()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_every: Annotated[int, Field(ge=1, description="optimizer steps")] = 10
    score_every_epoch: bool = True
    base_dropout: bool = False
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    loss_at: Literal["input", "logits"] = "input"

    @field_validator("epochs_by_cases")
    @classmethod
    def _covers_all(cls, table: dict[int, int]) -> dict[int, int]:
        if 0 not in table:
            raise ValueError("the table begins at 0 cases, such as {0: 50, 50: 30, 200: 20}")
        return dict(sorted(table.items()))

    @property
    def needs_validation(self) -> bool:
        """Whether scores decide something, for which the cases of the final scores must not be used."""
        return self.early_stopping is not None or self.keep == "best"

    @model_validator(mode="after")
    def _decisions_need_scores(self) -> OptimisationSettings:
        if self.needs_validation and not self.score_every_epoch:
            raise ValueError("early_stopping and keep: best go by the scores after each epoch: set score_every_epoch")
        return self
