"""What a run wrote down of a model's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oncoseg_lora import TrainedParts, has_random_weights


def knows_nothing(weights: Mapping[str, Any] | None) -> bool:
    """Whether a model's weights, as a run wrote them down, were drawn and hardly trained since."""
    if not weights or weights["weights_sha256"] is None:
        return False
    trained = weights.get("trained")
    parts = None if trained is None else TrainedParts.model_validate(trained)
    return has_random_weights(weights["weights_sha256"], parts)
