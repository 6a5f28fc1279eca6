"""SAM's mask decoder for many prompts on ONE image: the same numbers, in about a quarter of the time.

The network's own forward repeats the image for every prompt and projects all its 4,096 tokens anew. Here the image's
projections are made once where they do not depend on the prompt; elsewhere a projection of the image tokens is folded
into the few prompt tokens that they meet (``(keys W) q = keys (W q)``). The parameters are those of the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it


class Looked(NamedTuple):
    """One prompt: the image's ``tokens (h, w, channels)`` after they looked at it, the ``weights (channels,)`` of its
    mask, and the predicted IoU.
    """

    tokens: torch.Tensor
    weights: torch.Tensor
    score: torch.Tensor


def decode_shared(
    decoder: Any, image: torch.Tensor, position: torch.Tensor, sparse: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode one mask for each of n prompts on one image.

    Args:
        decoder: SAM's ``MaskDecoder`` with a two-way transformer.
        image: the embedding with the dense prompt added, ``(channels, h, w)``.
        position: its position encoding, of the same shape.
        sparse: the prompts' tokens ``(n, tokens, channels)``.

    Returns:
        Logits ``(n, 4 h, 4 w)`` and predicted IoU ``(n,)``.
    """
    answers = [(upscaled(decoder, each), each.score) for each in look(decoder, image, position, sparse)]
    return torch.stack([logits for logits, _ in answers]), torch.stack([score for _, score in answers])


def look(decoder: Any, image: torch.Tensor, position: torch.Tensor, sparse: torch.Tensor) -> Iterator[Looked]:
    """As :func:`decode_shared`, up to the upscaling: half of the work, and needed only where a mask is."""
    tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    points = torch.cat([tokens.expand(len(sparse), -1, -1), sparse], dim=1)
    keys, place = (each.flatten(1).T.contiguous() for each in (image, position))
    first, second = decoder.transformer.layers
    last, norm = decoder.transformer.final_attn_token_to_image, decoder.transformer.norm_final_attn
    queries = _tokens_on_shared(first, points, keys, place)
    shared = _heads(first.cross_attn_image_to_token.q_proj(keys + place), first.cross_attn_image_to_token.num_heads)
    for number in range(len(points)):  # one by one: the image's tokens of one prompt stay in the processor's cache
        query, point = queries[number], points[number]
        own = _image_on_tokens(first, keys, _attention_of_shared_image(first, shared, query + point), query)
        query = second.norm1(query + _self_attention(second.self_attn, (query + point)[None], query[None])[0])
        placed = own + place
        query = second.norm2(query + _tokens_on_image(second.cross_attn_token_to_image, query + point, own, placed))
        query = second.norm3(query + second.mlp(query))
        own = _image_on_tokens(second, own, _attention_of_image(second, placed, query + point), query)
        query = norm(query + _tokens_on_image(last, query + point, own, own + place))
        weights = decoder.output_hypernetworks_mlps[0](query[1])
        yield Looked(own.unflatten(0, image.shape[1:]), weights, decoder.iou_prediction_head(query[0])[0])


def upscaled(decoder: Any, prompt: Looked, rows: slice = slice(None), columns: slice = slice(None)) -> torch.Tensor:
    """Logits ``(4 h, 4 w)`` of a prompt over some rows and columns of the image's tokens, all by default.

    Two transposed convolutions that do not overlap, as products of channels-last matrices: no token meets another.
    """
    first, norm, _, second, _ = decoder.output_upscaling
    part = prompt.tokens[rows, columns]
    height, width = part.shape[:2]
    finer = part.reshape(height * width, -1) @ first.weight.permute(0, 2, 3, 1).flatten(1)
    finer = finer.view(-1, 4, first.out_channels).add_(first.bias)
    finer = F.gelu(F.layer_norm(finer, finer.shape[-1:], norm.weight, norm.bias, norm.eps))
    finest = (finer @ second.weight.permute(0, 2, 3, 1).flatten(1)).view(-1, 4, second.out_channels).add_(second.bias)
    square = (F.gelu(finest) @ prompt.weights).view(height, width, 2, 2, 2, 2)
    return square.permute(0, 2, 4, 1, 3, 5).reshape(4 * height, 4 * width)


