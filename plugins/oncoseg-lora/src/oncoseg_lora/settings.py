"""How a model is adapted; light, so that a configuration is checked without loading torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from oncoseg_core import Settings


class LoraSettings(Settings):
    """How a model is adapted. ``policy`` names one of the model's own policies; by default its first.

    The defaults are the configuration with which SAM3 was adapted to cancer imaging (rank 16, alpha 32, dropout 0.1).
    """

    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    alpha: Annotated[int, Field(ge=1)] = 32
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    policy: str | None = None
