"""A tiny model and a generated dataset as a plugin of their own, so that whole runs take a second.

The model sees: what is bright is the object. Of a box it fills what is bright in it, of clicks what is bright around
the positive ones, of the word ``tumour`` all that is bright; other words find nothing.
"""

import os

import pytest
import torch
import yaml
from generated_dataset import Recipe, installed_plugin, write_generated

os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

PLUGIN = """
from oncoseg_core import (
    AutomaticModelSpec, DatasetSpec, Licence, LoraSpec, ModelSpec, Overlap, Target, hookimpl,
)

AUTOMATIC = AutomaticModelSpec(
    name="bright-auto", factory="oncoseg_bright_model:BrightAutomatic", summary="test model", weights="none, for tests",
    structures=("bright", "dark"), modalities=("ct",), licence=Licence(code="Free", weights="Free too"),
)
SPEC = ModelSpec(
    name="bright", factory="oncoseg_bright_model:Bright", summary="test model", prompt_kinds=("box", "point", "text"),
    input_size=32, mask_size=16, lora=LoraSpec(targets=("qkv",)), weights="none, for tests",
    licence=Licence(code="Free", weights="Free too"),
)
BOXES = SPEC.model_copy(update={
    "name": "bright-boxes", "factory": "oncoseg_bright_model:BrightBoxes", "prompt_kinds": ("box",),
})


@hookimpl
def oncoseg_automatic_models():
    yield AUTOMATIC


@hookimpl
def oncoseg_models():
    yield SPEC
    yield BOXES


def dataset(name, overlaps=(), kind=None):
    return DatasetSpec(
        name=name, factory="generated_dataset:Manifest", summary="generated", modalities=("ct",),
        targets=(Target(name="tumour", labels={1, 2}, kind=kind), Target(name="core", labels={2})), licence="none", url="none",
        citation="none", overlaps=overlaps,
    )


@hookimpl
def oncoseg_datasets():
    yield dataset("bench-a", (Overlap(dataset="bench-b", certain=True, how="declared in the test"),))
    yield dataset("bench-lesions", kind="lesion")
    yield dataset("bench-b", (Overlap(
        dataset="bench-gone", certain=True, how="declared of a dataset that is not installed"
    ),))
"""

MODEL = """
import os
import time

import torch
from oncoseg_bright import AUTOMATIC, BOXES, SPEC
from oncoseg_core import AutomaticModel, AutomaticResult, Decoded, PromptableModel
from torch import nn


class Bright(nn.Module, PromptableModel):
    computed_by = "toy 1"

    def __init__(self, settings=None):
        nn.Module.__init__(self)
        PromptableModel.__init__(self, settings)
        self.spec, self.weights_sha256 = SPEC, "0" * 64
        self.qkv = nn.Linear(2, 2)

    def encode_image(self, pixels):
        time.sleep(float(os.environ.get("BRIGHT_SECONDS", 0)))
        return nn.functional.avg_pool2d(pixels.mean(dim=1, keepdim=True), 2)

    def decode(self, embedding, prompts):
        bright = (embedding[0, 0] - 0.5) * 20
        grid = torch.arange(16) * 2 + 1.0
        answers = []
        for prompt in prompts:
            allowed = torch.zeros(16, 16, dtype=torch.bool)
            for hint in prompt:
                if hint.kind == "box":
                    rows, columns = (grid > hint.y0) & (grid < hint.y1), (grid > hint.x0) & (grid < hint.x1)
                    allowed |= rows[:, None] & columns[None]
                elif hint.kind == "point":
                    near = (grid[:, None] - hint.y) ** 2 + (grid[None] - hint.x) ** 2 < 36
                    allowed = allowed | near if hint.positive else allowed & ~near
                elif hint.text == "tumour":
                    allowed[:] = True
            answers.append(torch.where(allowed, bright, torch.tensor(-10.0)))
        return Decoded(torch.stack(answers), torch.ones(len(prompts)))


class BrightAutomatic(AutomaticModel):
    spec, weights_sha256 = AUTOMATIC, "1" * 64

    def segment(self, volume, structures, progress):
        bright = volume.voxels[0] > 100
        return AutomaticResult({name: bright if name == "bright" else ~bright for name in structures})


class BrightBoxes(Bright):
    def __init__(self, settings=None):
        super().__init__(settings)
        self.spec = BOXES
"""


@pytest.fixture(scope="session")
def bright(tmp_path_factory):
    """A folder with the installed plugin, on this process's path and for child processes in PYTHONPATH."""
    modules = {"oncoseg_bright": PLUGIN, "oncoseg_bright_model": MODEL}
    with installed_plugin(tmp_path_factory.mktemp("site"), "oncoseg_bright", modules) as folder:
        yield folder


@pytest.fixture
def write_cases(tmp_path):
    """Write a generated dataset: dark slices with a bright tumour (and its core) on the given ones of each case."""

    recipe = Recipe((32, 40), (-100, 10), (3, 16), tumour=(10, 14), core=(4, 6), contrast=300, spacing=(0.8, 0.8, 3.0))

    def write(name, cases):
        return write_generated(tmp_path, name, cases, recipe=recipe)

    return write


@pytest.fixture
def config(tmp_path, bright):
    """Write a configuration of a short run on generated cases; keys can be changed."""

    def write(root, **changes):
        values = {
            "name": "test",
            "output": str(tmp_path / "run"),
            "models": [{"name": "bright"}],
            "datasets": [{"name": "bench-a", "root": str(root)}],
            "prompts": ["gt-box", {"kind": "gt-box", "level": "volume"}],
            "metrics": {"dice": {}, "nsd": {"tolerance_mm": 1}, "hd95": {}, "volume-difference": {}},
            "normalizers": {"ct": {"window": [-200, 300]}},
            "statistics": {"draws": 200},
            "pictures": 0,
            **changes,
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write


@pytest.fixture
def bench():
    """Run a configuration as the command does, and give its summary and how many cases failed."""
    from oncoseg_benchmarks.config.settings import load_settings
    from oncoseg_benchmarks.report.summary import finish
    from oncoseg_benchmarks.run.run import prepare, run
    from oncoseg_core import load_plugins

    def start(path, *overrides, resume=False):
        quiet = lambda *_: None  # noqa: E731
        prepared = prepare(load_settings(str(path), list(overrides)), load_plugins(), resume=resume, progress=quiet)
        outcome = run(prepared, quiet)
        return (finish(prepared) if not outcome.missing else None), outcome

    return start
