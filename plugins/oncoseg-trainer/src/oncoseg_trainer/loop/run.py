"""One training run from configuration to report: score, adapt, score again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from oncoseg_core import Registry, RunError
from oncoseg_core.plugins import library_versions
from oncoseg_core.system import atomic_write, json_text
from oncoseg_lora import Scan, save_adapter, trained_parts
from oncoseg_trainer.checkpoints.checkpoint import Checkpoint, tensor_bytes
from oncoseg_trainer.checkpoints.disk_space import expected_checkpoint_bytes, require_room_for_run
from oncoseg_trainer.checkpoints.folder import CheckpointFolder
from oncoseg_trainer.checkpoints.resume import (
    Resumed,
    changed_versions,
    is_restart,
    read_resumed,
)  # fmt: skip
from oncoseg_trainer.checkpoints.run_folder import (
    CHECKPOINTS,
    SPLIT_FILE,
    SUMMARY_FILE,
    choose_folder,
    held_alone,
    launch,
    write_config,
)  # fmt: skip
from oncoseg_trainer.checkpoints.saving import Saver
from oncoseg_trainer.config.settings import TrainSettings
from oncoseg_trainer.data.batches import BatchStream, batch_bytes, most_batches
from oncoseg_trainer.data.scored_cases import remove_scored
from oncoseg_trainer.data.shared_memory import processes_here, require_shared_memory
from oncoseg_trainer.distributed.interruption import (
    PATIENCE_SECONDS,
    AbandonedError,
    deferred,
    stop_on_signals,
    waiting_for,
)
from oncoseg_trainer.distributed.liveness import CUT_OFF_SECONDS
from oncoseg_trainer.distributed.processes import Processes, join_processes
from oncoseg_trainer.loop.averaging import copy_weights
from oncoseg_trainer.loop.health import named_failures
from oncoseg_trainer.loop.scoring_run import ScoringRun, Stop, StoppedError
from oncoseg_trainer.loop.training_mode import set_mode
from oncoseg_trainer.reporting.adapter_facts import evidence_of
from oncoseg_trainer.reporting.before_after import draw_cases
from oncoseg_trainer.reporting.run_facts import RunFacts
from oncoseg_trainer.reporting.summary import summarise_run
from oncoseg_trainer.reporting.terminal import Terminal
from oncoseg_trainer.reporting.trackers import Trackers


@dataclass(frozen=True)
class TrainingOutcome:
    """How a run ended: its folder, and its summary, or None when it was stopped and can be resumed.

    ``stopped`` then says where, and what is saved.
    """

    folder: Path
    summary: dict[str, Any] | None
    is_first: bool
    stopped: str = ""


class TrainingRun(ScoringRun):
    """A run that is executed: scored, trained, scored again, written."""

    def execute(self, folder: Path, checkpoints: CheckpointFolder, should_stop: Stop) -> TrainingOutcome:
        """Score, train from where the checkpoint left off, score again, and write what was found."""
        self.processes.on_first(lambda: self._require_room(folder))
        self._require_shared_memory()
        self.scored_in = checkpoints.folder
        try:
            with Saver(checkpoints, self._checkpoint) as saver:
                summary = self._execute(folder, saver, should_stop)
        except StoppedError as stop:
            return TrainingOutcome(folder, None, self.processes.is_first, str(stop))
        if self.processes.is_first:
            checkpoints.finish()
            remove_scored(self.scored_in)
        return TrainingOutcome(folder, summary, self.processes.is_first)

    def _execute(self, folder: Path, saver: Saver, should_stop: Stop) -> dict[str, Any]:
        trackers = self._start_trackers(folder)
        if self.resumed is None:
            self.processes.on_first(lambda: self.chosen.split.write(folder / SPLIT_FILE))
            self._save(saver, trackers)  # from here on there is something to resume
        else:
            self._report_resumed(self.resumed, trackers)
        if not self.state.zero_shot:
            with self.timed("zero_shot"):
                what = "untouched model" if self.ancestry.folder is None else "the adapter it starts from"
                self.state.zero_shot = self.score(what, self.data.held_out, trackers, should_stop)
            self._save(saver, trackers)
        self._train(saver, trackers, should_stop)
        self._save(saver, trackers, only_if_due=True)
        self._take_kept_weights()
        with self.timed("adapted"):
            adapted = self.score("adapted model", self.data.held_out, trackers, should_stop, floors=True)
        facts = self._facts(adapted)
        if self.processes.is_first:
            with self.timed("pictures"):
                for name, png, caption in draw_cases(
                    self.predictor(), self.model, self.data.held_out, self.score_prompting, self.settings.seed
                ):
                    trackers.image(name, png, caption)
            save_adapter(
                self.model,
                folder / "adapter",
                versions={**library_versions(), **self.registry.versions()},
                paths={
                    **(self.ancestry.paths or {}),
                    **{modality: preprocessor.settings for modality, preprocessor in self.preprocessors.items()},
                },
                trained_on=self.data.trained_on,
                parents=self.ancestry.parents,
                evidence=evidence_of(facts),
            )
        summary = {**summarise_run(facts), "launch": launch()}
        if self.processes.is_first:
            trackers.finish(summary)
            atomic_write(folder / SUMMARY_FILE, json_text(summary, indent=2) + "\n")
        self.processes.barrier()  # nobody leaves before all is written
        return summary

    def _facts(self, adapted: list[dict[str, Any]]) -> RunFacts:
        step = self.selection.best_step
        best = None
        if step is not None:
            epoch = step // self.plan.steps_per_epoch
            best = {"epoch": epoch, "step": step, "validation_dice": self.selection.best}
        return RunFacts(
            settings=self.settings,
            registry=self.registry,
            chosen=self.chosen,
            data=self.data,
            ancestry=self.ancestry,
            state=self.state,
            weights_sha256=self.model.weights_sha256,
            trained=trained_parts(self.model),
            policy=self.model.lora_settings.policy,
            n_parameters=sum(p.numel() for p in self.model.parameters()),
            n_trainable=sum(p.numel() for p in self.trainable.values()),
            epochs=self.epochs,
            processes=self.processes.world_size,
            skipped_steps=self.stepper.skipped,
            stopped_early=self.selection.says_stop and self.state.step < self.total_steps,
            best=best,
            zero_shot=self.state.zero_shot,
            adapted=adapted,
        )

    def _train(self, saver: Saver, trackers: Trackers, should_stop: Stop) -> None:
        """Take the remaining steps.

        Raises:
            StoppedError: stopped; the checkpoint is that of the last finished step.
        """
        state, settings, per_epoch = self.state, self.settings.training, self.plan.steps_per_epoch
        set_mode(self.model, base_dropout=settings.base_dropout)
        steps = range(state.step, self.total_steps)
        pinned = self.processes.device.type == "cuda"
        stream = BatchStream(
            self.data.maker, self.data.sampler, self.plan, steps, settings.workers, pinned=pinned, warn=self.warn
        )
        values: dict[str, float] = {}
        with self.terminal.training(self.total_steps, per_epoch) as view, stream:
            while True:
                if state.scores_due:
                    with self.timed("scores_after_epochs"):
                        rows = self._score_epoch(values, trackers, should_stop)
                    view.scored(state.step, rows)
                    state.scores_due = False
                    if self.processes.is_first:
                        saver.tick(due=True)
                    set_mode(self.model, base_dropout=settings.base_dropout)
                if state.step >= self.total_steps or self.selection.says_stop:
                    return
                epoch = state.step // per_epoch
                waited, spent = stream.waited, state.seconds.get("training", 0.0)
                values = self._step(stream, saver, trackers)
                waited, spent = stream.waited - waited, state.seconds["training"] - spent
                state.seconds["data_wait"] = state.seconds.get("data_wait", 0.0) + waited
                samples = self.plan.step(state.step).total
                state.step += 1
                trackers.metrics(state.step, {"event": "train", "epoch": epoch, **values})
                for warning in self.watch.step(spent, waited):
                    self.warn(warning)
                view.step(state.step, values, samples=samples, seconds=spent, waited=waited)
                ends_epoch = state.step % per_epoch == 0
                # The last epoch's scores on the held-out cases are those of the adapted model.
                of_use = self.data.validation is not None or state.step < self.total_steps
                state.scores_due = ends_epoch and of_use and settings.score_every_epoch
                if self.processes.is_first:
                    saver.tick(due=ends_epoch or state.step % settings.checkpoint_every == 0)
                    _record_checkpoints(saver, trackers)
                stop, failed = self.processes.any_of(should_stop(), saver.has_failed)
                if stop or failed:
                    self._save(saver, trackers)
                if stop:
                    raise StoppedError(self._after_step)

    def _step(self, stream: BatchStream, saver: Saver, trackers: Trackers) -> dict[str, float]:
        """Take the next step.

        Raises:
            StoppedError: see :meth:`_leave_step`.
        """
        try:
            with self.timed("training"), named_failures(self.settings), waiting_for(self._next_step):
                values = self.stepper.step(self.state.step, stream)
                if self.average is not None and "skipped" not in values:
                    self.average.update()
        except AbandonedError as left:
            self._leave_step(left, saver, trackers)
        return values

    @property
    def _next_step(self) -> str:
        return f"step {self.state.step + 1} of {self.total_steps}"

    @property
    def _after_step(self) -> str:
        return f"after step {self.state.step} of {self.total_steps}, which is saved"

    def _leave_step(self, left: AbandonedError, saver: Saver, trackers: Trackers) -> NoReturn:
        """Stop in the midst of a step whose samples do not come; the weights are those of the step before.

        Raises:
            StoppedError: that step is saved.
            RunError: there are other processes, which are in the midst of it too.
        """
        if self.processes.world_size > 1:
            raise RunError(
                f"asked to stop, and {left} was not made in {PATIENCE_SECONDS:.0f} s, so that {self._next_step} cannot "
                "be finished; go on with --resume, from the last checkpoint"
            ) from left
        self._save(saver, trackers)
        raise StoppedError(f"{self._after_step} ({left} was not waited for any longer)")

    def _score_epoch(self, last: Mapping[str, float], trackers: Trackers, should_stop: Stop) -> list[dict[str, Any]]:
        """Score after an epoch: the validation cases, which decide; without them the held-out ones, which do not."""
        what = f"after epoch {self.state.step // self.plan.steps_per_epoch}"
        if self.data.validation is None:
            rows = self.score(what, self.data.held_out, trackers, should_stop)
        else:
            rows = self.score(what, self.data.validation, trackers, should_stop, event="validation")
            with self.averaged():
                self.selection.see(rows, self.state.step, self.trainable)
            if self.selection.says_stop:
                self.terminal.say(
                    f"Stopping early: the validation Dice has not risen for {self.selection.since_best} epochs."
                )
        for warning in self.watch.scores(rows, last):
            self.terminal.say(f"Warning: {warning}.")
            trackers.metrics(self.state.step, {"event": "warning", "message": warning})
        return rows

    def _take_kept_weights(self) -> None:
        """Put the weights that are scored and saved into the model: the best epoch's, or the last's (their average)."""
        if self.selection.weights:
            copy_weights(self.selection.weights, self.trainable)
        elif self.average is not None:
            self.average.take()
        self.average = None  # from here on the model has the weights that count

    def _report_resumed(self, resumed: Resumed, trackers: Trackers) -> None:
        """Say what the run goes on from, and what is not as it was."""
        say = self.terminal.say
        for damage in resumed.damaged:
            say(f"{damage}. Going on from the one before.")
        if resumed.damaged:
            trackers.metrics(
                self.state.step, {"event": "recovery", "damaged": resumed.damaged, "used": resumed.path.name}
            )
        changed = changed_versions(resumed.checkpoint.versions, self.versions)
        if changed:
            say(f"Other versions than when it was saved, results may differ: {'; '.join(changed)}.")
        if self.processes.world_size != self.state.processes:
            say(
                f"Begun with {self.state.processes} processes, now {self.processes.world_size}: training.accumulation "
                f"is {self.plan.accumulation}, so that each step takes the same samples."
            )
        say(f"Resuming after step {self.state.step} of {self.total_steps}.")

    def _start_trackers(self, folder: Path) -> Trackers:
        if self.processes.is_first:
            resumed_step = None if self.resumed is None else self.state.step
            self.trackers.start(folder, self.settings.model_dump(mode="json"), resumed_step)
        return self.trackers

    def _checkpoint(self) -> Checkpoint:
        config = self.settings.model_dump(mode="json")
        return Checkpoint.of(self.state, config, self.versions, self.trainable, self.parts)

    def _save(self, saver: Saver, trackers: Trackers, *, only_if_due: bool = False) -> None:
        """Save and wait for it; a failure is raised on every process."""
        with waiting_for("the checkpoint to be written"):
            self.processes.on_first(saver.wait if only_if_due else saver.save)
        _record_checkpoints(saver, trackers)

    def _require_room(self, folder: Path) -> None:
        size = expected_checkpoint_bytes(self.trainable, self.parts)
        if self.resumed is not None:
            size = min(size, self.resumed.checkpoint.n_bytes)
        require_room_for_run(folder, size, tensor_bytes(self.trainable))

    def _require_shared_memory(self) -> None:
        """Refuse workers whose samples have no room before anything is scored, which may take hours."""
        training = self.settings.training
        sequences = self.settings.prompts.sequences
        slices = training.batch_size * (sequences.length if sequences.share else 1)
        size = batch_bytes(slices, self.model_spec.input_size)
        require_shared_memory(size, most_batches(training.workers), training.workers, processes_here())


def _record_checkpoints(saver: Saver, trackers: Trackers) -> None:
    for step, path in saver.written():
        trackers.checkpoint(step, path)


def train(
    settings: TrainSettings,
    registry: Registry,
    *,
    resume: bool = False,
    should_stop: Stop | None = None,
    unseen: Sequence[Scan] = (),
    joined: Processes | None = None,
) -> TrainingOutcome:
    """Run a configuration on this process, or on all those that ``torchrun`` started.

    Args:
        settings: the configuration.
        registry: where its components are found.
        resume: go on with the run in ``settings.output``.
        should_stop: asked after every step and scored slice; True saves a checkpoint and ends the run early. By default
            a first Ctrl-C, SIGTERM or SIGUSR1 says so.
        unseen: cases that are scored elsewhere: a run that would train on one is refused.
        joined: this process and its fellows, where they have joined already.

    Raises:
        OncoSegError: anything that keeps the run from going on, in one line.
    """
    joining = join_processes(settings.training.device) if joined is None else nullcontext(joined)
    with joining as processes, stop_on_signals() as signalled, ExitStack() as held:
        terminal = Terminal(speaks=processes.is_first)
        restarted = processes.any(is_restart())  # a machine that has only just joined does not know it
        folder, goes_on = processes.on_first(lambda: choose_folder(settings, resume=resume, restarted=restarted))
        if (folder / SUMMARY_FILE).exists():
            terminal.say(f"{folder} is finished; nothing is left to resume.")
            summary = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
            return TrainingOutcome(folder, summary, processes.is_first)
        checkpoints = CheckpointFolder(folder / CHECKPOINTS)

        def claim() -> None:
            held.enter_context(held_alone(folder, patience=CUT_OFF_SECONDS if restarted else 0.0))
            checkpoints.remove_unfinished()

        def resumed() -> Resumed:
            claim()
            return read_resumed(checkpoints, settings)

        state = processes.on_first(resumed) if goes_on else None
        run = TrainingRun(settings, registry, processes, terminal, state, unseen)
        processes.on_first(lambda: write_config(folder, settings))
        if not goes_on:
            processes.on_first(claim)
        processes.on_first(lambda: run.ancestry.claim(folder, resume=goes_on))
        with deferred():
            return run.execute(folder, checkpoints, should_stop or signalled)
