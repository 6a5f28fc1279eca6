"""Scores are written down case by case, so that a stop or a crash while scoring loses the case in hand alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from oncoseg_core import StorageError
from oncoseg_core.system import json_text
from oncoseg_trainer.distributed.processes import Processes

Row = dict[str, object]

_PREFIX = "scored-"


class ScoredCases:
    """The cases that were scored before, and those that are being scored.

    Each process has a file, with a line for each case.

    Args:
        folder: where the files lie; made when the first case is scored.
        key: of the weights and cases, see :func:`scores_key`; other keys' files are of no use any more, and removed.
        processes: this one and its fellows.
        total: how many cases there are.
    """

    def __init__(self, folder: Path, key: str, processes: Processes, total: int) -> None:
        self._processes = processes
        self._folder = folder
        self._total = total
        self._path = folder / f"{_PREFIX}{key[:16]}-{processes.rank}.jsonl"
        processes.on_first(lambda: remove_scored(folder, keeping=key))
        here = _read(folder, key, total)
        self._rows = {number: rows for part in processes.gather(here) for number, rows in part.items()}
        self._new: dict[int, list[Row]] = {}

    @property
    def n_scored(self) -> int:
        """How many cases are scored, before and by now."""
        return len(self._rows)

    @property
    def mine(self) -> Sequence[int]:
        """The numbers of the cases that this process has to score."""
        left = [number for number in range(self._total) if number not in self._rows]
        return left[self._processes.rank :: self._processes.world_size]

    def keep(self, number: int, rows: list[Row]) -> None:
        """Write a case's rows down.

        Raises:
            StorageError: they cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as stream:
                # Begins a line: the one before may have been cut short.
                stream.write("\n" + json_text({"number": number, "rows": rows}) + "\n")
        except OSError as error:
            raise StorageError(f"cannot write {self._path}: {error.strerror or error}") from error
        self._new[number] = rows

    def collect(self) -> list[list[Row]]:
        """Each scored case's rows, of all processes, in the order of the cases; the same on every process."""
        for part in self._processes.gather(self._new):
            self._rows |= part
        self._new = {}
        return [self._rows[number] for number in sorted(self._rows)]


def scores_key(weights: Mapping[str, torch.Tensor], *what: str) -> str:
    """SHA-256 of the weights that are scored, bit for bit, and of what else tells scores apart."""
    digest = hashlib.sha256(json.dumps(what).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def remove_scored(folder: Path, keeping: str | None = None) -> None:
    """Remove the files, but for those of a key."""
    for path in folder.glob(f"{_PREFIX}*.jsonl"):
        if keeping is None or not path.name.startswith(f"{_PREFIX}{keeping[:16]}-"):
            path.unlink(missing_ok=True)


def _read(folder: Path, key: str, total: int) -> dict[int, list[Row]]:
    """Each case's rows, from the files of whatever processes scored before; a line that was cut short is left out."""
    rows: dict[int, list[Row]] = {}
    for path in sorted(folder.glob(f"{_PREFIX}{key[:16]}-*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            scored = _parsed(line)
            if scored is not None and scored["number"] < total:
                rows[scored["number"]] = scored["rows"]
    return rows


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
