"""Memory and time of the harness over 10,000 tiny cases, by a model that costs nothing: what is left is the harness.

python benchmarks/peers/bench_many_cases.py [--cases 10000]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from oncoseg_benchmarks.config.settings import BenchSettings
from oncoseg_benchmarks.record import RESULTS, record
from oncoseg_benchmarks.report.summary import finish
from oncoseg_benchmarks.run.run import prepare, run
from oncoseg_core import load_plugins
from oncoseg_core.plugins import peak_memory_mb

PLUGIN = """
from oncoseg_core import DatasetSpec, LoraSpec, ModelSpec, Target, hookimpl

SPEC = ModelSpec(
    name="cheap", factory="oncoseg_cheap_parts:Cheap", summary="fills the box", prompt_kinds=("box",), input_size=32,
    lora=LoraSpec(targets=("qkv",)), weights="none",
)
TARGET = Target(name="tumour", labels={1})


@hookimpl
def oncoseg_models():
    yield SPEC


@hookimpl
def oncoseg_datasets():
    yield DatasetSpec(
        name="many", factory="oncoseg_cheap_parts:Many", summary="generated", modalities=("ct",), targets=(TARGET,),
        licence="none", url="none", citation="none",
    )
"""

PARTS = """
from pathlib import Path

import numpy as np
import torch
from oncoseg_cheap import SPEC, TARGET
from oncoseg_core import Geometry
from oncoseg_core import DatasetAdapter, Decoded, PromptableModel, Settings
from oncoseg_core import Case
from oncoseg_core import Volume
from torch import nn


class ManySettings(Settings):
    cases: int


class Many(DatasetAdapter):
    Settings = ManySettings

    def discover(self, root):
        for number in range(self.settings.cases):
            yield Case(
                dataset="many", case_id=f"c{number:05}", patient_id=f"p{number:05}", modality="ct",
                images=(Path("none"),), labels=(Path("none"),), targets=(TARGET,),
            )

    def load(self, case):
        rng = np.random.default_rng(int(case.case_id[1:]))
        voxels = rng.integers(-1000, 1000, (1, 3, 24, 24)).astype(np.int16)
        row, column = rng.integers(1, 10, 2)
        mask = np.zeros((3, 24, 24), dtype=bool)
        mask[1, row : row + 9, column : column + 7] = True
        return Volume(voxels, Geometry.from_parts((3, 24, 24)), "ct"), {"tumour": mask}

    def fetch(self, progress):
        return Path()


class Cheap(nn.Module, PromptableModel):
    def __init__(self, settings=None):
        nn.Module.__init__(self)
        PromptableModel.__init__(self, settings)
        self.spec, self.weights_sha256 = SPEC, "0" * 64
        self.qkv = nn.Linear(2, 2)

    def encode_image(self, pixels):
        return pixels[:, :1]

    def decode(self, embedding, prompts):
        grid = torch.arange(32) + 0.5
        answers = []
        for (box,) in prompts:
            inside = ((grid > box.y0) & (grid < box.y1))[:, None] & ((grid > box.x0) & (grid < box.x1))[None]
            answers.append(torch.where(inside, 1.0, -1.0))
        return Decoded(torch.stack(answers), torch.ones(len(prompts)))
"""


def main() -> None:
    """Run, print and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site, marks = Path(folder) / "site", []
        _install(site)
        settings = BenchSettings.model_validate(
            {
                "name": "many",
                "output": f"{folder}/run",
                "models": [{"name": "cheap"}],
                "datasets": [{"name": "many", "settings": {"cases": options.cases}}],
                "prompts": ["gt-box"],
                "metrics": ["dice", "hd95"],
                "references": {"floors": False, "ceilings": False},
                "pictures": 0,
            }
        )
        every = max(1, options.cases // 10)
        started = time.perf_counter()

        def progress(what: str, done: int, total: int) -> None:
            if what == "cheap" and (done % every == 0 or done == total):
                marks.append({"cases": done, "mb": _now_mb(), "s": round(time.perf_counter() - started, 1)})
                print(marks[-1], flush=True)

        bench = prepare(settings, load_plugins(), resume=False, progress=progress)
        outcome = run(bench, progress)
        scored = time.perf_counter()
        summary = finish(bench)
        found: dict[str, Any] = {
            "cases": options.cases,
            "failed": outcome.failed,
            "rows": summary["n_rows"],
            "memory": marks,
            "growth_mb_from_first_to_last_mark": marks[-1]["mb"] - marks[0]["mb"],
            "peak_mb_with_table_and_report": peak_memory_mb(),
            "ms_per_case": round(1000 * (scored - started) / options.cases, 2),
            "seconds_for_table_and_report": round(time.perf_counter() - scored, 1),
        }
    print(found)
    command = "python benchmarks/peers/bench_many_cases.py" + (
        "" if options.cases == 10_000 else f" --cases {options.cases}"
    )
    print(record("bench_many_cases", command, found, options.results))


def _install(site: Path) -> None:
    """Put the model and the dataset on the path as an installed plugin."""
    info = site / "oncoseg_cheap-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "oncoseg_cheap.py").write_text(PLUGIN)
    (site / "oncoseg_cheap_parts.py").write_text(PARTS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: oncoseg-cheap\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[oncoseg]\noncoseg-cheap = oncoseg_cheap\n")
    sys.path.insert(0, str(site))


def _now_mb() -> int:
    """The memory that this process holds now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 // 1024**2


if __name__ == "__main__":
    main()
