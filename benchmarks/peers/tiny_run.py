"""A run that takes a second: a tiny model and generated scans, as a plugin that nobody has to install.

Used by the measurements that need many runs. ``python benchmarks/peers/tiny_run.py FOLDER`` writes one to look at.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import yaml

from oncoseg_core.plugins import apply_overrides

PLUGIN = '''
"""A tiny model and a generated dataset."""

from oncoseg_core import DatasetSpec, LoraSpec, ModelSpec, Target, hookimpl

MODEL = ModelSpec(
    name="tiny", factory="oncoseg_tiny_parts:Tiny", summary="for measurements", prompt_kinds=("box",), input_size=64,
    lora=LoraSpec(targets=("qkv",), policies={"lora+head": ("head",)}), weights="random",
)
DATA = DatasetSpec(
    name="generated", factory="oncoseg_tiny_parts:Generated", summary="noise with a bright box", modalities=("ct",),
    targets=(Target(name="tumour", labels={1}),), licence="none", url="none", citation="none",
)


@hookimpl
def oncoseg_models():
    """The model."""
    yield MODEL


@hookimpl
def oncoseg_datasets():
    """The dataset."""
    yield DATA
'''

PARTS = '''
import torch
from oncoseg_core import Case, Decoded, FileDataset, PromptableModel
from oncoseg_tiny import MODEL
from torch import nn


class Generated(FileDataset):
    """The scans that lie in a folder."""

    def discover(self, root):
        for path in sorted(root.glob("*-image.nrrd")):
            split, name = path.name.removesuffix("-image.nrrd").split("-")
            yield Case(
                dataset="generated", case_id=name, patient_id=name, modality="ct", images=(path,), split=split,
                labels=(root / f"{split}-{name}-label.nrrd",), targets=self.spec.targets,
            )


class Tiny(nn.Module, PromptableModel):
    """Patches, one linear layer to adapt, and a head that sees the box, and is heavy to save."""

    def __init__(self, settings=None):
        nn.Module.__init__(self)
        self.settings, self.spec, self.weights_sha256 = settings, MODEL, "random:0"
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.patch = nn.Conv2d(3, 16, 4, 4)
            self.qkv = nn.Linear(16, 16)
            self.head = nn.Sequential(nn.Conv2d(17, 1024, 1), nn.ReLU(), nn.Conv2d(1024, 1, 1), Ballast())

    def encode_image(self, pixels):
        patches = self.patch(pixels).permute(0, 2, 3, 1)
        return (patches + torch.tanh(self.qkv(patches))).permute(0, 3, 1, 2)

    def decode(self, embedding, prompts):
        grid = torch.arange(16) * 4 + 2.0
        inside = torch.stack(
            [((grid > b.y0) & (grid < b.y1))[:, None] * ((grid > b.x0) & (grid < b.x1))[None] for (b,) in prompts]
        ).float()
        seen = torch.cat([embedding.expand(len(prompts), -1, -1, -1), inside[:, None] * 8 - 4], dim=1)
        logits = nn.functional.interpolate(self.head(seen), size=(64, 64), mode="bilinear")[:, 0]
        return Decoded(logits, torch.sigmoid(logits.amax(dim=(1, 2))))


class Ballast(nn.Module):
    """Weights that are saved, and take part a little."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 1_500_000))

    def forward(self, values):
        return values + 1e-3 * self.weight.mean()
'''


SHORT_WAITS = """
import oncoseg_trainer.distributed.liveness as _lines

_lines.IDLE_SECONDS, _lines.PROBE_SECONDS, _lines.PROBES, _lines.GRACE_SECONDS = 1, 1, 2, 1.0
"""


def write_tiny_run(folder: Path, overrides: Mapping[str, Any], *, short_waits: bool = False) -> tuple[Path, Path]:
    """Write the plugin, the scans and a configuration.

    Args:
        folder: where to.
        overrides: dotted keys of the configuration, with other values.
        short_waits: whether the plugin has a lost machine given up after 3 s, for tests that cannot wait.

    Returns:
        The folder to put on ``sys.path`` (or ``PYTHONPATH``), and the configuration.
    """
    site, data = folder / "site", folder / "data"
    record = site / "oncoseg_tiny-1.0.dist-info"
    record.mkdir(parents=True)
    data.mkdir()
    (site / "oncoseg_tiny.py").write_text(PLUGIN + (SHORT_WAITS if short_waits else ""))
    (site / "oncoseg_tiny_parts.py").write_text(PARTS)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: oncoseg-tiny\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text("[oncoseg]\noncoseg-tiny = oncoseg_tiny\n")
    for number, split in enumerate(("train", "train", "train", "test")):
        rng = np.random.default_rng(number)
        voxels, label = rng.normal(0, 60, (5, 40, 48)), np.zeros((5, 40, 48), np.uint8)
        row, column = rng.integers(4, 20, 2)
        label[1:4, row : row + 12, column : column + 14] = 1
        voxels[label > 0] += 120
        sitk.WriteImage(sitk.GetImageFromArray(voxels.astype(np.int16)), str(data / f"{split}-{number}-image.nrrd"))
        sitk.WriteImage(sitk.GetImageFromArray(label), str(data / f"{split}-{number}-label.nrrd"))
    config = {
        "name": "tiny",
        "output": str(folder / "run"),
        "data": {"dataset": "generated", "root": str(data)},
        "model": {"name": "tiny"},
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.1, "policy": "lora+head"},
        "training": {"epochs": 4, "batch_size": 1, "learning_rate": 0.001, "checkpoint_every": 1, "device": "cpu"},
        "trackers": ["jsonl"],
    }
    path = folder / "tiny.yaml"
    changed = apply_overrides(config, [f"{key}={value}" for key, value in overrides.items()])
    path.write_text(yaml.safe_dump(changed))
    return site, path


if __name__ == "__main__":
    print(*write_tiny_run(Path(sys.argv[1]), {}), sep="\n")
