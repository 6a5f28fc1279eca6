"""Recording a measurement so that it can be defended: what was run, with what, where, when."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from oncoseg_core import load_plugins
from oncoseg_core.plugins import environment_summary
from oncoseg_core.system import atomic_write, json_text

STARTED = time.monotonic()
"""When this module was imported, at the top of the script."""

RESULTS = Path(__file__).parents[2] / "results"
"""``benchmarks/results`` of the checkout (the package is run from one, installed as editable)."""


def require(holds: bool, otherwise: str) -> None:
    """Stop with what was found.

    Raises:
        AssertionError: it does not hold.
    """
    if not holds:
        raise AssertionError(otherwise)


def spread(values: Sequence[float]) -> dict[str, float | int]:
    """Median, minimum, maximum and number of repeated measurements."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def record(name: str, command: str, found: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Write ``<name>.json``: the findings with the command, the date, how long it took, versions and machine.

    Args:
        name: of the measurement, also the file's.
        command: what anyone can run again.
        found: plain values.
        folder: where to.

    Raises:
        StorageError: it cannot be written.
    """
    path = folder / f"{name}.json"
    content = {
        "name": name,
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(time.monotonic() - STARTED),
        "found": dict(found),
        "versions": environment_summary(load_plugins()),
    }
    atomic_write(path, json_text(content, indent=2) + "\n")
    return path
