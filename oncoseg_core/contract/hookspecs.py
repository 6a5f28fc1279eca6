"""The whole extension surface of OncoSeg: eleven hooks, each without arguments, each yielding records.

A plugin is a distribution with an entry point in the group ``oncoseg`` whose value is a light module::

    from oncoseg_core import NormalizerSpec, hookimpl

    @hookimpl
    def oncoseg_normalizers():
        yield NormalizerSpec(modality="thermography", factory="my_package.thermo:Thermography", summary="…")

Hooks are called once, when the plugins are loaded, and only tell what exists. The behaviour behind a record is imported
when it is first used and then called directly (:mod:`oncoseg_core.contract.interfaces`), so no hook runs in a training
loop.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from oncoseg_core.contract.records import (
    AutomaticModelSpec,
    CommandSpec,
    ComponentSpec,
    DatasetSpec,
    ExporterSpec,
    LossSpec,
    MetricSpec,
    ModelSpec,
    NormalizerSpec,
    PromptGeneratorSpec,
    ReaderSpec,
    TrackerSpec,
)

PROJECT = "oncoseg"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def oncoseg_normalizers() -> Iterable[NormalizerSpec]:  # type: ignore[empty-body]
    """Intensity normalizers, one per modality, that map voxels to [0, 1].

    Behaviour: :class:`oncoseg_core.contract.interfaces.Normalizer`, built with its settings.
    """


@hookspec
def oncoseg_datasets() -> Iterable[DatasetSpec]:  # type: ignore[empty-body]
    """Datasets and the adapters that find their cases in a folder.

    Behaviour: :class:`oncoseg_core.contract.interfaces.DatasetAdapter`, built with its settings.
    """


@hookspec
def oncoseg_prompt_generators() -> Iterable[PromptGeneratorSpec]:  # type: ignore[empty-body]
    """Generators that make prompts from a reference mask.

    Behaviour: :class:`oncoseg_core.contract.interfaces.PromptGenerator`, built with its settings.
    """


@hookspec
def oncoseg_losses() -> Iterable[LossSpec]:  # type: ignore[empty-body]
    """Training losses with named terms.

    Behaviour: :class:`oncoseg_core.contract.interfaces.SegmentationLoss`, built with its settings and the modality.
    """


@hookspec
def oncoseg_models() -> Iterable[ModelSpec]:  # type: ignore[empty-body]
    """Promptable segmentation models.

    Behaviour: :class:`oncoseg_core.contract.interfaces.PromptableModel`, built with its settings.
    """


@hookspec
def oncoseg_automatic_models() -> Iterable[AutomaticModelSpec]:  # type: ignore[empty-body]
    """Models that need no prompt.

    Behaviour: :class:`oncoseg_core.contract.interfaces.AutomaticModel`, built with its settings.
    """


@hookspec
def oncoseg_readers() -> Iterable[ReaderSpec]:  # type: ignore[empty-body]
    """Formats of images and structures that can be read besides the core's own.

    Behaviour: :class:`oncoseg_core.contract.interfaces.Reader`, built with its settings.
    """


@hookspec
def oncoseg_exporters() -> Iterable[ExporterSpec]:  # type: ignore[empty-body]
    """File formats a segmentation can be written in.

    Behaviour: :class:`oncoseg_core.contract.interfaces.Exporter`, built with its settings.
    """


@hookspec
def oncoseg_metrics() -> Iterable[MetricSpec]:  # type: ignore[empty-body]
    """Scores of a predicted mask against a reference.

    Behaviour: :class:`oncoseg_core.contract.interfaces.Metric`, built with its settings.
    """


@hookspec
def oncoseg_trackers() -> Iterable[TrackerSpec]:  # type: ignore[empty-body]
    """Receivers of what happens in a run.

    Behaviour: :class:`oncoseg_core.contract.interfaces.Tracker`, built with its settings and the run's directory.
    """


@hookspec
def oncoseg_commands() -> Iterable[CommandSpec]:  # type: ignore[empty-body]
    """Subcommands of ``oncoseg``.

    Behaviour: a ``typer.Typer`` app; the command's first line of help comes from the record, so that
    ``oncoseg --help`` imports no plugin's heavy modules.
    """


CORE_COMMANDS = frozenset({"doctor", "plugins"})
"""Commands of the core itself, whose names a plugin cannot take."""

HOOK_RECORDS: dict[str, type[ComponentSpec]] = {
    "oncoseg_normalizers": NormalizerSpec,
    "oncoseg_datasets": DatasetSpec,
    "oncoseg_prompt_generators": PromptGeneratorSpec,
    "oncoseg_losses": LossSpec,
    "oncoseg_models": ModelSpec,
    "oncoseg_automatic_models": AutomaticModelSpec,
    "oncoseg_readers": ReaderSpec,
    "oncoseg_exporters": ExporterSpec,
    "oncoseg_metrics": MetricSpec,
    "oncoseg_trackers": TrackerSpec,
    "oncoseg_commands": CommandSpec,
}
