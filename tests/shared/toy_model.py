"""A small model with the traits that matter to LoRA: attention, batch normalisation, a decoder.

Its weights are random and its images noise; real models are tested with their plugins.
"""

from __future__ import annotations

import torch
from torch import nn

from oncoseg_core import Box, Decoded, LoraSpec, ModelSpec, PromptableModel
from oncoseg_lora.inject import adapt, set_training_mode, trainable_parameters
from oncoseg_lora.settings import LoraSettings

SPEC = ModelSpec(
    name="toy",
    factory="nowhere:Toy",
    summary="A toy",
    prompt_kinds=("box",),
    input_size=32,
    lora=LoraSpec(targets=("qkv", "proj"), policies={"lora": (), "lora+decoder": ("mask_decoder",)}),
    weights="random",
)
PROMPT = (Box(4, 4, 20, 20),)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.qkv = nn.Linear(8, 24)
        self.proj = nn.Linear(8, 8)

    def forward(self, tokens):
        q, k, v = self.qkv(self.norm(tokens)).chunk(3, dim=-1)
        return tokens + self.proj(torch.softmax(q @ k.transpose(1, 2), dim=-1) @ v)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.ModuleDict({"proj": nn.Conv2d(3, 8, kernel_size=4, stride=4)})
        self.norm = nn.BatchNorm2d(8)
        self.attention = Attention()

    def forward(self, pixels):
        features = self.norm(self.patches["proj"](pixels))
        tokens = self.attention(features.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).unflatten(2, features.shape[2:])


class Toy(nn.Module, PromptableModel):
    spec = SPEC
    weights_sha256 = "random:0"

    def __init__(self, seed=0):
        nn.Module.__init__(self)
        PromptableModel.__init__(self)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.image_encoder = Encoder()
            self.mask_decoder = nn.Sequential(nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 1, kernel_size=4, stride=4))

    def encode_image(self, pixels):
        return self.image_encoder(pixels)

    def decode(self, embedding, prompts):
        logits = self.mask_decoder(embedding)[:, 0].expand(len(prompts), -1, -1)
        return Decoded(logits, logits.mean((1, 2)))


def pixels(seed=1, batch=1):
    return torch.rand((batch, 3, 32, 32), generator=torch.Generator().manual_seed(seed))


def output(model):
    model.eval()
    with torch.no_grad():
        return model.decode(model.encode_image(pixels()), [PROMPT]).logits


def trained(policy="lora", steps=2):
    """An adapted toy whose B matrices are no longer zero."""
    torch.manual_seed(7)
    model = adapt(Toy(), LoraSettings(rank=3, alpha=7, policy=policy))
    set_training_mode(model)
    optimizer = torch.optim.SGD(trainable_parameters(model).values(), lr=0.1)
    for step in range(steps):
        optimizer.zero_grad()
        model.decode(model.encode_image(pixels(step)), [PROMPT]).logits.square().mean().backward()
        optimizer.step()
    return model.eval()
