"""Components that each break one rule of the contract, so that you see a check fail before you trust it.

One module per kind. ``python -m oncoseg_testing.broken`` runs the checks on all of them and prints what they say.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from oncoseg_core import MissingDependencyError, UsageError, close_matches

if TYPE_CHECKING:
    from oncoseg_testing.broken.examples import BrokenExample

KINDS = (
    "normalizer",
    "dataset",
    "prompt-generator",
    "loss",
    "model",
    "automatic-model",
    "reader",
    "exporter",
    "metric",
    "tracker",
    "command",
)


def broken_examples(kind: str) -> list[BrokenExample]:
    """The broken components of one of :data:`KINDS`.

    Raises:
        MissingDependencyError: hypothesis is not installed, or for a loss or a model torch.
        UsageError: there is no such kind.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown kind {kind!r}{close_matches(kind, KINDS)}")
    plural = {"loss": "losses"}.get(kind, f"{kind.replace('-', '_')}s")
    try:
        module = importlib.import_module(f"{__name__}.{plural}")
    except ModuleNotFoundError as missing:
        raise MissingDependencyError(
            f"the broken examples of kind {kind!r} need the library {missing.name!r}, which is not installed: "
            f"pip install {missing.name}"
        ) from missing
    found: list[BrokenExample] = module.EXAMPLES.found
    return found
