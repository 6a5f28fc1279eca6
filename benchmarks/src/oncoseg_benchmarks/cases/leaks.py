"""Keeping apart what an adapter was trained on and what it is scored on."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from oncoseg_benchmarks.cases.case_selection import BenchCases, Scored
from oncoseg_core import Case, DataError, DatasetAdapter, DatasetSpec, Progress, Registry, Volume
from oncoseg_core.imaging import content_hash
from oncoseg_core.system import atomic_write
from oncoseg_lora import Leak, Scan, declared_leaks, read_manifest, read_trained_on, refuse_leaks, seen_scans

SETTING = "leakage=mark"  # as an option: --set leakage=mark


@dataclass(frozen=True)
class Leakage:
    """What of a run's data an adapter has seen, by the label of its model; ``unknown``: it does not tell.

    ``compared`` are the content hashes of the scored cases, by dataset and case id; a case that could not be read has
    none.
    """

    leaks: Mapping[str, Sequence[Leak]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    compared: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def mark(self, label: str, dataset: str, case_id: str) -> str | None:
        """``certain``, ``suspected``, ``unknown`` or None for a case scored with that model."""
        if label in self.unknown:
            return "unknown"
        own = [leak for leak in self.leaks.get(label, ()) if leak.scored in {dataset, f"{dataset}/{case_id}"}]
        return None if not own else "certain" if any(leak.certain for leak in own) else "suspected"

    def require_compared(self, label: str, case: Case, volume: Volume) -> None:
        """Refuse an image other than the one that was compared with what the model's adapter was trained on.

        Raises:
            DataError: the case could not be read then, or its file was changed since.
        """
        if label not in self.leaks:
            return
        before = self.compared.get((case.dataset, case.case_id))
        if before != content_hash(volume.voxels, volume.geometry):
            why = "could not be read" if before is None else "was another one"
            raise DataError(
                f"case {case.case_id!r}: its image {why} when the cases were compared with what the adapter was "
                "trained on; go on with --resume, which compares again"
            )


def find_leaks(
    adapters: Mapping[str, Path],
    chosen: BenchCases,
    registry: Registry,
    folder: Path,
    rank: int,
    progress: Progress,
    *,
    allowed: bool,
) -> Leakage:
    """Compare what each adapter was trained on with what is scored.

    Declared overlaps of datasets first, and what chose among the epochs; then the content of every case, which is read
    once for it. A case that cannot be read is no leak: it will fail when it is scored, and say so.

    Args:
        adapters: folders by the label of their model.
        chosen: what is scored.
        registry: for the records of the datasets trained on.
        folder: where hashes are kept, so that several processes share the work and a resumed run does not repeat it.
        rank: of this process; each begins elsewhere.
        progress: told about the reading.
        allowed: mark certain leaks, do not refuse them.

    Raises:
        DataError: something was certainly seen, or an adapter does not tell, and that is not allowed.
    """
    if not adapters:
        return Leakage()
    known = {spec.name: spec for spec in registry.specs(DatasetSpec)}
    scored_specs = [chosen.specs[name] for name in sorted({each.case.dataset for each in chosen.cases})]
    found: dict[str, list[Leak]] = {}
    unknown, seen, scans = [], {}, []
    for label, adapter in adapters.items():
        trained_on = read_trained_on(adapter)
        if trained_on is None or not trained_on.hashes:  # trained on no scan is as good as telling nothing
            if not allowed:
                raise DataError(
                    f"{adapter}: the adapter does not tell what it was trained on, so that nobody can say whether what "
                    f"is scored is held out; use another adapter, or --set {SETTING}, and every result will say so"
                )
            unknown.append(label)
            continue
        seen[label] = trained_on
        trained_specs = [known.get(name, name) for name in trained_on.datasets]
        found[label] = [*declared_leaks(trained_specs, scored_specs), *_validated_on(adapter, chosen.cases)]
        refuse_leaks(found[label], allowed=allowed, setting=SETTING)
    if seen:
        scans = _scans(chosen.cases, folder, rank, progress)
        for label, trained_on in seen.items():
            found[label] = sorted({*found[label], *seen_scans(trained_on, scans)})
            refuse_leaks(found[label], allowed=allowed, setting=SETTING)
    return Leakage(found, tuple(unknown), {(scan.dataset, scan.case_id): scan.content_hash for scan in scans})


def _validated_on(adapter: Path, cases: Sequence[Scored]) -> list[Leak]:
    """Datasets scored on the side, or on all sides, by which its training chose among the epochs."""
    splits = read_manifest(adapter).splits
    scored = {(each.case.dataset, each.side) for each in cases}
    return [
        Leak("the adapter's validation", side.dataset, "its training chose among the epochs by it", certain=False)
        for side in (splits.sides if splits is not None else ())
        if side.used_for == "validation" and scored & {(side.dataset, "all"), (side.dataset, side.side)}
    ]


def _scans(cases: Sequence[Scored], folder: Path, rank: int, progress: Progress) -> list[Scan]:
    """The content hash of each case that can be read, from the folder where another process has it already."""
    scans = []
    start = rank * len(cases) // 7 % max(1, len(cases))
    for done, (case, adapter, _) in enumerate([*cases[start:], *cases[:start]], start=1):
        path = folder / f"{_files_hash(case, adapter)}.txt"
        try:
            found: str | None = path.read_text(encoding="ascii").strip()
        except OSError:
            found = _hash(case, adapter)
            if found is not None:
                atomic_write(path, found + "\n")
        if found is not None:
            scans.append(Scan(case.dataset, case.case_id, found))
        progress("looking for what was trained on", done, len(cases))
    return scans


def _files_hash(case: Case, adapter: DatasetAdapter) -> str:
    """What changes when a case's image files do (their paths, sizes and times), or what the adapter makes of them."""
    files = []
    for image in case.images:
        for path in sorted(image.rglob("*")) if image.is_dir() else [image]:
            with contextlib.suppress(OSError):
                found = path.stat()
                files.append([str(path.absolute()), found.st_size, found.st_mtime_ns])
    told = [case.dataset, case.case_id, str(adapter.settings), files]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def _hash(case: Case, adapter: DatasetAdapter) -> str | None:
    try:
        volume, _ = adapter.load(case)
    except Exception:  # noqa: BLE001 - it will fail when it is scored, and say so
        return None
    return content_hash(volume.voxels, volume.geometry)
