"""What a small model forgets over three tasks on real scans, and that a chain killed in the second ends the same.

LiteMedSAM is adapted to a lung tumour (CT), then a brain tumour (MR), then a vertebra (trained on one of CT and MR,
scored on the other), one scan each, and scored after each task on the held-out scan of each. The breast tumour of the
samples is a single scan, which cannot be both trained on and held out. Then the same chain is killed with SIGKILL in
its second task and started again: matrix, records and weights must be the same, byte for byte.

    python benchmarks/peers/forgetting_samples.py
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from oncoseg_benchmarks.recording import record
from oncoseg_trainer.jsonl import read_metrics

TASKS = ("01-ct-lung", "02-mr-brain", "03-spine-vertebra")


def chain(samples: int, epochs: int) -> dict[str, Any]:
    """The chain's file."""
    return {
        "name": "forgetting-samples",
        "output": "chain",
        "base": "quickstart",
        "validation_cases": 10,
        "common": {
            "sampling": {"mode": "foreground", "samples_per_epoch": samples},
            "training": {"epochs": epochs, "score_every_epoch": False, "device": "cpu"},
            "metrics": ["dice"],
        },
        "stages": [
            {"phase": "ct", "datasets": [{"dataset": "samples", "name": "lung", "targets": ["lung tumour"]}]},
            {"phase": "mr", "datasets": [{"dataset": "samples", "name": "brain", "targets": ["brain tumour"]}]},
            {
                "phase": "spine",
                "datasets": [
                    {
                        "dataset": "samples",
                        "name": "vertebra",
                        "targets": ["vertebra"],
                        "settings": {"sources": ["tptbox"]},
                    }
                ],
                "overrides": {"data": {"split": {"how": "made", "fractions": {"train": 0.5, "test": 0.5}}}},
            },
        ],
    }


def main() -> None:
    """Run both chains, compare and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="copy forgetting.png of the whole chain here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "chain.yaml"
        file.write_text(yaml.safe_dump(chain(options.samples, options.epochs)))
        started = time.perf_counter()
        finish(file, Path(work) / "whole")
        seconds = time.perf_counter() - started
        killed_after = kill_in_second_task(file, Path(work) / "killed")
        finish(file, Path(work) / "killed")
        same = {name: same_file(Path(work), name) for name in compared()}
        matrix = json.loads((Path(work) / "whole" / "forgetting.json").read_text())
        if options.keep is not None:
            options.keep.write_bytes((Path(work) / "whole" / "forgetting.png").read_bytes())
    found = {
        "model": "litemedsam",
        "steps_per_task": options.samples * options.epochs,
        "seconds_whole_chain": round(seconds, 1),
        "matrix": matrix,
        "killed_with_sigkill_after_training_rows_of_task_2": killed_after,
        "same_after_restart": same,
        "all_same": all(same.values()),
    }
    command = f"python benchmarks/peers/{Path(__file__).name} --samples {options.samples} --epochs {options.epochs}"
    print(record("forgetting_samples", command, found).read_text())


def start(file: Path, output: Path) -> subprocess.Popen[bytes]:
    """The chain in a process of its own."""
    command = [sys.executable, "-m", "oncoseg_trainer", "chain", str(file), "--set", f"output={output}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def finish(file: Path, output: Path) -> None:
    """Run the chain to its end."""
    if start(file, output).wait() != 0:
        raise SystemExit("the chain failed")


def kill_in_second_task(file: Path, output: Path, rows: int = 3) -> int:
    """Start the chain, and kill it once its second task has taken some steps; how many it had logged."""
    child = start(file, output)
    metrics = output / "tasks" / TASKS[1] / "metrics.jsonl"
    logged = 0
    while logged < rows:
        time.sleep(0.2)
        if child.poll() is not None:
            raise SystemExit("the chain ended before it could be killed")
        logged = sum(row["event"] == "train" for row in read_metrics(metrics)) if metrics.exists() else 0
    child.send_signal(signal.SIGKILL)
    child.wait()
    return logged


def compared() -> list[str]:
    """The files that must be the same."""
    inside = ("task.json", "metrics.jsonl", "adapter/adapter_model.safetensors", "adapter/oncoseg.json")
    return ["forgetting.json", "manifest.json", *(f"tasks/{task}/{name}" for task in TASKS for name in inside)]


def same_file(work: Path, name: str) -> bool:
    """Whether both chains wrote the same."""
    return (work / "whole" / name).read_bytes() == (work / "killed" / name).read_bytes()


if __name__ == "__main__":
    main()
