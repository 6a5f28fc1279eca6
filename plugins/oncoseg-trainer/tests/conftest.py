"""A tiny model as a plugin of its own, so that whole runs take a second; the scans are the real samples."""

import os
import sys

import pytest
import yaml

TINY_PLUGIN = """
from oncoseg_core import LoraSpec, ModelSpec, hookimpl

SPEC = ModelSpec(
    name="tiny", factory="oncoseg_tiny_model:Tiny", summary="test model", prompt_kinds=("box",), input_size=64,
    lora=LoraSpec(targets=("qkv",), policies={"lora": (), "lora+head": ("head",)}), weights="random, for tests",
)


@hookimpl
def oncoseg_models():
    yield SPEC
"""

TINY_MODEL = '''
import torch
from oncoseg_core.interfaces import Decoded, PromptableModel
from oncoseg_tiny import SPEC
from torch import nn


class Tiny(nn.Module, PromptableModel):
    """Patches, batch norm, one linear layer to adapt, and a head that sees the box."""

    def __init__(self, settings=None):
        nn.Module.__init__(self)
        self.settings, self.spec, self.weights_sha256 = settings, SPEC, "random:0"
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.patch = nn.Conv2d(3, 16, 4, 4)
            self.norm = nn.BatchNorm2d(16)
            self.qkv = nn.Linear(16, 16)
            self.head = nn.Conv2d(17, 1, 3, padding=1)

    def encode_image(self, pixels):
        patches = self.norm(self.patch(pixels)).permute(0, 2, 3, 1)
        return (patches + torch.tanh(self.qkv(patches))).permute(0, 3, 1, 2)

    def decode(self, embedding, prompts):
        grid = torch.arange(16) * 4 + 2.0
        boxes = []
        for (box,) in prompts:
            inside_x = torch.sigmoid((grid - box.x0).clamp(max=10)) * torch.sigmoid((box.x1 - grid).clamp(max=10))
            inside_y = torch.sigmoid((grid - box.y0).clamp(max=10)) * torch.sigmoid((box.y1 - grid).clamp(max=10))
            boxes.append(inside_y[:, None] * inside_x[None])
        seen = torch.cat([embedding.expand(len(prompts), -1, -1, -1), torch.stack(boxes)[:, None] * 8 - 4], dim=1)
        logits = nn.functional.interpolate(self.head(seen), size=(64, 64), mode="bilinear")[:, 0]
        return Decoded(logits, torch.sigmoid(logits.amax(dim=(1, 2))))

'''


@pytest.fixture(scope="module")
def tiny_plugin(tmp_path_factory):
    """A folder with the installed tiny plugin, on this process's path and for child processes in PYTHONPATH."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "oncoseg_tiny.py").write_text(TINY_PLUGIN)
    (folder / "oncoseg_tiny_model.py").write_text(TINY_MODEL)
    info = folder / "oncoseg_tiny-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: oncoseg-tiny\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[oncoseg]\noncoseg-tiny = oncoseg_tiny\n")
    before = os.environ.get("PYTHONPATH")
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = str(folder) if before is None else f"{folder}{os.pathsep}{before}"
    yield folder
    sys.path.remove(str(folder))
    for name in ("oncoseg_tiny", "oncoseg_tiny_model"):
        sys.modules.pop(name, None)
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.fixture
def tiny_config(tmp_path, tiny_plugin):
    """Write a configuration of a short run on the real samples with the tiny model; keys can be changed."""

    def write(**changes):
        config = {
            "name": "tiny",
            "output": str(tmp_path / "run"),
            "data": {"dataset": "samples", "targets": ["lung tumour", "brain tumour", "breast tumour"]},
            "model": {"name": "tiny"},
            "lora": {"rank": 4, "alpha": 8, "dropout": 0.1, "policy": "lora+head"},
            "training": {"epochs": 2, "batch_size": 2, "learning_rate": 0.01, "checkpoint_every": 4},
        }
        for key, value in changes.items():
            config[key] = {**config[key], **value} if isinstance(config.get(key), dict) else value
        path = tmp_path / f"{config['name']}.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    return write
