"""What a window says of a structure, in words and numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def sentences_of(structure: dict[str, Any] | None, findings: Iterable[str]) -> list[str]:
    """A structure's measurements and findings, and the image's, for reading."""
    if structure is None:
        return list(findings)
    lines = []
    if structure["long"] is not None:
        across = "" if structure["short"] is None else f" × {structure['short']['mm']:.1f}"
        lines.append(f"{structure['long']['mm']:.1f}{across} mm on slice {structure['diameter_slice']}")
    if structure["volume_ml"] is not None:
        lines.append(f"{structure['volume_ml']:.2f} mL")
    if structure["mean"] is not None:
        lines.append(f"mean {structure['mean']:.1f} {structure['unit'] or ''}".strip())
    if structure["score"] is not None:
        lines.append(f"score {structure['score']:.2f}")
    return [", ".join(lines), *structure["findings"], *findings] if lines else [*structure["findings"], *findings]
