"""The ``wandb`` tracker: Weights & Biases, online where there is a key, else offline, to be sent later."""

from __future__ import annotations

import io
import json
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator

from oncoseg_core import Settings, StorageError, Tracker
from oncoseg_core.system import atomic_write, json_text
from oncoseg_trackers.missing import extra
from oncoseg_trackers.numbers import NumbersOfEvents
from oncoseg_trackers.private import shareable
from oncoseg_trackers.projects import project_of
from oncoseg_trackers.wandb_key import answers, chosen_mode, has_key

with extra("wandb", "wandb"):
    import wandb

RUN_FILE = "wandb.json"
ADAPTER_FOLDER = "adapter"

log = logging.getLogger(__name__)

_unfinished: dict[str, Any] = {}
"""W&B's runs of this process by id. A run that is stopped tells nobody, and W&B refuses to go on with an open one."""


class WandbSettings(Settings):
    """``project`` and ``entity`` are W&B's; by default the phase's project, and the key's own user.

    ``mode``: ``auto`` is online where there is a key and the server answers. ``artifact``: what is kept of the weights,
    the trained ``adapter`` or the last ``checkpoint``, which also holds the scored cases' names. ``pictures`` of
    patients' slices are sent only when asked for. At the start and the end a server that does not answer is given up
    after ``timeout_s`` seconds.
    """

    project: Annotated[str, Field(pattern=r"^[^/\\#?%:]+$", max_length=128)] | None = None
    entity: str | None = None
    mode: Literal["auto", "online", "offline"] = "auto"
    artifact: Literal["adapter", "checkpoint", "none"] = "adapter"
    pictures: bool = False
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 300.0

    @field_validator("mode")
    @classmethod
    def _online_needs_a_key(cls, mode: str) -> str:
        if mode == "online" and not has_key(os.environ):
            raise ValueError("there is no key: run 'wandb login', set WANDB_API_KEY, or use mode auto or offline")
        return mode


class WandbTracker(Tracker):
    """One W&B run for a run and all its resumptions: ``wandb.json`` in the run's folder keeps which.

    What is sent: numbers, the configuration without paths, means of scores, the adapter. Not sent: names of cases and
    patients, paths, host and user, command line, code, console output.
    """

    Settings = WandbSettings

    def __init__(self, settings: BaseModel | None = None, *, run_directory: Path) -> None:
        super().__init__(settings, run_directory=run_directory)
        self._numbers = NumbersOfEvents()
        self._step = 0
        self._checkpoint: Path | None = None

    def start(self, config: Mapping[str, Any], resumed_step: int | None) -> None:
        """Begin the W&B run, or go on with it."""
        identity = self._identity(config, new=resumed_step is None)
        self._step = resumed_step or 0
        if identity["id"] in _unfinished:
            _unfinished.pop(identity["id"]).finish()
        self._run: Any = self._begin(identity, config)
        _unfinished[identity["id"]] = self._run
        # A column of our own: W&B's step only rises, and a resumed run takes some steps again.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def metrics(self, step: int, values: Mapping[str, Any]) -> None:
        """Log the numbers."""
        self._step = step
        for at, numbers in self._numbers.of(step, values):
            self._run.log({"step": at, **numbers})

    def image(self, name: str, png: bytes, caption: str) -> None:
        """Log a picture, if they were asked for."""
        if self.settings.pictures:
            from PIL import Image

            picture = wandb.Image(Image.open(io.BytesIO(png)).convert("RGB"), caption=caption)
            self._run.log({"step": self._step, f"pictures/{name}": picture})

    def checkpoint(self, step: int, path: Path) -> None:  # noqa: ARG002
        """Remember the last one."""
        self._checkpoint = path

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Log the scores before and after, keep the weights as an artifact, and wait until all is sent."""
        for at, numbers in self._numbers.rest():
            self._run.log({"step": at, **numbers})
        for phase in ("zero_shot", "adapted"):
            for metric, mean in summary[phase]["mean"].items():
                self._run.summary[f"{phase}/{metric}"] = mean["mean"]
        self._run.summary["model"] = dict(summary["model"])
        self._log_artifact()
        _unfinished.pop(self._run.id, None)
        self._run.finish()

    def _begin(self, identity: Mapping[str, str], config: Mapping[str, Any]) -> Any:
        """Open W&B's run."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # the library's own reports to its makers
        return wandb.init(
            project=identity["project"],
            entity=self.settings.entity,
            id=identity["id"],
            name=str(config.get("name", "oncoseg")),
            group=None if config.get("phase") is None else f"phase {config['phase']}",
            config=shareable(config),
            resume="allow",
            settings=wandb.Settings(
                mode=self._mode(),
                root_dir=str(self.run_directory),
                reinit="create_new",  # several runs in one process, such as a chain's, are several here
                init_timeout=self.settings.timeout_s,
                finish_timeout=self.settings.timeout_s,
                console="off",
                silent=True,
                save_code=False,
                disable_code=True,
                disable_git=True,
                host="",
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )

    def _mode(self) -> Any:
        mode = chosen_mode(self.settings.mode, os.environ)
        # Asked before W&B is: after a failed start it would refuse the same run's id in this process.
        if mode == "online" and self.settings.mode == "auto" and not answers(os.environ, self.settings.timeout_s):
            log.warning("W&B does not answer, so this run is kept offline; send it later with wandb sync")
            return "offline"
        return mode

    def _log_artifact(self) -> None:
        kept = self.settings.artifact
        source = {"adapter": self.run_directory / ADAPTER_FOLDER, "checkpoint": self._checkpoint, "none": None}[kept]
        if source is None or not source.exists():
            return
        artifact = wandb.Artifact(f"{kept}-{self._run.id}", type="model")
        files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
        for path in files:
            name = path.name if source.is_file() else path.relative_to(source).as_posix()
            # An adapter stays as it is: it is sent from where it lies. Checkpoints are pruned: a copy is.
            artifact.add_file(str(path), name=name, policy="immutable" if kept == "adapter" else "mutable")
        self._run.log_artifact(artifact)

    def _identity(self, config: Mapping[str, Any], *, new: bool) -> dict[str, str]:
        """The W&B run's id and project: those of before, or new ones.

        Raises:
            StorageError: the file that keeps them is not readable.
        """
        path = self.run_directory / RUN_FILE
        if not new and path.exists():
            try:
                kept = json.loads(path.read_text(encoding="utf-8"))
                return {"id": str(kept["id"]), "project": str(kept["project"])}
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise StorageError(
                    f"{path}: expected the id and project of a W&B run; delete it to begin one"
                ) from error
        identity = {"id": secrets.token_hex(6), "project": self.settings.project or project_of(config.get("phase"))}
        atomic_write(path, json_text(identity) + "\n")
        return identity
