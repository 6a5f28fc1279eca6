"""One training run from configuration to report: score, adapt, score again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from oncoseg_core.adapters import save_adapter
from oncoseg_core.atomic import atomic_write
from oncoseg_core.environment import describe, library_versions
from oncoseg_core.errors import ConfigError, RunError, close_matches
from oncoseg_core.interfaces import Metric, PromptGenerator, Tracker
from oncoseg_core.lora import adapt, set_training_mode, trainable_parameters
from oncoseg_core.path_settings import PathSettings, parts_of
from oncoseg_core.predictor import Predictor
from oncoseg_core.preprocess import Preprocessor
from oncoseg_core.randomness import derived_seed
from oncoseg_core.records import LossSpec, MetricSpec, ModelSpec, PromptGeneratorSpec, TrackerSpec
from oncoseg_core.registry import Registry
from oncoseg_trainer.averaging import MovingAverage, put
from oncoseg_trainer.before_after import draw_cases
from oncoseg_trainer.cases import DatasetLookup, choose_cases
from oncoseg_trainer.checkpoint import RunState, Stateful, load_checkpoint, save_checkpoint
from oncoseg_trainer.epochs import choose_epochs
from oncoseg_trainer.evidence import evidence_of
from oncoseg_trainer.failures import Watch, named_failures
from oncoseg_trainer.held_out import HeldOut
from oncoseg_trainer.interruption import stop_on_signals
from oncoseg_trainer.loading import BatchStream
from oncoseg_trainer.optimizer import LearningRate, build_optimizer
from oncoseg_trainer.plan import Plan
from oncoseg_trainer.processes import Processes, join_processes
from oncoseg_trainer.run_data import read_data
from oncoseg_trainer.run_directory import CHECKPOINT_FILE, SPLIT_FILE, SUMMARY_FILE, choose_folder, write_config
from oncoseg_trainer.selection import Selection
from oncoseg_trainer.settings import TrainSettings
from oncoseg_trainer.steps import ForwardLoss, Stepper
from oncoseg_trainer.summary import has_random_weights, random_weights_words, summarise_run
from oncoseg_trainer.terminal import Terminal

Stop = Callable[[], bool]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its folder, and its summary, or None when it was stopped and can be resumed."""

    folder: Path
    summary: dict[str, Any] | None
    is_first: bool


class _StoppedError(Exception):
    """The run was asked to stop; what is done is saved."""


