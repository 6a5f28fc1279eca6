"""A model whose right answers are known, on a generated image: for tests of what segments with it."""

import numpy as np
import SimpleITK as sitk
import torch
import toy_series
from torch import nn

from oncoseg_core import (
    Decoded,
    Instances,
    Licence,
    LoraSpec,
    ModelSpec,
    Normalizer,
    NormalizerSpec,
    PromptableModel,
    Registry,
    Settings,
)
from oncoseg_core.plugins.registry import Plugin, RegisteredComponent

SPEC = ModelSpec(
    name="brighter", factory="tests:None", summary="test", prompt_kinds=("box", "text"), input_size=128,
    lora=LoraSpec(targets=("qkv",), untrained={"box": "boxes go through a part that stays as it was"}), weights="none",
    licence=Licence(code="Free", weights="Free too"),
)  # fmt: skip


class Unit(Normalizer):
    def fit(self, voxels):
        return {}

    def apply(self, voxels, stats):
        return voxels.astype(np.float32)


class BrighterSettings(Settings):
    weights: str = "random:7"


class Brighter(nn.Module, PromptableModel):
    """What is brighter than one half in the box, or anywhere for a text, whose two halves of the image are instances."""

    Settings = BrighterSettings
    spec = SPEC

    def __init__(self, settings=None):
        nn.Module.__init__(self)
        PromptableModel.__init__(self, settings)
        self.weights_sha256 = self.settings.weights

    encoded = 0

    def encode_image(self, pixels):
        Brighter.encoded += 1
        return pixels[:, 0]

    def decode(self, embedding, prompts):
        if len(prompts) > 1:
            each = [self.decode(embedding, [prompt]) for prompt in prompts]
            return Decoded(torch.cat([one.logits for one in each]), torch.cat([one.scores for one in each]))
        ((hint,),) = prompts
        logits = embedding - 0.5
        present = float((logits > 0).any())
        if hint.kind == "box":
            c = torch.arange(128) + 0.5
            inside = ((c > hint.y0) & (c < hint.y1))[:, None] & ((c > hint.x0) & (c < hint.x1))
            return Decoded(logits.where(inside, -0.5), torch.tensor([0.8]))
        halves = torch.cat([logits.where(torch.arange(128) < 64, -0.5), logits.where(torch.arange(128) >= 64, -0.5)])
        found = halves[(halves > 0).any((1, 2))]
        return Decoded(logits, torch.tensor([0.2 + present / 2]), torch.tensor([0.1 + 0.8 * present]),
                       (Instances(found, torch.ones(len(found))),))  # fmt: skip


def registry_of():
    """The model, its modality, and a toy format of series."""
    registry = Registry()
    for spec, hook in (
        (NormalizerSpec(modality="unit", factory="tests:Unit", summary="test"), "oncoseg_normalizers"),
        (SPEC, "oncoseg_models"),
    ):
        registry.components.append(RegisteredComponent(hook, spec, Plugin("test", "1")))
    registry.components += toy_series.components()
    registry.built = []

    def build(record, name, settings=None):
        registry.built.append(name)
        if record is NormalizerSpec:
            return Unit()
        if record is ModelSpec:
            return Brighter(BrighterSettings(**(settings or {})))
        return Registry.build(registry, record, name, settings)

    registry.build = build
    return registry


def image_file(folder):
    """Eight slices, 2.5 mm apart; on slices 2 to 5 a bright square that fills columns 40 to 59 and rows 30 to 49."""
    voxels = np.zeros((8, 128, 128), dtype=np.float32)
    voxels[2:6, 30:50, 40:60] = 1.0
    picture = sitk.GetImageFromArray(voxels)
    picture.SetSpacing((0.5, 0.5, 2.5))
    path = folder / "scan.nrrd"
    sitk.WriteImage(picture, str(path))
    return path
