"""The kit a plugin author runs: one ``check_*`` per hook, for any test runner, and ``pytest --oncoseg DISTRIBUTION``.

Each check builds examples with hypothesis, runs the behaviour on them, and raises a
:class:`~oncoseg_testing.checks.rules.BrokenRuleError` (an ``AssertionError``) that says which rule of the contract
failed, with which example, and what came out. The examples are the same in
every run. First-party plugins pass the same checks; :mod:`oncoseg_testing.broken` has components that do not.

Every pytest run imports this module where the kit is installed: a check is imported when it is asked for.

Raises:
    MissingDependencyError: hypothesis is not installed, or torch, which the checks of losses and models need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from oncoseg_core import MissingDependencyError

if TYPE_CHECKING:
    from oncoseg_testing.checks.automatic_models import check_automatic_model
    from oncoseg_testing.checks.by_record import check_component
    from oncoseg_testing.checks.commands import check_command
    from oncoseg_testing.checks.datasets import check_dataset
    from oncoseg_testing.checks.exporters import check_exporter
    from oncoseg_testing.checks.losses import check_loss
    from oncoseg_testing.checks.metrics import check_metric
    from oncoseg_testing.checks.models import check_model
    from oncoseg_testing.checks.normalizers import check_normalizer
    from oncoseg_testing.checks.prompt_generators import check_prompt_generator
    from oncoseg_testing.checks.readers import check_reader
    from oncoseg_testing.checks.trackers import check_tracker
    from oncoseg_testing.phantoms import Phantom, phantom

_MODULES = {
    "check_automatic_model": "checks.automatic_models",
    "check_command": "checks.commands",
    "check_component": "checks.by_record",
    "check_dataset": "checks.datasets",
    "check_exporter": "checks.exporters",
    "check_loss": "checks.losses",
    "check_metric": "checks.metrics",
    "check_model": "checks.models",
    "check_normalizer": "checks.normalizers",
    "check_prompt_generator": "checks.prompt_generators",
    "check_reader": "checks.readers",
    "check_tracker": "checks.trackers",
    "Phantom": "phantoms",
    "phantom": "phantoms",
}

__all__ = [
    "Phantom",
    "check_automatic_model",
    "check_command",
    "check_component",
    "check_dataset",
    "check_exporter",
    "check_loss",
    "check_metric",
    "check_model",
    "check_normalizer",
    "check_prompt_generator",
    "check_reader",
    "check_tracker",
    "phantom",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as missing:
        if missing.name not in {"hypothesis", "torch"}:
            raise
        raise MissingDependencyError(
            f"{name} needs the library {missing.name!r}, which is not installed: pip install {missing.name}"
        ) from missing
