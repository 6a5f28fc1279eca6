"""A protocol of 32 structures on a real CT by an atlas and an nnU-Net: seconds by phase, and nnU-Net's own masks.

**Image**: the sample scan ``lung2`` (61 x 512 x 512), as a DICOM series. **Structures**: the samples have no organ
labels, so the body (``ct-thresholds``) is cut into 16 compartments for nnU-Net and 16 others for the atlas. Time and
equality are measured here, not how good contours are. **nnU-Net**: planned, preprocessed and trained by nnU-Net itself
in this script on ``lung1`` and a scaled copy; the plan is then made tiny (3 stages of 8 to 32 features, windows of
16 x 64 x 64, spacing 5 x 3 x 3 mm), so that a processor trains it in a minute. Its masks, as the node stores them, are
compared voxel by voxel with the file that the program ``nnUNetv2_predict`` writes for the same image as NIfTI.
Neither mirrors images, which is what a processor has time for. **Atlas**: ``lung1`` and two scaled copies. The
background's bias is lowered after the short training, so that there are structures.

    OMP_NUM_THREADS=2 python benchmarks/peers/node_structures.py
    python benchmarks/peers/node_structures.py --most 2    # two iterations of training; nothing is recorded
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
import yaml

from oncoseg_benchmarks.record import record, require
from oncoseg_core import AutomaticModelSpec, BoolArray, DatasetSpec, Volume, load_plugins
from oncoseg_core.imaging import read_volume
from oncoseg_dicom import find_series, write_series
from oncoseg_node.config.settings import NodeSettings
from oncoseg_node.records.job import ENDS, Job, State
from oncoseg_node.segmenting import read_masks
from oncoseg_node.work import steps
from oncoseg_node.work.installed import installed_rooms

DATASET, CONFIGURATION = "Dataset901_Compartments", "3d_fullres"
NETWORK = [f"Net{number:02d}" for number in range(1, 17)]
ATLAS = [f"Atlas{number:02d}" for number in range(1, 17)]
ITERATIONS, COARSE = 40, 4
"""Of the training, on every fourth voxel in the plane."""

PROGRAM = """
from oncoseg_nnunet.network import quiet
with quiet():
    from nnunetv2.inference.predict_from_raw_data import predict_entry_point
if __name__ == "__main__":
    predict_entry_point()
"""
"""The program ``nnUNetv2_predict``, which needs torchvision to be importable."""


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, help="iterations of training, to try the script; nothing is recorded")
    parser.add_argument("--trained", type=Path, help="nnU-Net's folders of an earlier run, in the place of training")
    parser.add_argument("--without-atlas", action="store_true", help="16 structures, by nnU-Net alone")
    parser.add_argument("--load", default="none besides it", help="what else the machine did, for the record")
    options = parser.parse_args()
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["ONCOSEG_CACHE"], samples = str(folder / "cache"), samples_folder()
        scans = {each: read_volume(samples / f"{each}_image.nrrd", "ct") for each in ("lung1", "lung2")}
        nnunet = options.trained or folder / "nnunet"
        if options.trained is None:
            train(nnunet, scans["lung1"], options.most or ITERATIONS)
        (model,) = (nnunet / "results" / DATASET).iterdir()
        models = {
            "net": {
                "model": "nnunet",
                "settings": {"folder": str(model), "folds": ["all"], "device": "cpu", "mirroring": False},
            }
        }
        if not options.without_atlas:
            write_atlases(folder / "atlases", scans["lung1"])
            models["atlas"] = {"model": "atlas", "settings": {"folder": str(folder / "atlases"), "threads": threads}}
        about = {
            "image": {"name": "lung2", "shape": scans["lung2"].geometry.shape},
            "load": options.load, "threads": threads,
        }  # fmt: skip
        found = about | contour(folder, scans["lung2"], models)
        keep(found, options)
        keep(found | compared(folder, nnunet, scans["lung2"]), options)


def keep(found: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Record what there is so far; print it alone where the script is only tried."""
    if options.most is not None:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    extra = " --without-atlas" if options.without_atlas else ""
    command = f"OMP_NUM_THREADS={found['threads']} python benchmarks/peers/{Path(__file__).name}{extra}"
    sys.stdout.write(f"{record('node_structures', command, found)}\n")


def samples_folder() -> Path:
    """The sample scans, from the cache or fetched once."""
    return load_plugins().build(DatasetSpec, "samples").fetch(lambda *_: None)  # type: ignore[no-any-return]


@contextmanager
def timed() -> Iterator[list[float]]:
    """A list that gets the seconds."""
    seconds: list[float] = []
    started = time.perf_counter()
    yield seconds
    seconds.append(time.perf_counter() - started)


