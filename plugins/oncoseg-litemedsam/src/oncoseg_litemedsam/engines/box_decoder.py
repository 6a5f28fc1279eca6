"""Prompt encoder and mask decoder as one graph for n boxes on one image: the same numbers as the network's own forward.

As in :mod:`oncoseg_litemedsam.shared_image`, what does not depend on the box is computed once, and a projection of the
image tokens is folded into the few prompt tokens that they meet; here all boxes are a batch of any size, for export.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import nn

TOKENS = 7
"""One for the score, four for masks, two for the corners of a box."""

SIDE = 64
"""Of the square of image tokens."""


class BoxDecoder(nn.Module):
    """Boxes ``(n, 4)`` in pixels of the input on one embedding: logits ``(n, 256, 256)`` and scores ``(n,)``."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.prompt_encoder, self.decoder = network.prompt_encoder, network.mask_decoder
        self.register_buffer("place", network.prompt_encoder.get_dense_pe()[0].flatten(1).T.contiguous())

    def forward(self, embedding: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and predicted IoU ``(n,)``."""
        decoder: Any = self.decoder
        place: Any = self.place
        keys = embedding.reshape(-1, SIDE * SIDE).T + self.prompt_encoder.no_mask_embed.weight
        first, second = decoder.transformer.layers
        last, norm = decoder.transformer.final_attn_token_to_image, decoder.transformer.norm_final_attn
        points = self._points(boxes)
        queries = first.norm1(first.self_attn(q=points, k=points, v=points))
        queries = self._look_at_shared(first, queries, points, keys)
        image = self._image_looks(first, keys, self._weights_shared(first, keys + place, queries + points), queries)
        query = queries + points
        queries = second.norm1(queries + second.self_attn(q=query, k=query, v=queries))
        placed = image + place
        looked = _tokens_look(second.cross_attn_token_to_image, queries + points, image, placed)
        queries = second.norm2(queries + looked)
        queries = second.norm3(queries + second.mlp(queries))
        image = self._image_looks(second, image, _weights_of_image(second, placed, queries + points), queries)
        queries = norm(queries + _tokens_look(last, queries + points, image, image + place))
        logits = self._upscaled(image, decoder.output_hypernetworks_mlps[0](queries[:, 1]))
        return logits, decoder.iou_prediction_head(queries[:, 0])[:, 0]

    def _points(self, boxes: torch.Tensor) -> torch.Tensor:
        """The tokens that a box begins with ``(n, 7, 256)``."""
        encoder: Any = self.prompt_encoder
        corners = encoder.pe_layer._pe_encoding(boxes.reshape(-1, 2, 2) / 256)  # noqa: SLF001
        kinds = torch.stack([encoder.point_embeddings[2].weight[0], encoder.point_embeddings[3].weight[0]])
        tokens = torch.cat([self.decoder.iou_token.weight, self.decoder.mask_tokens.weight])  # type: ignore[union-attr, list-item]
        return torch.cat([tokens.expand(boxes.shape[0], -1, -1), corners + kinds], dim=1)

    def _look_at_shared(
        self, layer: Any, queries: torch.Tensor, points: torch.Tensor, keys: torch.Tensor
    ) -> torch.Tensor:
        attention = layer.cross_attn_token_to_image
        looking = _heads(attention.q_proj(queries + points), attention.num_heads)
        seen = _heads((attention.k_proj(keys + self.place))[None], attention.num_heads)
        weights = torch.softmax(looking @ seen.transpose(-1, -2) / math.sqrt(seen.shape[-1]), dim=-1)
        values = _heads(attention.v_proj(keys)[None], attention.num_heads)
        queries = layer.norm2(queries + attention.out_proj(_joined(weights @ values)))
        looked: torch.Tensor = layer.norm3(queries + layer.mlp(queries))
        return looked

    def _weights_shared(self, layer: Any, placed: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        attention = layer.cross_attn_image_to_token
        seen = _heads(attention.k_proj(at), attention.num_heads)
        shared = _heads(attention.q_proj(placed)[None], attention.num_heads)
        return torch.softmax((seen / math.sqrt(seen.shape[-1])) @ shared.transpose(-1, -2), dim=2)

    def _image_looks(
        self, layer: Any, image: torch.Tensor, weights: torch.Tensor, queries: torch.Tensor
    ) -> torch.Tensor:
        """The image's tokens after they looked at a box's tokens ``(n, h w, c)``."""
        attention = layer.cross_attn_image_to_token
        heads, channels = attention.num_heads, attention.out_proj.weight.shape[0]
        values = _heads(attention.v_proj(queries), heads)
        outward = attention.out_proj.weight.reshape(channels, heads, -1).permute(1, 2, 0)
        seen = (values @ outward).reshape(-1, heads * TOKENS, channels) + attention.out_proj.bias / heads
        flat = weights.reshape(-1, heads * TOKENS, SIDE * SIDE).transpose(1, 2)
        looked: torch.Tensor = layer.norm4(image + flat @ seen)
        return looked

    def _upscaled(self, image: torch.Tensor, hyper: torch.Tensor) -> torch.Tensor:
        first, norm, _, second, _ = self.decoder.output_upscaling  # type: ignore[union-attr, misc]
        wide, narrow = first.out_channels, second.out_channels
        finer = image @ first.weight.permute(0, 2, 3, 1).reshape(-1, 4 * wide)
        finer = finer.reshape(-1, SIDE * SIDE, 4, wide) + first.bias
        finer = F.gelu(F.layer_norm(finer, (wide,), norm.weight, norm.bias, norm.eps))
        finest = finer.reshape(-1, 4 * SIDE * SIDE, wide) @ second.weight.permute(0, 2, 3, 1).reshape(-1, 4 * narrow)
        finest = F.gelu(finest.reshape(-1, 4 * SIDE * SIDE, 4, narrow) + second.bias)
        logits = finest.reshape(-1, 16 * SIDE * SIDE, narrow) @ hyper[:, :, None]
        square = logits.reshape(-1, SIDE, SIDE, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4, 6)
        return square.reshape(-1, 4 * SIDE, 4 * SIDE)


def _heads(x: torch.Tensor, number: int) -> torch.Tensor:
    """``(n, tokens, channels)`` as ``(n, heads, tokens, channels of a head)``."""
    return x.reshape(-1, x.shape[1], number, x.shape[2] // number).transpose(1, 2)


def _joined(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(1, 2).reshape(-1, x.shape[2], x.shape[1] * x.shape[3])


def _folded(projection: Any, tokens: torch.Tensor, heads: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens ``(n, heads, t, d)`` times a projection of the other side ``(n, heads * t, c)``, and its bias's part."""
    channels = projection.weight.shape[1]
    weight = projection.weight.reshape(heads, -1, channels)
    bias = (tokens * projection.bias.reshape(heads, 1, -1)).sum(-1)
    return (tokens @ weight).reshape(-1, heads * TOKENS, channels), bias.reshape(-1, heads * TOKENS, 1)


def _tokens_look(attention: Any, query: torch.Tensor, image: torch.Tensor, placed: torch.Tensor) -> torch.Tensor:
    heads, channels = attention.num_heads, attention.v_proj.weight.shape[1]
    looking = _heads(attention.q_proj(query), heads)
    folded, _ = _folded(attention.k_proj, looking / math.sqrt(looking.shape[-1]), heads)  # a bias shifts all alike
    weights = torch.softmax(folded @ placed.transpose(1, 2), dim=-1)
    seen = (weights @ image).reshape(-1, heads, TOKENS, channels)
    values = attention.v_proj.weight.reshape(heads, -1, channels)
    looked: torch.Tensor = attention.out_proj(_joined(seen @ values.transpose(-1, -2)) + attention.v_proj.bias)
    return looked


def _weights_of_image(layer: Any, placed: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    attention = layer.cross_attn_image_to_token
    heads = attention.num_heads
    seen = _heads(attention.k_proj(at), heads)
    folded, bias = _folded(attention.q_proj, seen / math.sqrt(seen.shape[-1]), heads)
    weights = folded @ placed.transpose(1, 2) + bias
    return torch.softmax(weights.reshape(-1, heads, TOKENS, SIDE * SIDE), dim=2)
