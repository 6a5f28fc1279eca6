"""A run's folder: one file for each case that is done, so that a run that was killed goes on where it was.

| path | what |
|---|---|
| `run.json` | the configuration, the cases and the weights, fixed when the run begins |
| `processes/` | which shares of the cases were begun, and with which versions on which machine |
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

from oncoseg_benchmarks.run.create_once import atomic_create
from oncoseg_core import RunError
from oncoseg_core.system import atomic_write, json_text

RUN_FILE = "run.json"
RESULTS_FILE = "results.csv"
TIMING_FILE = "timing.csv"
SUMMARY_FILE = "summary.json"
REPORT_FILE = "report.html"

HASHES = "hashes"
"""The content hashes of the cases, taken before the run begins where an adapter might have seen them."""

PROCESSES = "processes"
"""Which shares of the cases were begun, and with what."""

UNIT_KEYS = frozenset(
    {
        "model",
        "dataset",
        "case",
        "rows",
        "failures",
        "skipped",
        "latency",
        "seconds",
        "peak_memory_mb",
        "peak_device_mb",
    }
)
"""What is written down of a case that is done."""

_HASHED = re.compile(r"-[0-9a-f]{16}$")

FIXED = ("config", "cases_sha256", "models", "metrics")
"""What must be the same for a run to go on: all else, such as the machine, may change."""


class RunFolder:
    """The files of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self, identity: Mapping[str, Any], process: str, *, resume: bool) -> None:
        """Refuse a folder that is not this run's, before anything is written to it.

        Args:
            identity: what the run is, with all keys of ``FIXED``; the configuration without the output.
            process: whose share it is, such as ``0-of-2``. Processes of one run may begin in any order; each needs
                ``resume`` only to go on with a share that was begun before.
            resume: go on with what the folder holds.

        Raises:
            RunError: the folder holds a run and ``resume`` was not asked for, or another run, or something else.
        """
        record = self.path / RUN_FILE
        begun = record.exists()  # asked first: whoever writes it is among the processes before
        if not begun and self.path.is_dir():
            ours = {HASHES, PROCESSES}
            foreign = [one for one in self.path.iterdir() if one.name not in ours and one.name[:9] != ".partial-"]
            if foreign and not record.exists():  # it may have been written meanwhile
                raise RunError(f"{self.path}: holds something that is no benchmark run; choose another --output")
        others = {path.stem for path in (self.path / PROCESSES).glob("*.json")}
        again = process in others or any(_processes(other) != _processes(process) for other in others)
        if not resume and (again or (begun and not others)):
            raise RunError(f"{self.path}: holds a run already; go on with --resume, or choose another --output")
        if not begun:
            return
        before = self.identity()
        for key in FIXED:
            if before.get(key) != json.loads(json_text(identity[key])):
                raise RunError(
                    f"{self.path}: the run there has another {_WORDS[key]}"
                    f"{_difference(before.get(key), identity[key])}; choose another --output"
                )

    def claim(self, identity: Mapping[str, Any], environment: Mapping[str, Any], process: str, *, resume: bool) -> None:
        """Begin a run, or go on with the one that is there; several processes may do the same at once.

        Args:
            identity: as for :meth:`check`.
            environment: with what this process scores: versions, machine, commit.
            process: as for :meth:`check`.
            resume: as for :meth:`check`.

        Raises:
            RunError: as for :meth:`check`.
            StorageError: it cannot be written.
        """
        self.check(identity, process, resume=resume)
        path = self.path / PROCESSES / f"{process}.json"
        if not atomic_create(path, json_text([environment]) + "\n"):
            if not resume:  # begun in this very moment
                self.check(identity, process, resume=False)
            before = _read(path) or []
            if environment not in before:
                atomic_write(path, json_text([*before, environment]) + "\n")
        if not atomic_create(self.path / RUN_FILE, json_text(identity, indent=1) + "\n"):
            self.check(identity, process, resume=True)

    def environments(self) -> list[dict[str, Any]]:
        """With what the run's processes scored, each once: several where versions changed, or machines differ."""
        found: list[dict[str, Any]] = []
        for path in sorted((self.path / PROCESSES).glob("*.json")):
            found += [each for each in _read(path) or [] if each not in found]
        return found

    def claim_weights(self, model: str, version: Mapping[str, Any]) -> None:
        """Write down whose weights a model has, or compare them with those that the run began with.

        Raises:
            RunError: they are others.
        """
        path = self.path / "weights" / f"{slug(model)}.json"
        if not atomic_create(path, json_text(version) + "\n") and self.weights(model) != version:
            raise RunError(
                f"{self.path}: model {model!r} has other weights than when the run began; choose another --output"
            )

    def weights(self, model: str) -> dict[str, Any] | None:
        """Whose weights a model has; None for floors and ceilings."""
        found: dict[str, Any] | None = _read(self.path / "weights" / f"{slug(model)}.json")
        return found

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

    def unit(self, model: str, dataset: str, case: str) -> dict[str, Any] | None:
        """What is known of a case; None where it was not done, or its file is not whole (a disk that failed)."""
        content = _read(self.unit_path(model, dataset, case))
        names = {"model": model, "dataset": dataset, "case": case}
        return content if _is_unit(content) and content.items() >= names.items() else None

    def write_unit(self, content: Mapping[str, Any]) -> None:
        """Say that a case is done, with all of ``UNIT_KEYS``. Its masks are written before.

        Raises:
            StorageError: it cannot be written.
        """
        path = self.unit_path(content["model"], content["dataset"], content["case"])
        atomic_write(path, json_text(content) + "\n")

    def units(self, models: Sequence[str], cases: Sequence[tuple[str, str]]) -> Iterator[dict[str, Any] | None]:
        """What is known of every case by every model, in that order; None for those that are not done."""
        for model in models:
            for dataset, case in cases:
                yield self.unit(model, dataset, case)

    def all_units(self) -> Iterator[dict[str, Any]]:
        """What is known of every case that is in the folder, in the order of their files."""
        for path in sorted((self.path / "units").rglob("[!.]*.json")):
            content = _read(path)
            if _is_unit(content):
                yield content


_WORDS = {
    "config": "configuration",
    "cases_sha256": "choice of cases",
    "models": "set of weights",
    "metrics": "set of metrics",
}


def slug(name: str) -> str:
    """A file name for any name: its letters and figures, and a part of its hash where that is not all.

    Small letters only go without the hash: some disks take ``Case`` and ``case`` for one name.
    """
    safe = re.sub(r"[^A-Za-z0-9_.+-]+", "_", name)[:80].strip(".")
    if safe == name and safe == safe.lower() and not _HASHED.search(name):
        return name
    return f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _processes(name: str) -> str:
    """Of how many processes one of that name is."""
    return name.rpartition("-")[2]


def _is_unit(content: Any) -> bool:
    return isinstance(content, dict) and content.keys() >= UNIT_KEYS


def _read(path: Path) -> Any:
    """What a JSON file holds; None where it is missing, or not whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _difference(before: Any, now: Any) -> str:
    """The first key that differs, for the message."""
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return ""
    now = json.loads(json_text(now))
    keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    return f" ({', '.join(keys[:3])})" if keys else ""