def compartments(volume: Volume, parts: tuple[int, int, int]) -> np.ndarray:
    """The body cut into so many parts along z, y and x: values 1 and up in the order of the axes, 0 outside."""
    model = load_plugins().build(AutomaticModelSpec, "ct-thresholds")
    body = np.asarray(model.segment(volume, ["External"], lambda *_: None).masks["External"])
    labels = np.zeros(body.shape, np.uint8)
    index = 0
    places = np.nonzero(body)
    low, high = ([int(edge(axis)) for axis in places] for edge in (np.min, np.max))
    steps_along = [np.linspace(a, b + 1, n + 1).astype(int) for a, b, n in zip(low, high, parts, strict=True)]
    for z in range(parts[0]):
        for y in range(parts[1]):
            for x in range(parts[2]):
                index += 1
                box = tuple(slice(at[k], at[k + 1]) for at, k in zip(steps_along, (z, y, x), strict=True))
                labels[box][body[box]] = index
    return labels


def image_of(array: np.ndarray, volume: Volume, scale: float = 1.0) -> sitk.Image:
    """As SimpleITK has it; with other spacings it is the scan of a larger or smaller patient."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([side * scale for side in volume.geometry.spacing[::-1]])
    image.SetOrigin(volume.geometry.origin)
    image.SetDirection(volume.geometry.direction.ravel().tolist())
    return image


def train(folder: Path, scan: Volume, iterations: int) -> None:
    """Plan, preprocess and train by nnU-Net."""
    raw = folder / "raw" / DATASET
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True)
    labels = compartments(scan, (4, 2, 2))
    for number, scale in enumerate((1.0, 1.1), start=1):
        for array, path in ((scan.voxels[0], f"imagesTr/case{number}_0000"), (labels, f"labelsTr/case{number}")):
            image = image_of(array, scan, scale)[::COARSE, ::COARSE]
            sitk.WriteImage(image, raw / f"{path}.nii.gz")
    names = {"background": 0} | {name: number for number, name in enumerate(NETWORK, start=1)}
    described = {"channel_names": {"0": "CT"}, "labels": names, "numTraining": 2, "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(described))
    environment = {f"nnUNet_{part}": str(folder / part) for part in ("raw", "preprocessed", "results")}
    environment |= {"nnUNet_n_proc_DA": "1", "nnUNet_compile": "F", "nnUNet_def_n_proc": "1"}
    code = f"import node_structures; node_structures.train_here({str(folder)!r}, {iterations})"
    run([sys.executable, "-c", code], environment)
    (model,) = (folder / "results" / DATASET).iterdir()
    favour_structures(model / "fold_all" / "checkpoint_final.pth")


def favour_structures(path: Path) -> None:
    """Lower the background's bias: after so short a training nothing else would be found."""
    content = torch.load(path, weights_only=False)  # this script's own file
    for name, tensor in content["network_weights"].items():
        if ".seg_layers." in name and name.endswith("bias"):
            tensor[0] -= 5
    torch.save(content, path)


def train_here(folder: str, iterations: int) -> None:
    """In a process of its own, whose environment has nnU-Net's folders."""
    from oncoseg_nnunet.network import quiet

    with quiet():
        from nnunetv2.experiment_planning.plan_and_preprocess_api import (
            extract_fingerprints,
            plan_experiments,
            preprocess,
        )
        from nnunetv2.run.run_training import get_trainer_from_args

        extract_fingerprints([901], num_processes=1, verbose=False, show_progress_bar=False)
        plan_experiments([901])
        plans = Path(folder) / "preprocessed" / DATASET / "nnUNetPlans.json"
        content = json.loads(plans.read_text())
        make_tiny(content["configurations"][CONFIGURATION])
        plans.write_text(json.dumps(content))
        preprocess([901], configurations=[CONFIGURATION], num_processes=[1], show_progress_bar=False)
        trainer = get_trainer_from_args(DATASET, CONFIGURATION, "all", device=torch.device("cpu"))  # type: ignore[arg-type]
        trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 1, iterations, 1
        trainer.run_training()


def make_tiny(plan: dict[str, Any]) -> None:
    """What a processor trains in a minute."""
    plan |= {"patch_size": [16, 64, 64], "spacing": [5.0, 3.0, 3.0], "batch_size": 2}
    arguments = plan["architecture"]["arch_kwargs"]
    arguments |= {
        "n_stages": 3, "features_per_stage": [8, 16, 32], "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]], "n_conv_per_stage": [2, 2, 2], "n_conv_per_stage_decoder": [2, 2],
    }  # fmt: skip


def write_atlases(folder: Path, scan: Volume) -> None:
    """Three cases: the scan, and it as of a smaller and a larger patient."""
    labels = compartments(scan, (1, 4, 4))
    for number, scale in enumerate((1.0, 0.95, 1.05), start=1):
        case = folder / f"case{number}"
        case.mkdir(parents=True)
        sitk.WriteImage(image_of(scan.voxels[0], scan, scale), case / "image.nii.gz")
        sitk.WriteImage(image_of(labels, scan, scale), case / "structures.nii.gz")
    described = {"modality": "ct", "names": dict(enumerate(ATLAS, start=1))}
    (folder / "atlases.yaml").write_text(yaml.safe_dump(described))


