"""What a person checks of a grid before trusting it: size, spacing, how it lies in the body, and whether it is even."""

from __future__ import annotations

import numpy as np

from oncoseg_core.contract.geometry import Geometry
from oncoseg_core.contract.interfaces import Finding

_TOWARDS = (("left", "right"), ("back", "front"), ("head", "feet"))
_PLANES = ("sagittal", "coronal", "axial")
_STRAIGHT_DEGREES = 0.1


def grid_findings(geometry: Geometry, *, physical: bool = True) -> list[Finding]:
    """What a grid is, in words; bad where its voxels are not on an even grid with axes at right angles.

    ``physical`` is False of a picture whose millimetres are not known.
    """
    z, y, x = geometry.shape
    spacing = " x ".join(f"{value:.5g}" for value in geometry.spacing)
    findings = [Finding("size", f"{z} slice{'s' * (z != 1)} of {y} x {x} pixels (rows x columns)", ok=True)]
    if not physical:
        return [*findings, Finding("spacing", "not told: a picture without millimetres", ok=True)]
    findings += [
        Finding("spacing", f"{spacing} mm (between slices, rows, columns)", ok=True),
        Finding("orientation", orientation(geometry), ok=True),
    ]
    why = geometry.irregularity
    findings.append(Finding("grid", why or "even, axes at right angles", ok=why is None))
    return findings


def orientation(geometry: Geometry) -> str:
    """The plane of the slices and where each index grows, such as ``axial; x to the left, y to the back, …``."""
    normal = geometry.normal
    across = int(np.abs(normal).argmax())
    off = float(np.degrees(np.arccos(min(1.0, abs(float(normal[across]))))))
    plane = _PLANES[across] if off <= _STRAIGHT_DEGREES else f"{off:.1f} degrees off {_PLANES[across]}"
    steps = []
    for name, direction in zip("xyz", geometry.direction.T, strict=True):
        axis = int(np.abs(direction).argmax())
        steps.append(f"{name} to the {_TOWARDS[axis][0 if direction[axis] > 0 else 1]}")
    return f"{plane}; {', '.join(steps)}"
