"""Going on with a run: from its newest sound checkpoint, and only if it would go on as it was begun."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oncoseg_core import RunError
from oncoseg_trainer.checkpoints.checkpoint import Checkpoint, RunState
from oncoseg_trainer.checkpoints.folder import CheckpointFolder
from oncoseg_trainer.checkpoints.run_folder import differing_keys
from oncoseg_trainer.config.settings import TrainSettings


@dataclass(frozen=True, eq=False)
class Resumed:
    """What a run goes on from. ``damaged`` tells of newer checkpoints that could not be used."""

    path: Path
    checkpoint: Checkpoint
    damaged: list[str]

    @property
    def state(self) -> RunState:
        """How far the run had come."""
        return self.checkpoint.state


def is_restart() -> bool:
    """Whether ``torchrun`` has started these processes again after some had died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def read_resumed(folder: CheckpointFolder, settings: TrainSettings) -> Resumed:
    """Read the checkpoint to go on from.

    Raises:
        RunError: there is no sound one, or it belongs to another configuration (the differing keys are named).
    """
    path, checkpoint, damaged = folder.read_newest()
    differing = differing_keys(checkpoint.config, settings.model_dump(mode="json"))
    if differing:
        raise RunError(
            f"{path} belongs to a run with another configuration (differs in {', '.join(differing)}); "
            "resume with that configuration, or start anew in another output"
        )
    return Resumed(path, checkpoint, damaged)


def require_same_data(resumed: Resumed, state: RunState) -> None:
    """Refuse to go on with other cases or images.

    Args:
        resumed: what to go on from.
        state: with the hashes of the data as it is now.

    Raises:
        RunError: they differ.
    """
    for found, then, what in (
        (state.split_hash, resumed.state.split_hash, "other cases in its splits"),
        (state.data_hash, resumed.state.data_hash, "other images of the same cases"),
    ):
        if found != then:
            raise RunError(
                f"{resumed.path}: the run had {what} than the data has now; "
                "restore the data, or start anew in another output"
            )


def shared_accumulation(samples_per_step: int, batch_size: int, world_size: int) -> int:
    """Micro-steps per step with which as many processes as there are now take the same samples in each step.

    Raises:
        RunError: the samples of a step cannot be shared out evenly.
    """
    accumulation, rest = divmod(samples_per_step, batch_size * world_size)
    if rest or not accumulation:
        micro_batches = samples_per_step // batch_size
        possible = [str(n) for n in range(1, micro_batches + 1) if micro_batches % n == 0]
        raise RunError(
            f"each step of this run takes {samples_per_step} samples, in micro-batches of {batch_size}: they cannot be "
            f"shared out evenly over {world_size} processes; resume with {_or(possible)}"
        )
    return accumulation


def changed_versions(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What has another version than when a checkpoint was written: ``torch 2.8.0, now 2.9.0``."""
    return [
        f"{name} {before.get(name, 'missing')}, now {after.get(name, 'missing')}"
        for before, after in ((then.get(kind, {}), now.get(kind, {})) for kind in ("plugins", "libraries"))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _or(numbers: list[str]) -> str:
    return numbers[0] if len(numbers) == 1 else f"{', '.join(numbers[:-1])} or {numbers[-1]}"