def contour(folder: Path, scan: Volume, models: Mapping[str, Any]) -> dict[str, Any]:
    """Take a job from received to confirmed, as the node's worker does; seconds of each step, and of its parts."""
    names = [*NETWORK, *(ATLAS if "atlas" in models else [])]
    protocol = folder / "compartments.yaml"
    structures = [{"name": name, "colour": [8 * number, 128, 64]} for number, name in enumerate(names)]
    protocol.write_text(yaml.safe_dump({"name": "compartments", "title": "Compartments", "structures": structures}))
    job_folder, archive = folder / "job", folder / "archive"
    _, y, x = scan.geometry.spacing
    places = scan.geometry.index_to_lps([(0, 0, index) for index in range(scan.geometry.shape[0])])
    write_series(job_folder / "images", scan.voxels[0].astype(np.int16), places, pixel_spacing=(y, x))
    series = find_series(job_folder / "images")
    archive.mkdir()
    rule = {
        "name": "chest", "when": {"Modality": {"equals": "CT"}}, "protocol": str(protocol), "models": list(models),
        "destinations": ["archive"],
    }  # fmt: skip
    settings = NodeSettings(
        data=folder / "data", receive={}, rules=[rule], models=models,
        destinations={"archive": {"kind": "folder", "path": archive, "formats": ["rtstruct", "seg"]}},
    )  # fmt: skip
    job = Job(
        id=1, study_uid=str(series.header.StudyInstanceUID), series_uid=str(series.header.SeriesInstanceUID),
        folder=job_folder, state=State.RECEIVED, created=time.time(), changed=time.time(),
    )  # fmt: skip
    shop = steps.Workshop(settings, load_plugins(), "cpu", installed_rooms(), lambda _: None)
    seconds: dict[str, dict[str, float]] = {}
    while job.state not in ENDS:
        result = steps.advance(job, shop)
        seconds[job.state.value] = {part: round(value, 2) for part, value in result.seconds.items()}
        job = job.model_copy(update={"state": result.state, "rule": job.rule or result.rule})
        sys.stderr.write(f"{job.state}: {result.seconds}\n")
    require(job.state is State.CONFIRMED, f"ended {job.state}")
    made, masks = read_masks(job)
    return {
        "structures": len(made.structures),
        "not_empty": sum(bool(mask.any()) for mask in masks.values()),
        "seconds_after_each_state": seconds,
        "seconds": round(sum(each["all"] for each in seconds.values()), 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "bytes": {path.suffix: path.stat().st_size for path in archive.rglob("*") if path.is_file()},
    }


def compared(folder: Path, nnunet: Path, scan: Volume) -> dict[str, Any]:
    """The node's masks of nnU-Net against the file of nnU-Net's own program."""
    given, answer = folder / "given", folder / "answer"
    given.mkdir()
    sitk.WriteImage(image_of(scan.voxels[0], scan), given / "case_0000.nii.gz")
    environment = {f"nnUNet_{part}": str(nnunet / part) for part in ("raw", "preprocessed", "results")}
    (folder / "predict.py").write_text(PROGRAM)
    command = [
        sys.executable, str(folder / "predict.py"), "-i", str(given), "-o", str(answer), "-d", DATASET, "-c",
        CONFIGURATION, "-f", "all", "--disable_tta", "-device", "cpu", "-npp", "1", "-nps", "1",
    ]  # fmt: skip
    with timed() as seconds:
        run(command, environment)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(answer / "case.nii.gz")))
    job = Job(id=1, study_uid="1", series_uid="1", folder=folder / "job", state=State.SEGMENTED, created=0, changed=0)
    _, masks = read_masks(job)
    different = {name: differing(masks[name], expected == number) for number, name in enumerate(NETWORK, start=1)}
    found = {
        "labels_in_nnUNetv2_predict": len(np.unique(expected)) - 1,
        "voxels_unlike_nnUNetv2_predict": sum(different.values()),
        "seconds_of_nnUNetv2_predict": round(seconds[0], 1),
    }
    require(found["labels_in_nnUNetv2_predict"] > 1, "nnU-Net found nothing to compare")
    require(found["voxels_unlike_nnUNetv2_predict"] == 0, f"{different}")
    return found


def differing(one: BoolArray, other: BoolArray) -> int:
    """How many voxels."""
    return int(np.count_nonzero(one != other))


def run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a program of nnU-Net, quietly unless it fails."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        command, env={**os.environ, **environment, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    require(done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


if __name__ == "__main__":
    main()
