"""The parts of a run, built from its configuration before anything is scored or written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch

from oncoseg_core import (
    ConfigError,
    LossSpec,
    Metric,
    MetricSpec,
    ModelSpec,
    PromptableModel,
    Registry,
)
from oncoseg_core.data import require_known_modalities
from oncoseg_core.inference import Predictor
from oncoseg_core.path import PathSettings, Preprocessor
from oncoseg_core.plugins import environment_summary
from oncoseg_core.system import derived_seed
from oncoseg_lora import Scan, has_random_weights, trainable_parameters, trained_parts
from oncoseg_trainer.checkpoints.checkpoint import RunState, Stateful
from oncoseg_trainer.checkpoints.resume import (
    Resumed,
    require_same_data,
    shared_accumulation,
)  # fmt: skip
from oncoseg_trainer.checkpoints.warm_start import read_ancestry
from oncoseg_trainer.config.epochs import choose_epochs
from oncoseg_trainer.config.settings import TrainSettings
from oncoseg_trainer.data.case_selection import DatasetLookup, choose_cases
from oncoseg_trainer.data.plan import Plan
from oncoseg_trainer.data.prompting import build_mixture, build_prompting
from oncoseg_trainer.data.splits import read_data
from oncoseg_trainer.distributed.processes import Processes
from oncoseg_trainer.loop.averaging import MovingAverage
from oncoseg_trainer.loop.early_stopping import Selection
from oncoseg_trainer.loop.health import Watch
from oncoseg_trainer.loop.optimizer import LearningRate, build_optimizer
from oncoseg_trainer.loop.prompt_checks import left_untaught, require_taught
from oncoseg_trainer.loop.steps import ForwardLoss, Stepper
from oncoseg_trainer.reporting.summary import weights_caution
from oncoseg_trainer.reporting.terminal import Terminal
from oncoseg_trainer.reporting.trackers import Trackers


class RunParts:
    """A run's parts, built from its configuration: data, model, losses, and what trains the model.

    Args:
        settings: the configuration.
        registry: where components are found.
        processes: this process among its fellows.
        terminal: where it speaks.
        resumed: what to go on from.
        unseen: cases that will be scored elsewhere; none may be trained on.

    Attributes:
        parts: everything whose state a checkpoint keeps besides the trained weights, by name.
    """

    def __init__(
        self,
        settings: TrainSettings,
        registry: Registry,
        processes: Processes,
        terminal: Terminal,
        resumed: Resumed | None = None,
        unseen: Sequence[Scan] = (),
    ) -> None:
        self.settings = settings
        self.registry = registry
        self.processes = processes
        self.terminal = terminal
        self.resumed = resumed
        training, world_size = settings.training, processes.world_size
        samples_per_step = training.batch_size * training.accumulation * world_size
        self.state = RunState(split_hash="", data_hash="", processes=world_size, samples_per_step=samples_per_step)
        accumulation = training.accumulation
        if resumed is not None:
            accumulation = shared_accumulation(resumed.state.samples_per_step, training.batch_size, world_size)
        # Components are named and checked before anything is fetched or loaded.
        datasets = DatasetLookup(registry, settings.data.chosen)
        prompts = settings.prompts
        self.train_prompting = build_mixture(registry, prompts.train, prompts.per)
        self.score_prompting = build_prompting(registry, prompts.score, prompts.per)
        self.metrics: dict[str, Metric] = {name: registry.build(MetricSpec, name) for name in settings.metrics}
        self.model_spec = registry.get(ModelSpec, settings.model.name)
        self.trackers = Trackers(registry, settings.trackers, self.warn)
        self.ancestry = read_ancestry(settings, registry)
        require_taught(settings, registry, self.model_spec)
        with self.timed("data"), terminal.progress() as progress:
            opened = datasets.open(lambda adapter: processes.on_first(lambda: adapter.fetch(progress)))
            self.chosen = choose_cases(opened, settings.data)
        self.state.split_hash = self.chosen.hash
        modalities = self.chosen.modalities
        require_known_modalities(settings.normalizers, settings.channels, modalities)
        self.preprocessors = {
            modality: Preprocessor(
                registry,
                modality,
                self.model_spec,
                PathSettings(
                    normalizers=settings.normalizers, channels=settings.channels.get(modality), fit=settings.fit
                ),
            )
            for modality in modalities
        }
        with self.timed("data"):
            self.data = read_data(
                self.chosen,
                settings,
                self.preprocessors,
                self.train_prompting,
                self.model_spec.input_range[0],
                ancestry=self.ancestry,
                unseen=unseen,
            )
        self.state.data_hash = self.data.hash
        self.losses = {
            modality: registry.build(LossSpec, settings.loss.name, settings.loss.settings, modality=modality)
            for modality in modalities
        }
        with self.timed("model"):
            torch.manual_seed(derived_seed(settings.seed, "adapter"))
            base = registry.build(ModelSpec, settings.model.name, settings.model.settings).to(processes.device)
            self.model: Any = self.ancestry.model(base, settings.lora)
        self._introduce_model(base.weights_sha256)
        self.trainable = trainable_parameters(self.model)
        self._prepare_training(accumulation)
        self.versions = environment_summary(registry)
        if resumed is not None:
            require_same_data(resumed, self.state)
            resumed.checkpoint.restore(self.trainable, self.parts, str(resumed.path))
            self.state = resumed.state

    def _introduce_model(self, weights_sha256: str) -> None:
        """Say what has to be known of the model before it is trained.

        Raises:
            ConfigError: it cannot be trained on sequences.
        """
        settings, spec = self.settings, self.model_spec
        if settings.prompts.sequences.share and cast("PromptableModel", self.model).slice_tracker() is None:
            raise ConfigError(
                f"`prompts.sequences`: model {spec.name!r} has no tracker of its own to follow objects with; set its "
                "share to 0"
            )
        for line in left_untaught(settings, self.registry, spec):
            self.warn(line)
        if spec.licence is not None and spec.licence.notice:
            self.terminal.say(f"Model {spec.name}: {spec.licence.notice}.")
        caution = weights_caution(spec.name, weights_sha256, trained_parts(self.model))
        if caution is not None:
            self.terminal.say(caution)

    def _prepare_training(self, accumulation: int) -> None:
        """What trains the model; what of it has a state is in ``parts``, and goes into the checkpoints."""
        training, processes = self.settings.training, self.processes
        n_samples = len(self.data.sampler)
        self.plan = Plan(n_samples, training.batch_size, accumulation, processes.rank, processes.world_size)
        cases = sum(1 for _ in self.chosen.train_rows())
        self.epochs = choose_epochs(training, cases)
        if training.epochs == "auto":
            self.terminal.say(f"{cases} training cases: {self.epochs} epochs (training.epochs: auto).")
        self.total_steps = self.plan.steps_per_epoch * self.epochs
        self.optimizer = build_optimizer(self.trainable, training)
        self.stepper = Stepper(
            ForwardLoss(self.model, self.losses, training.loss_at),
            self.optimizer,
            LearningRate(training.schedule, training.learning_rate, self.plan.steps_per_epoch),
            self.plan,
            processes,
            self.settings.seed,
            training,
        )
        self.selection = Selection(training.early_stopping, keeps_best=training.keep == "best")
        self.watch = Watch(
            self.settings, random_weights=has_random_weights(self.model.weights_sha256, trained_parts(self.model))
        )
        self.average = None if training.ema_decay is None else MovingAverage(self.trainable, training.ema_decay)
        self.parts: dict[str, Stateful] = {
            "optimizer": self.optimizer,
            "stepper": self.stepper,
            "selection": self.selection,
            "watch": self.watch,
        }
        if self.average is not None:
            self.parts["average"] = self.average

    def predictor(self) -> Predictor:
        """The model as it is now, with the path into it."""
        return Predictor(
            self.model,
            self.preprocessors,
            device=self.processes.device,
            precision=self.settings.training.precision,
        )

    def warn(self, line: str) -> None:
        """Say it now, and in the summary and report."""
        self.terminal.say(f"Warning: {line}.")
        self.state.warnings.append(line)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the time that is spent within to that of the phase."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.state.seconds[phase] = self.state.seconds.get(phase, 0.0) + spent
