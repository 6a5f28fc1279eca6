"""One training run from configuration to report: score, adapt, score again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oncoseg_core import Registry
from oncoseg_core.data import Scan
from oncoseg_core.plugins import library_versions
from oncoseg_core.system import atomic_write
from oncoseg_lora import save_adapter, set_training_mode
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
from oncoseg_trainer.data.batches import BatchStream
from oncoseg_trainer.data.held_out import HeldOut
from oncoseg_trainer.distributed.interruption import stop_on_signals
from oncoseg_trainer.distributed.liveness import CUT_OFF_SECONDS
from oncoseg_trainer.distributed.processes import Processes, join_processes
from oncoseg_trainer.loop.averaging import copy_weights
from oncoseg_trainer.loop.components import RunParts
from oncoseg_trainer.loop.health import named_failures
from oncoseg_trainer.reporting.adapter_facts import evidence_of
from oncoseg_trainer.reporting.before_after import draw_cases
from oncoseg_trainer.reporting.run_facts import RunFacts
from oncoseg_trainer.reporting.summary import summarise_run
from oncoseg_trainer.reporting.terminal import Terminal
from oncoseg_trainer.reporting.trackers import Trackers

Stop = Callable[[], bool]


@dataclass(frozen=True)
class TrainingOutcome:
    """How a run ended: its folder, and its summary, or None when it was stopped and can be resumed."""

    folder: Path
    summary: dict[str, Any] | None
    is_first: bool


class _StoppedError(Exception):
    """The run was asked to stop; what is done is saved."""


class TrainingRun(RunParts):
    """A run that is executed: scored, trained, scored again, written."""

    def execute(self, folder: Path, checkpoints: CheckpointFolder, should_stop: Stop) -> TrainingOutcome:
        """Score, train from where the checkpoint left off, score again, and write what was found."""
        self.processes.on_first(lambda: self._require_room(folder))
        try:
            with Saver(checkpoints, self._checkpoint) as saver:
                summary = self._execute(folder, saver, should_stop)
        except _StoppedError:
            return TrainingOutcome(folder, None, self.processes.is_first)
        if self.processes.is_first:
            checkpoints.finish()
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
                self.state.zero_shot = self._score(what, self.data.held_out, trackers, should_stop)
            self._save(saver, trackers)
        self._train(saver, trackers, should_stop)
        self._save(saver, trackers, only_if_due=True)
        self._take_kept_weights()
        with self.timed("adapted"):
            adapted = self._score("adapted model", self.data.held_out, trackers, should_stop, floors=True)
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
            atomic_write(folder / SUMMARY_FILE, json.dumps(summary, indent=2) + "\n")
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
            _StoppedError: stopped; the checkpoint is that of the last finished step.
        """
        state, settings, per_epoch = self.state, self.settings.training, self.plan.steps_per_epoch
        set_training_mode(self.model)
        steps = range(state.step, self.total_steps)
        pinned = self.processes.device.type == "cuda"
        stream = BatchStream(self.data.maker, self.data.sampler, self.plan, steps, settings.workers, pinned=pinned)
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
                    set_training_mode(self.model)
                if state.step >= self.total_steps or self.selection.says_stop:
                    return
                epoch = state.step // per_epoch
                waited, spent = stream.waited, state.seconds.get("training", 0.0)
                with self.timed("training"), named_failures(self.settings):
                    values = self.stepper.step(state.step, stream)
                    if self.average is not None and "skipped" not in values:
                        self.average.update()
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
                    raise _StoppedError

    def _score_epoch(self, last: Mapping[str, float], trackers: Trackers, should_stop: Stop) -> list[dict[str, Any]]:
        """Score after an epoch: the validation cases, which decide; without them the held-out ones, which do not."""
        what = f"after epoch {self.state.step // self.plan.steps_per_epoch}"
        if self.data.validation is None:
            rows = self._score(what, self.data.held_out, trackers, should_stop)
        else:
            rows = self._score(what, self.data.validation, trackers, should_stop, event="validation")
            with self._averaged():
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

    def _averaged(self) -> AbstractContextManager[None]:
        return nullcontext() if self.average is None else self.average.in_place()

    def _score(
        self,
        what: str,
        cases: HeldOut,
        trackers: Trackers,
        should_stop: Stop,
        event: str = "score",
        *,
        floors: bool = False,
    ) -> list[dict[str, Any]]:
        """Score cases, shared out over the processes; rows in the order of the cases, the same on every process.

        Raises:
            _StoppedError: stopped between two cases, on any process.
        """
        mine = range(self.processes.rank, len(cases), self.processes.world_size)
        with self.terminal.progress() as progress, named_failures(self.settings), self._averaged():
            own = cases.score(
                mine,
                self.predictor(),
                self.score_prompting,
                self.metrics,
                self.settings.seed,
                should_stop,
                lambda done, total: progress(f"scoring, {what}", done, total),
                floors=floors,
            )
        if self.processes.any(should_stop()):
            raise _StoppedError
        by_case = sorted((pair for part in self.processes.gather(own) for pair in part), key=lambda pair: pair[0])
        rows = [row for _, rows in by_case for row in rows]
        for row in rows:
            trackers.metrics(self.state.step, {"event": event, **row})
        return rows

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
        self.processes.on_first(saver.wait if only_if_due else saver.save)
        _record_checkpoints(saver, trackers)

    def _require_room(self, folder: Path) -> None:
        size = expected_checkpoint_bytes(self.trainable, self.parts)
        if self.resumed is not None:
            size = min(size, self.resumed.checkpoint.n_bytes)
        require_room_for_run(folder, size, tensor_bytes(self.trainable))


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
        should_stop: asked after every step and scored case; True saves a checkpoint and ends the run early. By default
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
        return run.execute(folder, checkpoints, should_stop or signalled)
