"""What the records say, for people and programs: a table, one record in full, JSON, and the README's table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from oncoseg_core import DatasetSpec
from oncoseg_core.cli import cell
from oncoseg_core.path import parts_of

TABLE_WIDTH = 120
MOST_TARGETS = 3
"""Of a dataset with more, the table has the number and the first two."""


def chosen(specs: Sequence[DatasetSpec], phase: str | None, modality: str | None) -> list[DatasetSpec]:
    """Those of a phase, and those with images of a modality (``ct`` finds ``ct+pet`` too)."""
    return [
        spec
        for spec in specs
        if (phase is None or (spec.phase or "").lower() == phase.lower())
        and (modality is None or any(modality in (name, *parts_of(name)) for name in spec.modalities))
    ]


def table(specs: Sequence[DatasetSpec]) -> Table:
    """A table that fits 120 columns; † marks a record with doubts."""
    shown = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("slug", "phase", "modality"):
        shown.add_column(cell(name), no_wrap=True)
    shown.add_column("cases", justify="right", no_wrap=True)
    for name in ("targets", "licence", "access", "where to get it"):
        shown.add_column(cell(name), overflow="fold")
    for spec in specs:
        row = (
            spec.name + _dagger(spec),
            spec.phase or "",
            Text("\n").join(map(cell, spec.modalities or ("any",))),
            "" if spec.n_cases is None else str(spec.n_cases),
            _targets(spec),
            spec.licence,
            spec.access or "",
            (spec.url.partition("://")[2] or spec.url).rstrip("/"),
        )
        shown.add_row(*(one if isinstance(one, Text) else cell(one) for one in row))
    return shown


def as_json(spec: DatasetSpec) -> dict[str, Any]:
    """The whole record as JSON has it, without the code behind it."""
    content = spec.model_dump(mode="json", exclude={"factory"})
    content["targets"] = [
        {"name": target.name, "labels": sorted(target.labels), "synonyms": list(target.synonyms)}
        for target in spec.targets
    ]
    return content


def in_full(spec: DatasetSpec) -> list[str]:
    """The whole record, one line per statement; doubts begin with †."""
    lines = [
        f"{spec.name}: {spec.summary}",
        f"modality: {', '.join(spec.modalities) or 'as the settings say'}",
        f"cases: {spec.n_cases if spec.n_cases is not None else 'not stated'}",
        f"annotation: {spec.annotation}",
        f"phase: {spec.phase or 'none'}",
        f"licence: {spec.licence}",
        f"access: {spec.access or 'not stated'}",
        f"where to get it: {spec.url}",
        f"citation: {spec.citation}",
    ]
    for target in spec.targets:
        synonyms = f" (also: {', '.join(target.synonyms)})" if target.synonyms else ""
        lines.append(f"target: {target.name} = {', '.join(map(str, sorted(target.labels)))}{synonyms}")
    for overlap in spec.overlaps:
        sure = "shares images with" if overlap.certain else "may share images with"
        lines.append(f"{sure} {overlap.dataset}: {overlap.how}")
    return [*lines, *(f"† {doubt}" for doubt in spec.doubts)]


def markdown(specs: Sequence[DatasetSpec]) -> list[str]:
    """The lines of a README's table: what it is, and under which terms."""
    rows = ["| dataset | phase | modality | cases | targets | licence | access |", "|---|---|---|---|---|---|---|"]
    for spec in specs:
        cells = (
            f"[`{spec.name}`]({spec.url}){_dagger(spec)}",
            spec.phase or "",
            ", ".join(f"`{name}`" for name in spec.modalities) or "any",
            "" if spec.n_cases is None else f"{spec.n_cases:,}",
            _targets(spec),
            spec.licence,
            spec.access or "",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _dagger(spec: DatasetSpec) -> str:
    return " †" if spec.doubts else ""


def _targets(spec: DatasetSpec) -> str:
    names = [target.name for target in spec.targets]
    if not names:
        return "as you say"
    if len(names) <= MOST_TARGETS:
        return ", ".join(names)
    return f"{len(names)}: {', '.join(names[:2])}, …"
