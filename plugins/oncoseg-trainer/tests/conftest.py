"""A tiny model as a plugin of its own, so that whole runs take a second.

The scans are the real samples, or, where a test needs datasets of a certain make, generated ones that the plugin serves.
"""

import functools
import multiprocessing
import os
import shutil
import socket
import subprocess

import pytest
import torch
import yaml
from generated_dataset import installed_plugin, write_generated

# A tiny model gains nothing from threads, and they wait for each other wherever the machine has other things to do.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

TINY_PLUGIN = """
from oncoseg_core import DatasetSpec, LoraSpec, ModelSpec, Overlap, Target, hookimpl

SPEC = ModelSpec(
    name="tiny", factory="oncoseg_tiny_model:Tiny", summary="test model", prompt_kinds=("box",), input_size=64,
    lora=LoraSpec(targets=("qkv",), policies={"lora": (), "lora+head": ("head",)}), weights="random, for tests",
)


BRANCHES = SPEC.model_copy(update={
    "name": "tiny-branches", "factory": "oncoseg_tiny_model:Branches",
    "lora": LoraSpec(targets=("qkv",), policies={"lora+head": ("head", "wide", "never")}),
})


SLOW = SPEC.model_copy(update={"name": "tiny-slow", "factory": "oncoseg_tiny_model:Slow"})


@hookimpl
def oncoseg_models():
    yield SPEC
    yield BRANCHES
    yield SLOW


def dataset(name, annotation="mask", overlaps=(), factory="generated_dataset:Manifest"):
    return DatasetSpec(
        name=name, factory=factory, summary="generated", modalities=("ct",),
        targets=(Target(name="tumour", labels={1, 2}), Target(name="core", labels={2})), licence="none", url="none",
        citation="none", annotation=annotation, overlaps=overlaps,
    )


@hookimpl
def oncoseg_datasets():
    yield dataset("toy-a", overlaps=(Overlap(dataset="toy-c", certain=True, how="declared in the test"),))
    yield dataset("toy-b", overlaps=(Overlap(dataset="toy-c", certain=False, how="suspected in the test"),))
    yield dataset("toy-c")
    yield dataset("toy-d")
    yield dataset("toy-boxes", annotation="boxes")
    yield dataset("toy-trouble", factory="oncoseg_tiny_trouble:Trouble")
"""

TINY_TROUBLE = '''
import multiprocessing
import os
import signal

from generated_dataset import Manifest


class Trouble(Manifest):
    """Read in a worker of the last process, it hangs or dies, as the file ``trouble`` beside the images says."""

    def load(self, case):
        if multiprocessing.parent_process() is not None and os.environ.get("RANK", "1") == "1":
            folder = case.images[0].parent
            if (folder / "trouble").read_text() == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            (folder / "hangs").touch()
            (folder / "pipe").read_bytes()
        return super().load(case)
'''

TINY_MODEL = '''
import time

import torch
from oncoseg_core import Decoded, PromptableModel
from oncoseg_tiny import BRANCHES, SLOW, SPEC
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


class Branches(Tiny):
    """With a part for wide boxes only, and one that nothing uses."""

    def __init__(self, settings=None):
        super().__init__(settings)
        self.spec = BRANCHES
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.wide, self.never = nn.Conv2d(16, 1, 1), nn.Linear(2, 2)

    def decode(self, embedding, prompts):
        logits, scores = super().decode(embedding, prompts)[:2]
        wide = [i for i, (box,) in enumerate(prompts) if box.x1 - box.x0 > box.y1 - box.y0]
        if wide:
            more = nn.functional.interpolate(self.wide(embedding.expand(len(prompts), -1, -1, -1)[wide]), size=(64, 64))
            logits = logits.index_add(0, torch.tensor(wide), more[:, 0])
        return Decoded(logits, scores)


class Slow(Tiny):
    """Takes a while for each slice that is scored."""

    def __init__(self, settings=None):
        super().__init__(settings)
        self.spec = SLOW

    def decode(self, embedding, prompts):
        if not self.training:
            time.sleep(0.3)
        return super().decode(embedding, prompts)
'''

TINY_PROCESSES = '''
import os

import torch
from oncoseg_core import OncoSegError
from oncoseg_core import load_plugins
from oncoseg_trainer.loop.run import train
from oncoseg_trainer.config.settings import load_settings


def run_rank(rank, world, port, config, overrides, resume, results):
    """What torchrun would start: a process of a run. Its error, or None, goes to ``results``."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(port))
    torch.set_num_threads(1)
    error = None
    try:
        train(load_settings(config, overrides), load_plugins(), resume=resume)
    except OncoSegError as raised:
        error = str(raised)
    results.put((rank, error))
'''


@pytest.fixture(scope="module")
def tiny_plugin(tmp_path_factory):
    """A folder with the installed tiny plugin, on this process's path and for child processes in PYTHONPATH."""
    modules = {
        "oncoseg_tiny": TINY_PLUGIN,
        "oncoseg_tiny_model": TINY_MODEL,
        "oncoseg_tiny_processes": TINY_PROCESSES,
        "oncoseg_tiny_trouble": TINY_TROUBLE,
    }
    with installed_plugin(tmp_path_factory.mktemp("site"), "oncoseg_tiny", modules) as folder:
        yield folder


@pytest.fixture(scope="module")
def start_processes(tiny_plugin):
    """Run a configuration on several gloo processes; the error of each, or None.

    They are forked from a server that has imported everything already: torchrun takes ten seconds to start them.
    """
    from oncoseg_tiny_processes import run_rank

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["oncoseg_trainer.loop.run"])

    def start(world, config, *overrides, resume=False):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        results = context.SimpleQueue()
        arguments = (world, port, str(config), list(overrides), resume, results)
        processes = [context.Process(target=run_rank, args=(rank, *arguments)) for rank in range(world)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(240)
        alive = [process for process in processes if process.is_alive()]
        for process in alive:
            process.kill()
        assert not alive, "the processes hang"
        assert [process.exitcode for process in processes] == [0] * world
        return [error for _, error in sorted(results.get() for _ in processes)]

    return start


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


@pytest.fixture(scope="session")
def write_toy():
    """Write a generated dataset."""
    return write_generated


@pytest.fixture
def toy(tmp_path, write_toy):
    """The same, in the test's own folder."""
    return functools.partial(write_toy, tmp_path)


@pytest.fixture
def toy_config(tmp_path, tiny_config):
    """Like ``tiny_config``, but the data are given whole."""

    def write(data, **changes):
        path = tiny_config(**changes)
        config = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**config, "data": data}))
        return path

    return write


@pytest.fixture
def with_small_shared_memory():
    """Run a command in such an environment."""

    def run(size, command):
        """Run a command where ``/dev/shm`` has that size, in a mount namespace of its own."""
        if os.geteuid() or not shutil.which("unshare"):
            pytest.skip("needs root, to mount")
        mount = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"'
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", mount, "sh", *map(str, command)],
            capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        if "unshare" in done.stderr or "mount:" in done.stderr:
            pytest.skip("cannot mount here")
        return done

    return run
