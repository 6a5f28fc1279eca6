"""The text encoder's features of phrases, computed once per phrase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from oncoseg_core.inference import EmbeddingCache

KEPT_BYTES = 32 * 2**20
"""A phrase takes 32 KiB at full size."""


class PhraseFeatures(NamedTuple):
    """``tokens`` ``(length, n, width)``, and bool ``padding`` ``(n, length)``, True where there is no token."""

    tokens: torch.Tensor
    padding: torch.Tensor


class Phrases:
    """Encodes phrases, and remembers them as long as the text encoder stays as it is.

    Remembered features have no gradient, so nothing is remembered while the text encoder is trained.

    Args:
        backbone: Meta's, which has the text encoder.
    """

    def __init__(self, backbone: Any) -> None:
        self._backbone = backbone
        self._state: object = None
        self._known = EmbeddingCache(KEPT_BYTES)

    def encode(self, phrases: Sequence[str]) -> PhraseFeatures:
        """The features of each phrase, on the text encoder's device."""
        parameters = list(self._encoder.parameters())
        if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in parameters):
            return self._computed(list(phrases))
        device = parameters[0].device
        half = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
        # A write raises a parameter's version; moving it, or loading by assignment, gives it other memory.
        state = (half, tuple((parameter.data_ptr(), parameter._version) for parameter in parameters))  # noqa: SLF001
        if state != self._state:
            self._state, self._known = state, EmbeddingCache(KEPT_BYTES)
        found = {phrase: self._known.get(phrase) for phrase in phrases}
        new = [phrase for phrase, features in found.items() if features is None]
        if new:
            with torch.no_grad():
                computed = self._computed(new)
            for number, phrase in enumerate(new):
                one = PhraseFeatures(computed.tokens[:, number], computed.padding[number])
                found[phrase] = one
                self._known.put(phrase, one)
        # Stacking copies: autograd would refuse features that were made in inference mode themselves.
        tokens, padding = zip(*(found[phrase] for phrase in phrases), strict=True)
        return PhraseFeatures(torch.stack(tokens, dim=1), torch.stack(padding))

    @property
    def _encoder(self) -> nn.Module:
        encoder: nn.Module = self._backbone.language_backbone
        return encoder

    def _computed(self, phrases: list[str]) -> PhraseFeatures:
        device = next(self._encoder.parameters()).device
        encoded = self._backbone.forward_text(phrases, device=device)
        return PhraseFeatures(encoded["language_features"], encoded["language_mask"])