class Run:
    """A run's parts, built from its configuration.

    Args:
        settings: the configuration.
        registry: where components are found.
        processes: this process among its fellows.
        terminal: where it speaks.
    """

    def __init__(self, settings: TrainSettings, registry: Registry, processes: Processes, terminal: Terminal) -> None:
        self.settings = settings
        self.registry = registry
        self.processes = processes
        self.terminal = terminal
        self.state = RunState(split_hash="", processes=processes.world_size)
        # Components are named and checked before anything is fetched or loaded.
        datasets = DatasetLookup(registry, settings.data.chosen)
        self.train_generator = self._generator(settings.prompts.train.name, settings.prompts.train.settings)
        self.score_generator = self._generator(settings.prompts.score.name, settings.prompts.score.settings)
        self.metrics: dict[str, Metric] = {name: registry.build(MetricSpec, name) for name in settings.metrics}
        self.model_spec = registry.get(ModelSpec, settings.model.name)
        for generator in (settings.prompts.train.name, settings.prompts.score.name):
            _require_kinds(registry.get(PromptGeneratorSpec, generator), self.model_spec)
        points_at_object = registry.get(PromptGeneratorSpec, settings.prompts.train.name).needs_object
        if points_at_object and settings.prompts.hard_negatives.rate:
            raise ConfigError(
                f"prompts.hard_negatives asks for absent targets by their names; prompt generator "
                f"{settings.prompts.train.name!r} points at the object: use one that makes texts, or set the rate to 0"
            )
        with self._timed("data"), terminal.progress() as progress:
            opened = datasets.open(lambda adapter: processes.on_first(lambda: adapter.fetch(progress)))
            self.chosen = choose_cases(opened, settings.data)
        self.state.split_hash = self.chosen.hash
        modalities = self.chosen.modalities
        parts = {part for modality in modalities for part in parts_of(modality)}
        for section, given, known in (
            ("normalizers", settings.normalizers, parts),
            ("channels", settings.channels, set(modalities)),
        ):
            for name in given:
                if name not in known:
                    raise ConfigError(f"{section}.{name}: no case here is of that modality{close_matches(name, known)}")
        self.preprocessors = {
            modality: Preprocessor(
                registry,
                modality,
                self.model_spec,
                PathSettings(normalizers=settings.normalizers, channels=settings.channels.get(modality)),
            )
            for modality in modalities
        }
        with self._timed("data"):
            data = read_data(
                self.chosen,
                settings,
                self.preprocessors,
                self.train_generator,
                self.model_spec.input_range[0],
                points_at_object=points_at_object,
            )
        self.held_out, self.validation = data.held_out, data.validation
        self.sampler, self.maker = data.sampler, data.maker
        self.leaks, self.trained_on = data.leaks, data.trained_on
        self.losses = {
            modality: registry.build(LossSpec, settings.loss.name, settings.loss.settings, modality=modality)
            for modality in modalities
        }
        with self._timed("model"):
            torch.manual_seed(derived_seed(settings.seed, "adapter"))
            base = registry.build(ModelSpec, settings.model.name, settings.model.settings).to(processes.device)
            self.model: Any = adapt(base, settings.lora)
        if has_random_weights(base.weights_sha256):
            terminal.say(random_weights_words(self.model_spec.name, base.weights_sha256))
        self.trainable = trainable_parameters(self.model)
        self._prepare_training()

    def _prepare_training(self) -> None:
        """What trains the model; what of it has a state is in ``parts``, and goes into the checkpoints."""
        training, processes = self.settings.training, self.processes
        self.plan = Plan(
            len(self.sampler), training.batch_size, training.accumulation, processes.rank, processes.world_size
        )
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
        self.watch = Watch(self.settings, random_weights=has_random_weights(self.model.weights_sha256))
        self.average = None if training.ema_decay is None else MovingAverage(self.trainable, training.ema_decay)
        self.parts: dict[str, Stateful] = {
            "optimizer": self.optimizer,
            "stepper": self.stepper,
            "selection": self.selection,
            "watch": self.watch,
        }
        if self.average is not None:
            self.parts["average"] = self.average

    def execute(self, folder: Path, *, resume: bool, should_stop: Stop) -> Outcome:
        """Score, train from where the checkpoint left off, score again, and write what was found."""
        try:
            summary = self._execute(folder, resume=resume, should_stop=should_stop)
        except _StoppedError:
            return Outcome(folder, None, self.processes.is_first)
        return Outcome(folder, summary, self.processes.is_first)

    def _execute(self, folder: Path, *, resume: bool, should_stop: Stop) -> dict[str, Any]:
        checkpoint = folder / CHECKPOINT_FILE
        if resume:
            self.state = self._resumed(checkpoint)
            self.terminal.say(f"Resuming after step {self.state.step} of {self.total_steps}.")
        trackers = self._start_trackers(folder, self.state.step if resume else None)
        if not resume:
            self.processes.on_first(lambda: self.chosen.split.write(folder / SPLIT_FILE))
            self._save(checkpoint, trackers)  # from here on there is something to resume
        if not self.state.zero_shot:
            with self._timed("zero_shot"):
                self.state.zero_shot = self._score("untouched model", self.held_out, trackers, should_stop)
            self._save(checkpoint, trackers)
        self._train(checkpoint, trackers, should_stop)
        self._take_kept_weights()
        with self._timed("adapted"):
            adapted = self._score("adapted model", self.held_out, trackers, should_stop)
        if self.processes.is_first:
            with self._timed("pictures"):
                for name, png, caption in draw_cases(
                    self._predictor(), self.model, self.held_out, self.score_generator, self.settings.seed
                ):
                    for tracker in trackers:
                        tracker.image(name, png, caption)
            save_adapter(
                self.model,
                folder / "adapter",
                versions={**library_versions(), **self.registry.versions()},
                paths={modality: preprocessor.settings for modality, preprocessor in self.preprocessors.items()},
                trained_on=self.trained_on,
                evidence=evidence_of(self, self.state.zero_shot, adapted),
            )
        summary = summarise_run(self, self.state.zero_shot, adapted)
        if self.processes.is_first:
            for tracker in trackers:
                tracker.finish(summary)
            atomic_write(folder / SUMMARY_FILE, json.dumps(summary, indent=2) + "\n")
        return summary

    def _train(self, checkpoint: Path, trackers: Sequence[Tracker], should_stop: Stop) -> None:
        """Take the remaining steps.

        Raises:
            _StoppedError: stopped; the checkpoint is that of the last finished step.
        """
        state, settings, per_epoch = self.state, self.settings.training, self.plan.steps_per_epoch
        set_training_mode(self.model)
        steps = range(state.step, self.total_steps)
        pinned = self.processes.device.type == "cuda"
        stream = BatchStream(self.maker, self.sampler, self.plan, steps, settings.workers, pinned=pinned)
        values: dict[str, float] = {}
        with self.terminal.progress() as progress, stream:
            while True:
                if state.scores_due:
                    with self._timed("scores_after_epochs"):
                        self._score_epoch(values, trackers, should_stop)
                    state.scores_due = False
                    self._save(checkpoint, trackers)
                    set_training_mode(self.model)
                if state.step >= self.total_steps or self.selection.says_stop:
                    return
                epoch = state.step // per_epoch
                waited, started = stream.waited, time.perf_counter()
                with self._timed("training"), named_failures(self.settings):
                    values = self.stepper.step(state.step, stream)
                    if self.average is not None and "skipped" not in values:
                        self.average.update()
                waited = stream.waited - waited
                state.seconds["data_wait"] = state.seconds.get("data_wait", 0.0) + waited
                state.step += 1
                for tracker in trackers:
                    tracker.metrics(state.step, {"event": "train", "epoch": epoch, **values})
                for warning in self.watch.step(time.perf_counter() - started, waited):
                    self.terminal.say(f"Warning: {warning}.")
                progress("training", state.step, self.total_steps)
                ends_epoch = state.step % per_epoch == 0
                # The last epoch's scores on the held-out cases are those of the adapted model.
                of_use = self.validation is not None or state.step < self.total_steps
                state.scores_due = ends_epoch and of_use and settings.score_every_epoch
                stop = self.processes.any(should_stop())
                if stop or ends_epoch or state.step % settings.checkpoint_every == 0:
                    self._save(checkpoint, trackers)
                if stop:
                    raise _StoppedError

    def _score_epoch(self, last: Mapping[str, float], trackers: Sequence[Tracker], should_stop: Stop) -> None:
        """Score after an epoch: the validation cases, which decide; without them the held-out ones, which do not."""
        what = f"after epoch {self.state.step // self.plan.steps_per_epoch}"
        if self.validation is None:
            rows = self._score(what, self.held_out, trackers, should_stop)
        else:
            rows = self._score(what, self.validation, trackers, should_stop, event="validation")
            with self._averaged():
                self.selection.see(rows, self.state.step, self.trainable)
            if self.selection.says_stop:
                self.terminal.say(
                    f"Stopping early: the validation Dice has not risen for {self.selection.since_best} epochs."
                )
        for warning in self.watch.scores(rows, last):
            self.terminal.say(f"Warning: {warning}.")
            for tracker in trackers:
                tracker.metrics(self.state.step, {"event": "warning", "message": warning})

    def _take_kept_weights(self) -> None:
        """Put the weights that are scored and saved into the model: the best epoch's, or the last's (their average)."""
        if self.selection.weights:
            put(self.selection.weights, self.trainable)
        elif self.average is not None:
            self.average.take()
        self.average = None  # from here on the model has the weights that count

    def _averaged(self) -> AbstractContextManager[None]:
        return nullcontext() if self.average is None else self.average.in_place()

    def _score(
        self, what: str, cases: HeldOut, trackers: Sequence[Tracker], should_stop: Stop, event: str = "score"
    ) -> list[dict[str, Any]]:
        """Score cases, shared out over the processes; rows in the order of the cases, the same on every process.

        Raises:
            _StoppedError: stopped between two cases, on any process.
        """
        mine = range(self.processes.rank, len(cases), self.processes.world_size)
        with self.terminal.progress() as progress, named_failures(self.settings), self._averaged():
            own = cases.score(
                mine,
                self._predictor(),
                self.score_generator,
                self.metrics,
                self.settings.seed,
                should_stop,
                lambda done, total: progress(f"scoring, {what}", done, total),
            )
        if self.processes.any(should_stop()):
            raise _StoppedError
        by_case = sorted((pair for part in self.processes.gather(own) for pair in part), key=lambda pair: pair[0])
        rows = [row for _, rows in by_case for row in rows]
        for row in rows:
            for tracker in trackers:
                tracker.metrics(self.state.step, {"event": event, **row})
        return rows

    def _predictor(self) -> Predictor:
        return Predictor(
            self.model,
            self.preprocessors,
            device=self.processes.device,
            precision=self.settings.training.precision,
        )

    def _generator(self, name: str, settings: Mapping[str, Any]) -> PromptGenerator:
        generator: PromptGenerator = self.registry.build(PromptGeneratorSpec, name, settings)
        return generator

    def _resumed(self, checkpoint: Path) -> RunState:
        """Load a checkpoint and refuse one that would go on differently."""
        state = load_checkpoint(checkpoint, self.trainable, self.parts)
        if state.processes != self.processes.world_size:
            raise RunError(
                f"{checkpoint}: the run had {state.processes} processes, now there are {self.processes.world_size}; "
                "resume with as many, since the steps would be other ones"
            )
        if state.split_hash != self.state.split_hash:
            raise RunError(
                f"{checkpoint}: the run had other cases in its splits than the data has now; "
                "restore the data, or start anew in another output"
            )
        return state

    def _start_trackers(self, folder: Path, resumed_step: int | None) -> list[Tracker]:
        if not self.processes.is_first:
            return []
        trackers: list[Tracker] = [
            self.registry.build(TrackerSpec, name, run_directory=folder) for name in self.settings.trackers
        ]
        for tracker in trackers:
            tracker.start(self.settings.model_dump(mode="json"), resumed_step)
        return trackers

    def _save(self, checkpoint: Path, trackers: Sequence[Tracker]) -> None:
        if not self.processes.is_first:
            return
        save_checkpoint(checkpoint, self.state, self.trainable, self.parts, describe(self.registry))
        for tracker in trackers:
            tracker.checkpoint(self.state.step, checkpoint)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.state.seconds[phase] = self.state.seconds.get(phase, 0.0) + spent


