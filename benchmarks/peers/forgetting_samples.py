"""What a small model forgets over three tasks on real scans, and that a chain killed in the second ends the same.

LiteMedSAM is adapted to a lung tumour (CT), then a brain tumour (MR), then a vertebra (trained on CT, scored on MR:
four slices of each of the two spine scans), one scan each, and scored after each task on the held-out scan of each.
The breast tumour of the samples is a single scan, which cannot be both trained on and held out. Then the same chain is
killed with SIGKILL in its second task and started again: matrix, records and weights must be the same, byte for byte.

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

import SimpleITK as sitk
import yaml

from oncoseg_benchmarks.record import record
from oncoseg_datasets.plugin import SAMPLES
from oncoseg_datasets.sources.samples import SamplesAdapter
from oncoseg_trainer.reporting.jsonl import read_metrics

TASKS = ("01-lung-lung", "02-brain-brain", "03-spine-vertebra")
SPINES = (("ct", "sub-ct_label-22_ct.nii.gz", "sub-ct_seg-vert_label-22_msk.nii.gz", 22, "train"),
          ("mri", "sub-mri_label-6_T2w.nii.gz", "sub-mri_seg-vert_label-6_msk.nii.gz", 6, "test"))  # fmt: skip
SLICES = 4


def write_spines(folder: Path) -> dict[str, Any]:
    """Cut the slices with the most vertebra out of each spine scan; the chain's entry for them."""
    samples = SamplesAdapter(SamplesAdapter.Settings(sources=("tptbox",)), spec=SAMPLES).fetch(lambda *_: None)
    folder.mkdir()
    rows = []
    for modality, image_file, label_file, value, side in SPINES:
        image, label = (sitk.ReadImage(str(samples / name)) for name in (image_file, label_file))
        label = sitk.Cast(label == value, sitk.sitkUInt8)
        areas = sitk.GetArrayViewFromImage(label).sum(axis=(1, 2))
        first = int(max(range(len(areas) - SLICES), key=lambda start: areas[start : start + SLICES].sum()))
        for name, whole in (("image", image), ("label", label)):
            sitk.WriteImage(whole[:, :, first : first + SLICES], str(folder / f"{modality}-{name}.nii.gz"))
        files = {name: f"{modality}-{name}.nii.gz" for name in ("image", "label")}
        rows.append({"case": f"spine-{modality}", "modality": modality, "split": side, **files})
    (folder / "cases.json").write_text(json.dumps(rows))
    settings = {"layout": "manifest", "manifest": "cases.json", "targets": {"vertebra": [1]}}
    return {"dataset": "generic", "name": "vertebra", "root": str(folder), "settings": settings}


def chain(samples: int, epochs: int, spines: dict[str, Any]) -> dict[str, Any]:
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
            {"phase": "lung", "datasets": [{"dataset": "samples", "name": "lung", "targets": ["lung tumour"]}]},
            {"phase": "brain", "datasets": [{"dataset": "samples", "name": "brain", "targets": ["brain tumour"]}]},
            {"phase": "spine", "datasets": [spines]},
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
        spines = write_spines(Path(work) / "spines")
        file.write_text(yaml.safe_dump(chain(options.samples, options.epochs, spines)))
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
