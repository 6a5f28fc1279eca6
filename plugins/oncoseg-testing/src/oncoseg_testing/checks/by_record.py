"""From a component's record to its check."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import oncoseg_testing as testing
from oncoseg_core import (
    AutomaticModelSpec,
    BoolArray,
    CommandSpec,
    DataError,
    DatasetSpec,
    ExporterSpec,
    ImageReadError,
    LossSpec,
    MetricSpec,
    ModelSpec,
    NormalizerSpec,
    PromptGeneratorSpec,
    ReaderSpec,
    Registry,
    TrackerSpec,
    UsageError,
    Volume,
)
from oncoseg_core.imaging import read_masks
from oncoseg_core.plugins import RegisteredComponent
from oncoseg_testing.checks.exporters import ReadBack

MODALITY = "ct"
"""What a loss is built for, unless it is said."""


def check_component(  # noqa: C901 - one case per kind
    registry: Registry,
    component: RegisteredComponent,
    *,
    root: Path | None = None,
    cases_to_read: int = 2,
    modality: str = MODALITY,
) -> None:
    """Build a component with its default settings, as a run would, and check all that its record says.

    Args:
        registry: where it was found.
        component: one of ``registry.components``.
        root: the folder of a dataset; for a reader an image of its format, without which less is checked.
        cases_to_read: of how many cases of a dataset to read the files.
        modality: what a loss is built for.

    Raises:
        AssertionError: a rule is broken.
        ConfigError: it cannot be built without settings.
        MissingDependencyError, PluginError: it cannot be built.
        UsageError: a dataset is checked without its folder.
    """
    spec = component.spec

    def build(**context: Any) -> Any:
        built = registry.build(type(spec), spec.component_name, **context)
        built.provider = None  # the rules say more of a wrong answer than the border to the components does
        return built

    match spec:
        case NormalizerSpec():
            testing.check_normalizer(build(), spec=spec)
        case DatasetSpec():
            if root is None:
                raise UsageError(f"the dataset {spec.name!r} is checked in its folder; say where it is")
            testing.check_dataset(build(), root, spec, cases_to_read=cases_to_read)
        case PromptGeneratorSpec():
            testing.check_prompt_generator(build(), makes=spec.makes)
        case LossSpec():
            testing.check_loss(build(modality=modality))
        case ModelSpec():
            testing.check_model(build())
        case AutomaticModelSpec():
            testing.check_automatic_model(build(), spec=spec)
        case ReaderSpec():
            with tempfile.TemporaryDirectory() as folder:
                testing.check_reader(build(), Path(folder), image=root)
        case ExporterSpec():
            with tempfile.TemporaryDirectory() as folder:
                testing.check_exporter(build(), Path(folder), suffix=spec.suffix, read_back=_reader_of(registry))
        case MetricSpec():
            testing.check_metric(build(), better=spec.better)
        case TrackerSpec():
            with tempfile.TemporaryDirectory() as folder:
                testing.check_tracker(build, Path(folder))
        case CommandSpec():
            registry.component(CommandSpec, spec.name)
            testing.check_command(spec)


def _reader_of(registry: Registry) -> ReadBack:
    """How the installed plugins and the core read what an exporter wrote; not a format that none of them knows."""

    def read_back(path: Path, image: Volume) -> Mapping[str, BoolArray] | None:
        try:
            return read_masks(registry, path, image).masks
        except (ImageReadError, DataError):
            return None

    return read_back