def current(module: Any) -> Any:
    """The module that answers: PEFT hides one that an adapter trains whole in a wrapper, beside its trained copy."""
    copies = getattr(module, "modules_to_save", None)
    if copies is None:
        return module
    return module.original_module if module.disable_adapters else copies[module.active_adapters[0]]


def _heads(x: torch.Tensor, number: int) -> torch.Tensor:
    """``(..., tokens, channels)`` as ``(..., heads, tokens, channels of a head)``."""
    return x.unflatten(-1, (number, -1)).transpose(-3, -2)


def _joined(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(-3, -2).flatten(-2)


def _self_attention(attention: Any, at: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = attention(q=at, k=at, v=values)
    return found


def _tokens_on_shared(layer: Any, points: torch.Tensor, keys: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """The first layer up to its image tokens, which are still the same for all prompts: queries ``(n, tokens, c)``."""
    queries = layer.norm1(_self_attention(layer.self_attn, points, points))
    attention = layer.cross_attn_token_to_image
    heads = attention.num_heads
    asked = _heads((attention.q_proj(queries + points)).flatten(0, 1), heads)
    seen = _heads(attention.k_proj(keys + place), heads)
    weights = torch.softmax(asked @ seen.transpose(-1, -2) / math.sqrt(seen.shape[-1]), dim=-1)
    found = _joined(weights @ _heads(attention.v_proj(keys), heads)).view(*queries.shape[:2], -1)
    queries = layer.norm2(queries + attention.out_proj(found))
    answered: torch.Tensor = layer.norm3(queries + layer.mlp(queries))
    return answered


def _folded(projection: Any, tokens: torch.Tensor, heads: int) -> tuple[torch.Tensor, torch.Tensor]:
    """``tokens`` ``(heads, t, d)`` times a projection of the other side: ``(heads * t, c)`` and what its bias adds."""
    weight = projection.weight.unflatten(0, (heads, -1))
    bias = (tokens * projection.bias.view(heads, 1, -1)).sum(-1)
    return (tokens @ weight).flatten(0, 1), bias.flatten()


def _tokens_on_image(attention: Any, query: torch.Tensor, own: torch.Tensor, placed: torch.Tensor) -> torch.Tensor:
    """Tokens ``(t, c)`` that look at one prompt's image tokens ``(h w, c)``, which are ``placed`` for being found."""
    heads = attention.num_heads
    asked = _heads(attention.q_proj(query), heads)
    folded, _ = _folded(attention.k_proj, asked / math.sqrt(asked.shape[-1]), heads)  # a bias shifts all alike
    weights = torch.softmax(folded @ placed.T, dim=-1)
    seen = (weights @ own).unflatten(0, (heads, -1))
    values = attention.v_proj.weight.unflatten(0, (heads, -1))
    found: torch.Tensor = attention.out_proj(_joined(seen @ values.transpose(-1, -2)) + attention.v_proj.bias)
    return found


def _attention_of_shared_image(layer: Any, shared: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """How the image's tokens look at a prompt's, from projections that all prompts share: ``(heads, t, h w)``."""
    attention = layer.cross_attn_image_to_token
    seen = _heads(attention.k_proj(at), attention.num_heads)
    return torch.softmax((seen / math.sqrt(seen.shape[-1])) @ shared.transpose(-1, -2), dim=1)


def _attention_of_image(layer: Any, placed: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """The same where the image's tokens are the prompt's own."""
    attention = layer.cross_attn_image_to_token
    heads = attention.num_heads
    seen = _heads(attention.k_proj(at), heads)
    folded, bias = _folded(attention.q_proj, seen / math.sqrt(seen.shape[-1]), heads)
    weights = torch.addmm(bias[:, None], folded, placed.T)
    return torch.softmax(weights.unflatten(0, (heads, -1)), dim=1)


def _image_on_tokens(layer: Any, own: torch.Tensor, weights: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """The image's tokens ``(h w, c)`` after they looked at a prompt's tokens."""
    attention = layer.cross_attn_image_to_token
    heads = attention.num_heads
    values = _heads(attention.v_proj(query), heads)
    outward = attention.out_proj.weight.unflatten(1, (heads, -1)).permute(1, 2, 0)
    seen = (values @ outward).flatten(0, 1) + attention.out_proj.bias / heads  # each head's weights add up to 1
    answered: torch.Tensor = layer.norm4(torch.addmm(own, weights.flatten(0, 1).T, seen))
    return answered
