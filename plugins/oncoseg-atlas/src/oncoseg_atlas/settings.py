"""What a user may set of the atlas model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from oncoseg_core import Settings

Deformation = Literal["demons", "bspline", "none"]
Fusion = Literal["local", "majority", "staple"]


class AtlasSettings(Settings):
    """Settings of the automatic model ``atlas``.

    ``folder`` holds the contoured cases, one subfolder each. Of the cases, ``most_candidates`` are aligned with the
    image, and the ``most_atlases`` most similar of them are deformed and fused. ``spacing_mm`` is that of the grid on
    which images are registered, of ``most_voxels`` at most; ``contour_spacing_mm`` that on which contours are fused,
    in the image's own planes. An atlas takes no part that after the affine step is less similar than
    ``minimum_similarity`` (correlation within the bodies, outlines included) or covers less than ``minimum_overlap`` of
    the body in the image, or that, once deformed, fits less than ``minimum_fit`` (correlation where both bodies are). A
    structure on which the atlases agree less than ``minimum_agreement`` (mean Dice) is not contoured. After ``seconds``
    no further atlas is begun. ``threads`` atlases are registered at a time; the result does not depend on it.
    """

    folder: Path
    most_candidates: PositiveInt = 20
    most_atlases: PositiveInt = 5
    deformation: Deformation = "demons"
    fusion: Fusion = "local"
    spacing_mm: Annotated[float, Field(ge=1, le=10)] = 3.0
    contour_spacing_mm: Annotated[float, Field(ge=0.5, le=5)] = 1.5
    most_voxels: Annotated[int, Field(ge=10_000, le=20_000_000)] = 3_000_000
    minimum_similarity: Annotated[float, Field(ge=-1, le=1)] = 0.3
    minimum_fit: Annotated[float, Field(ge=-1, le=1)] = 0.88
    minimum_overlap: Annotated[float, Field(ge=0, le=1)] = 0.3
    minimum_agreement: Annotated[float, Field(ge=0, le=1)] = 0.0
    seconds: PositiveFloat = 900.0
    threads: Annotated[int, Field(ge=1, le=16)] = 1
    cache_bytes: Annotated[int, Field(ge=0)] = 4 * 2**30
