"""The script that measures SAM3 on a GPU runs through at the test size, and says what it cannot do here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "peers" / "sam3_speed.py"


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, check=False)


def test_it_measures_the_test_size_on_a_processor(tmp_path: Path) -> None:
    done = run("--size", "tiny", "--device", "cpu", "--repeats", "1", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "sam3_speed_tiny_cpu.json").read_text())["found"]
    assert (found["model"], found["input"], found["device"]) == ("sam3-tiny", 224, "cpu")
    steps = [(step["precision"], step["activation_checkpointing"], step["compile"]) for step in found["training_step"]]
    assert steps == [("fp32", True, False), ("fp32", False, False)]
    for step in found["training_step"]:
        assert step["images_per_second"] == pytest.approx(1000 / step["milliseconds"]["median"])
    (latency,) = found["latency"]
    assert {"encode", "next_box", "next_text", "next_point"} <= latency.keys()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_it_says_that_there_is_no_gpu() -> None:
    done = run("--size", "tiny")
    assert done.returncode == 2
    assert "there is no GPU here" in done.stderr