def _require_kinds(generator: PromptGeneratorSpec, model: ModelSpec) -> None:
    """Refuse a generator whose prompts the model does not take, or no adapter of it can serve.

    Raises:
        ConfigError: with the kinds it takes, or the reason.
    """
    for kind in generator.makes:
        if kind not in model.prompt_kinds:
            raise ConfigError(
                f"prompt generator {generator.name!r} makes prompts of kind {kind!r}; "
                f"model {model.name!r} takes {', '.join(model.prompt_kinds)}"
            )
        if kind in model.lora.untrained:
            raise ConfigError(
                f"prompt generator {generator.name!r} makes prompts of kind {kind!r}, for which model {model.name!r} "
                f"cannot be adapted: {model.lora.untrained[kind]}"
            )


def train(
    settings: TrainSettings,
    registry: Registry,
    *,
    resume: bool = False,
    should_stop: Stop | None = None,
) -> Outcome:
    """Run a configuration on this process, or on all those that ``torchrun`` started.

    Args:
        settings: the configuration.
        registry: where its components are found.
        resume: go on with the run in ``settings.output``.
        should_stop: asked after every step and scored case; True saves a checkpoint and ends the run early. By default
            a first Ctrl-C or SIGTERM says so.

    Raises:
        OncoSegError: anything that keeps the run from going on, in one line.
    """
    with join_processes(settings.training.device) as processes:
        terminal = Terminal(speaks=processes.is_first)
        folder = processes.on_first(lambda: choose_folder(settings, resume=resume))
        if (folder / SUMMARY_FILE).exists():
            terminal.say(f"{folder} is finished; nothing is left to resume.")
            summary = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
            return Outcome(folder, summary, processes.is_first)
        run = Run(settings, registry, processes, terminal)
        processes.on_first(lambda: write_config(folder, settings))
        with stop_on_signals() as signalled:
            return run.execute(folder, resume=resume, should_stop=should_stop or signalled)
