"""A chain's file: settings that all tasks have in common, and the stages with their datasets, in order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from oncoseg_core import Name, Settings, close_matches
from oncoseg_core.plugins import apply_overrides, find_config, read_yaml, validate
from oncoseg_trainer.config.settings import read_config

WHOLE = ("model", "loss", "sampling")
"""Sections whose keys depend on what is chosen in them: they are replaced as a whole, never mixed."""

GIVEN = ("name", "output", "start_from", "phase")
"""Keys of a training configuration that the chain gives each task."""

GIVEN_DATA = ("dataset", "root", "prepared", "settings", "targets", "datasets")
"""The same of its ``data``."""


class ChainDataset(Settings):
    """A dataset of a stage: its name alone, or with what else has to be said of it.

    ``dataset``, ``root``, ``prepared``, ``settings`` and ``targets`` are those of a training configuration. ``name``
    tells entries apart that are of the same dataset; by default it is the dataset's.
    """

    dataset: Name
    name: Name
    root: Path | None = None
    prepared: Path | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    targets: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if isinstance(given, str):
            given = {"dataset": given}
        if isinstance(given, Mapping) and "dataset" in given:
            return {"name": given["dataset"], **given}
        return given


class Stage(Settings):
    """A part of the chain: one task per dataset, or, ``together``, one task on all of them.

    ``overrides`` are keys of a training configuration that differ from the common ones here.
    """

    phase: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]
    datasets: tuple[ChainDataset, ...] = Field(min_length=1)
    together: bool = False
    overrides: dict[str, Any] = Field(default_factory=dict)


class ChainSettings(Settings):
    """A whole chain.

    ``output`` is its folder. A dataset without a folder of its own is looked for in ``roots`` by its name, then in
    ``data_root``, in a folder of that name; either may be a prepared store. ``base`` is a training configuration (a
    built-in name or a YAML file) and ``common`` what differs from it in all tasks. ``replay`` is the share of the
    samples of each task after the first that come from the training cases of the tasks before. ``validation_cases``
    of each dataset are drawn for the forgetting matrix.
    """

    name: Name
    output: Path
    data_root: Path | None = None
    roots: dict[Name, Path] = Field(default_factory=dict)
    base: str | None = None
    common: dict[str, Any] = Field(default_factory=dict)
    stages: tuple[Stage, ...] = Field(min_length=1)
    replay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    validation_cases: Annotated[int, Field(ge=1)] = 10

    @model_validator(mode="after")
    def _names_differ(self) -> ChainSettings:
        phases = [stage.phase for stage in self.stages]
        if len(set(phases)) < len(phases):
            raise ValueError("two stages have the same phase; give each a name of its own")
        entries = [entry for stage in self.stages for entry in stage.datasets]
        names = [entry.name for entry in entries]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)}: named twice; give each entry a name of its own, such as name: lungs")
        datasets = {entry.dataset for entry in entries}
        for name in self.roots:
            if name not in datasets:
                raise ValueError(f"roots.{name}: no dataset of the chain{close_matches(name, datasets)}")
        for where, keys in (("common", self.common), *((f"stage {s.phase!r}", s.overrides) for s in self.stages)):
            _refuse_given(where, keys)
        return self


def _refuse_given(where: str, keys: Mapping[str, Any]) -> None:
    """Refuse keys that the chain itself gives each task."""
    for section in ("data", "sampling"):
        if not isinstance(keys.get(section, {}), Mapping):
            raise ValueError(f"{where}.{section}: expected keys and values")  # noqa: TRY004 - for pydantic to tell
    found = [key for key in GIVEN if key in keys]
    found += [f"data.{key}" for key in GIVEN_DATA if key in keys.get("data", {})]
    if found:
        raise ValueError(f"{where}: the chain itself gives each task its {', '.join(found)}; remove them there")


def load_chain(chain: str, overrides: list[str]) -> ChainSettings:
    """Read a chain: a YAML file, or the name of a built-in one, with ``a.b=value`` overrides.

    Raises:
        ConfigError: no such file or name, an unknown key (the nearest is named), or a wrong value.
    """
    path, where = find_config(chain, __package__, "chain")
    return validate(ChainSettings, apply_overrides(read_yaml(path), overrides), where)


def task_values(settings: ChainSettings, stage: Stage) -> dict[str, Any]:
    """The keys of a training configuration for the tasks of a stage, but for those that the chain gives.

    Later values replace earlier ones: the base's, then the common ones, then the stage's. A section is merged key by
    key (``training.epochs``, ``data.split``), model, loss and sampling are replaced as a whole.

    Raises:
        ConfigError: there is no such base.
    """
    values: dict[str, Any] = {}
    if settings.base is not None:
        values = read_config(settings.base)[0]
        for key in GIVEN:
            values.pop(key, None)
        values["data"] = {k: v for k, v in (values.get("data") or {}).items() if k not in GIVEN_DATA}
    for changes in (settings.common, stage.overrides):
        for key, value in changes.items():
            before = values.get(key)
            merge = key not in WHOLE and isinstance(before, Mapping) and isinstance(value, Mapping)
            values[key] = {**before, **value} if merge else value  # type: ignore[dict-item]
    return values
