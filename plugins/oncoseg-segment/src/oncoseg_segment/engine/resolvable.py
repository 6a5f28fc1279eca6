"""How small a lesion a model can see on a slice. Light: no torch."""

from __future__ import annotations

from oncoseg_core import Fit, Geometry, ModelSpec, SliceGrid
from oncoseg_core.path import Window

LOGITS_PER_OBJECT = 2
"""An object narrower than two logits along an axis is not resolved: between two samples there is no third (Nyquist)."""


def smallest_resolvable_mm(
    geometry: Geometry, spec: ModelSpec, window: Window | None = None, fit: Fit = "letterbox"
) -> float:
    """The smallest lesion that the model can tell from its surroundings on a slice, in mm.

    Definition: it spans two logits along both axes of the slice (the coarser axis counts), and two stored pixels, for
    magnifying adds nothing to the image. How far the slices are apart is another limit, and not part of it.

    Args:
        geometry: the volume's, which gives the pixels' size.
        spec: of the model, for the sizes of its input and of its logits.
        window: what of the slice the model gets; the whole slice when omitted.
        fit: of it into the model's input.
    """
    grid = SliceGrid.of(geometry, spec.input_size, fit)
    grid = grid if window is None else window.grid(grid)
    spacing = grid.view.spacing(*geometry.spacing[1:])
    per_pixel = (scale * spec.logits_size / spec.input_size for scale in reversed(grid.letterbox.scale))
    return max(LOGITS_PER_OBJECT * mm / min(1.0, logits) for mm, logits in zip(spacing, per_pixel, strict=True))
