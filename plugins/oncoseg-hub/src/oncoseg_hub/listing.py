"""What there is to say of adapters on this machine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.table import Table

from oncoseg_core import WeightsError
from oncoseg_core.cli import cell
from oncoseg_lora import ADAPTER_FILES, AdapterManifest, Origin, ScoreSummary, pulled_adapters, read_manifest


def rows(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Pulled adapters, then those in the given folders, as plain values; a damaged one has its ``problem``."""
    found = [(folder, origin, origin is None) for folder, origin in pulled_adapters()]
    found += [(folder, None, False) for folder in folders]
    return [_row(folder, origin, lost) for folder, origin, lost in found]


def _row(folder: Path, origin: Origin | None, lost: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": str(folder) if origin is None else origin.name,
        "folder": str(folder),
        "revision": None if origin is None else origin.revision,
        "alias": None if origin is None else origin.alias,
        "problem": "pulled.json is damaged; pull it again" if lost else None,
    }
    try:
        manifest = read_manifest(folder)
    except WeightsError as error:
        return {**row, "problem": str(error)}
    return {
        **row,
        "model": manifest.model,
        "base_weights_sha256": manifest.base_weights_sha256,
        "policy": manifest.lora.policy,
        "modalities": sorted(manifest.paths),
        "datasets": None if manifest.datasets is None else list(manifest.datasets),
        "score": _score(manifest),
        "leaked": None if manifest.leakage is None else manifest.leakage.n_certain > 0,
        "bytes": sum(path.stat().st_size for path in (folder / file for file in ADAPTER_FILES) if path.is_file()),
    }


def _score(manifest: AdapterManifest) -> dict[str, Any] | None:
    """The first metric's mean over all scored cases, whatever their dataset and target; None where there is none."""
    if not manifest.metrics:
        return None
    name = manifest.metrics[0].metric
    chosen = [row for row in manifest.metrics if row.metric == name]
    return {
        "metric": name,
        "before": _mean(row.before for row in chosen),
        "after": _mean(row.after for row in chosen),
        "n_cases": sum(row.after.n_cases for row in chosen),
        "splits": sorted({row.split for row in chosen}),
        "prompts": sorted({row.prompt for row in chosen}),
    }


def _mean(summaries: Iterable[ScoreSummary | None]) -> float | None:
    defined = [(one.mean, one.n_cases) for one in summaries if one is not None and one.mean is not None]
    weight = sum(n for _, n in defined)
    return sum(mean * n for mean, n in defined) / weight if weight else None


def table(found: Iterable[dict[str, Any]]) -> Table:
    """For a terminal."""
    drawn = Table("name", "model", "base weights", "modalities", "trained on", "score", "MB", box=None, pad_edge=False)
    drawn.columns[-1].justify = "right"
    for row in found:
        if "model" not in row:
            drawn.add_row(cell(row["name"]), "damaged")
            continue
        base = row["base_weights_sha256"]
        cells = (
            row["name"],
            row["model"],
            base if ":" in base else base[:12],
            ", ".join(row["modalities"]),
            "not recorded" if row["datasets"] is None else ", ".join(row["datasets"]),
            _score_cell(row),
            f"{row['bytes'] / 1e6:.1f}",
        )
        drawn.add_row(*map(cell, cells))
    return drawn


def _score_cell(row: dict[str, Any]) -> str:
    score = row["score"]
    if score is None or score["after"] is None:
        return "none"
    before = "" if score["before"] is None else f"{score['before']:.3f} → "
    text = (
        f"{score['metric']} {before}{score['after']:.3f} ({score['n_cases']} cases, {'/'.join(score['splits'])}, "
        f"{'/'.join(score['prompts'])})"
    )
    return f"LEAKED {text}" if row["leaked"] else text
