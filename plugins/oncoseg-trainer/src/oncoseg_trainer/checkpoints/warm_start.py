"""Starting from an earlier adapter: its weights pass to the next task, and with them all that they have seen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from oncoseg_core import ConfigError, DataError, DatasetSpec, ModelSpec, Registry, RunError, WeightsError
from oncoseg_core.path import PathSettings
from oncoseg_core.system import atomic_write, json_text
from oncoseg_lora import MANIFEST_FILE, LoraSettings, TrainedOn, adapt, load_adapter, read_manifest, read_trained_on
from oncoseg_trainer.config.settings import TrainSettings

STARTED_FILE = "started_from.json"


@dataclass(frozen=True, eq=False)
class Ancestry:
    """What an adapter brings with it to the next task.

    ``parents`` are the SHA-256 of its manifest and of those before it, the last one first; none where training starts
    from the untouched model. ``trained_on`` is what all of them saw, None where that is not known, and ``specs`` are
    the records of these datasets, as far as they are installed. ``paths`` are those of the modalities it was trained
    on.
    """

    folder: Path | None = None
    parents: tuple[str, ...] = ()
    trained_on: TrainedOn | None = None
    specs: tuple[DatasetSpec, ...] = ()
    paths: Mapping[str, PathSettings] | None = None

    @property
    def datasets(self) -> list[DatasetSpec | str]:
        """What it was trained on; by name where that dataset is not installed, for others may declare an overlap."""
        names = () if self.trained_on is None else self.trained_on.datasets
        known = {spec.name for spec in self.specs}
        return [*self.specs, *(name for name in names if name not in known)]

    def joined(self, own: TrainedOn) -> TrainedOn | None:
        """What will have been seen when ``own`` is too; None where an ancestor does not tell."""
        if self.folder is None:
            return own
        return None if self.trained_on is None else self.trained_on | own

    def model(self, base: nn.Module, settings: LoraSettings) -> nn.Module:
        """The model as training finds it: newly adapted, or with the ancestor's weights.

        Raises:
            OncoSegError: as :func:`~oncoseg_lora.inject.adapt` and :func:`~oncoseg_lora.store.load_adapter`.
        """
        return adapt(base, settings) if self.folder is None else load_adapter(base, self.folder)

    def claim(self, run: Path, *, resume: bool) -> None:
        """Write down in the run's folder what it started from, or compare that when it is resumed.

        Raises:
            RunError: the adapter is another one than the run started from.
            StorageError: it cannot be written.
        """
        path = run / STARTED_FILE
        if not resume:
            if self.folder is not None:
                atomic_write(path, json_text(self.plain_values(), indent=1) + "\n")
            return
        before = json.loads(path.read_text(encoding="utf-8"))["parents"] if path.exists() else []
        if before != list(self.parents):
            raise RunError(
                f"{run}: the run started from {_named(before)}, start_from is now {_named(self.parents)}; "
                "restore that adapter, or start anew in another output"
            )

    def plain_values(self) -> dict[str, Any] | None:
        """As plain values, for the summary."""
        return None if self.folder is None else {"adapter": str(self.folder), "parents": list(self.parents)}


NOTHING = Ancestry()
"""The untouched model's."""


def read_ancestry(settings: TrainSettings, registry: Registry) -> Ancestry:
    """What ``start_from`` brings; of its files all but the weights are read and compared with its manifest.

    Raises:
        WeightsError: the folder or a file is missing or altered, or the adapter is another model's.
        ConfigError: its LoRA settings or its fit are not the run's.
        DataError: it does not tell what it was trained on, and that is not allowed.
    """
    folder = settings.start_from
    if folder is None:
        return NOTHING
    manifest = read_manifest(folder)
    if manifest.model != settings.model.name:
        raise WeightsError(
            f"start_from {folder}: the adapter was trained for model {manifest.model!r}, this run is of "
            f"{settings.model.name!r}; choose that model or another adapter"
        )
    _require_same_lora(folder, manifest.lora, settings.lora, registry.get(ModelSpec, settings.model.name))
    fits = sorted({path.fit for path in manifest.paths.values()} - {settings.fit})
    if fits:
        raise ConfigError(
            f"start_from {folder}: the adapter was trained with fit {fits[0]}, this run has {settings.fit}; give the "
            f"run fit: {fits[0]}, or another adapter"
        )
    trained_on = read_trained_on(folder)
    if trained_on is None and not settings.data.allow_leakage:
        raise DataError(
            f"start_from {folder}: the adapter does not tell what it was trained on, so that nobody can say whether "
            "what is scored is held out; use another adapter, or set data.allow_leakage: true"
        )
    known = {spec.name: spec for spec in registry.specs(DatasetSpec)}
    names = () if trained_on is None else trained_on.datasets
    return Ancestry(
        folder,
        (hashlib.sha256((folder / MANIFEST_FILE).read_bytes()).hexdigest(), *manifest.parents),
        trained_on,
        tuple(known[name] for name in names if name in known),
        manifest.paths,
    )


def _require_same_lora(folder: Path, before: LoraSettings, wanted: LoraSettings, model: ModelSpec) -> None:
    """Refuse other LoRA settings: the weights would not fit, or mean something else."""
    policy = wanted.policy if wanted.policy is not None else next(iter(model.lora.policies))
    now = wanted.model_copy(update={"policy": policy})
    differing = [
        f"{key} {getattr(before, key)!r}, not {getattr(now, key)!r}"
        for key in LoraSettings.model_fields
        if getattr(before, key) != getattr(now, key)
    ]
    if differing:
        raise ConfigError(
            f"start_from {folder}: the adapter has other LoRA settings than this run ({'; '.join(differing)}); "
            "give the run the adapter's, under lora"
        )


def _named(parents: list[str] | tuple[str, ...]) -> str:
    return f"the adapter {parents[0][:12]}" if parents else "the untouched model"
