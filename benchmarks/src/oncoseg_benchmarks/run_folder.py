"""A run's folder: one file for each case that is done, so that a run that was killed goes on where it was.

| path | what |
|---|---|
| `run.json` | the configuration, the cases and the weights, fixed when the run begins |
| `units/` | per model and case: rows, failures, latency |
| `masks/`, `references/` | the masks behind the rows |
| `results.csv`, `timing.csv`, `summary.json`, `report.html` | written when all cases are done |
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from oncoseg_core.atomic import atomic_write
from oncoseg_core.errors import RunError

RUN_FILE = "run.json"
RESULTS_FILE = "results.csv"
TIMING_FILE = "timing.csv"
SUMMARY_FILE = "summary.json"
REPORT_FILE = "report.html"

HASHES = "hashes"
"""The content hashes of the cases, taken before the run begins where an adapter might have seen them."""

FIXED = ("config", "cases_sha256", "models", "metrics")
"""What must be the same for a run to go on: all else, such as the machine, may change."""


class RunFolder:
    """The files of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def claim(self, identity: Mapping[str, Any], *, resume: bool) -> None:
        """Begin a run, or go on with the one that is there; several processes may do the same at once.

        Args:
            identity: what the run is, with all keys of ``FIXED``; the configuration without the output.
            resume: go on with what the folder holds.

        Raises:
            RunError: the folder holds a run and ``resume`` was not asked for, or holds another run.
            StorageError: it cannot be written.
        """
        path = self.path / RUN_FILE
        if not path.exists():
            if self.path.is_dir() and any(entry.name != HASHES for entry in self.path.iterdir()):
                raise RunError(f"{self.path}: holds something that is no benchmark run; choose another --output")
            atomic_write(path, json.dumps(identity, indent=1) + "\n")
            return
        before = self.identity()
        if not resume:
            raise RunError(f"{self.path}: holds a run already; go on with --resume, or choose another --output")
        for key in FIXED:
            if before.get(key) != json.loads(json.dumps(identity[key])):
                raise RunError(
                    f"{self.path}: the run there has another {_WORDS[key]}"
                    f"{_difference(before.get(key), identity[key])}; choose another --output"
                )

    def claim_weights(self, model: str, version: Mapping[str, Any]) -> None:
        """Write down whose weights a model has, or compare them with those that the run began with.

        Raises:
            RunError: they are others.
        """
        path = self.path / "weights" / f"{slug(model)}.json"
        if not path.exists():
            atomic_write(path, json.dumps(version) + "\n")
        elif json.loads(path.read_text(encoding="utf-8")) != version:
            raise RunError(
                f"{self.path}: model {model!r} has other weights than when the run began; choose another --output"
            )

    def weights(self, model: str) -> dict[str, Any] | None:
        """Whose weights a model has; None for floors and ceilings."""
        return self.read_unit(self.path / "weights" / f"{slug(model)}.json")

    def identity(self) -> dict[str, Any]:
        """What the run is.

        Raises:
            RunError: the folder is no run.
        """
        path = self.path / RUN_FILE
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise RunError(f"{path}: {error.strerror or error}; expected the folder of a benchmark run") from error
        except ValueError as error:
            raise RunError(f"{path}: is not the record of a run ({error})") from error
        return content

    def unit_path(self, model: str, dataset: str, case: str) -> Path:
        """The file of one case by one model."""
        return self.path / "units" / slug(model) / slug(dataset) / f"{slug(case)}.json"

    def masks_path(self, model: str, dataset: str, case: str) -> Path:
        """The predicted masks of a case."""
        return self.path / "masks" / slug(model) / slug(dataset) / f"{slug(case)}.npz"

    def references_path(self, dataset: str, case: str) -> Path:
        """The reference masks of a case."""
        return self.path / "references" / slug(dataset) / f"{slug(case)}.npz"

    def read_unit(self, path: Path) -> dict[str, Any] | None:
        """What is known of a case; None where it was not done, or its file is not whole (a disk that failed)."""
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return content

    def write_unit(self, path: Path, content: Mapping[str, Any]) -> None:
        """Say that a case is done. Its masks are written before.

        Raises:
            StorageError: it cannot be written.
        """
        atomic_write(path, json.dumps(content) + "\n")

    def units(self, models: Sequence[str], cases: Sequence[tuple[str, str]]) -> Iterator[dict[str, Any] | None]:
        """What is known of every case by every model, in that order; None for those that are not done."""
        for model in models:
            for dataset, case in cases:
                yield self.read_unit(self.unit_path(model, dataset, case))


_WORDS = {
    "config": "configuration",
    "cases_sha256": "choice of cases",
    "models": "set of weights",
    "metrics": "set of metrics",
}


def slug(name: str) -> str:
    """A file name for any name: its letters and figures, and a few characters of its hash where that is not all."""
    safe = re.sub(r"[^A-Za-z0-9_.+-]+", "_", name)[:80].strip(".")
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _difference(before: Any, now: Any) -> str:
    """The first key that differs, for the message."""
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return ""
    now = json.loads(json.dumps(now))
    keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    return f" ({', '.join(keys[:3])})" if keys else ""
