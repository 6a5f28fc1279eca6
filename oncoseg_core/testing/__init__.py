"""The kit a plugin author runs: one ``check_*`` per hook, for any test runner.

Each check builds examples with hypothesis, runs the behaviour on them, and raises an ``AssertionError`` that says which
rule of :mod:`oncoseg_core.interfaces` failed, with which example, and what was found. The examples are the same in
every run. First-party plugins pass the same checks.

Raises:
    MissingDependencyError: hypothesis is not installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from oncoseg_core.errors import MissingDependencyError

try:
    import hypothesis as _hypothesis  # noqa: F401 - all checks need it, and it is no dependency of the core
except ModuleNotFoundError as _missing:
    raise MissingDependencyError(
        "oncoseg_core.testing needs the library 'hypothesis', which is not installed: pip install hypothesis"
    ) from _missing

from oncoseg_core.testing.commands import check_command
from oncoseg_core.testing.datasets import check_dataset
from oncoseg_core.testing.exporters import check_exporter
from oncoseg_core.testing.metrics import check_metric
from oncoseg_core.testing.normalizers import check_normalizer
from oncoseg_core.testing.prompt_generators import check_prompt_generator
from oncoseg_core.testing.trackers import check_tracker

if TYPE_CHECKING:
    from oncoseg_core.testing.losses import check_loss
    from oncoseg_core.testing.models import check_model

_NEED_TORCH = {"check_loss": "oncoseg_core.testing.losses", "check_model": "oncoseg_core.testing.models"}

__all__ = [
    "check_command",
    "check_dataset",
    "check_exporter",
    "check_loss",
    "check_metric",
    "check_model",
    "check_normalizer",
    "check_prompt_generator",
    "check_tracker",
]


def __getattr__(name: str) -> Any:
    if name in _NEED_TORCH:
        return getattr(importlib.import_module(_NEED_TORCH[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
