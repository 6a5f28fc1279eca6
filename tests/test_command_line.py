"""The programs as a user meets them: real processes, real scans, exit codes, one-line errors."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from forked_commands import run_forked

from oncoseg_core import DatasetSpec, Progress, load_plugins
from oncoseg_core.imaging.formats import read_volume
from oncoseg_core.system import cache_directory

HEAVY = ("torch", "monai", "SimpleITK", "pydicom", "timm", "peft", "matplotlib", "scipy", "huggingface_hub")


def oncoseg(*arguments, program="oncoseg_core.cli.app", environment=(), **options):
    return run_forked(program, arguments, environment={**os.environ, **dict(environment)}, **options)


def failed(done, code, *parts):
    """It ended with that code and one line that holds the parts."""
    assert done.returncode == code, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line, line


@pytest.fixture(scope="session")
def samples():
    """The real sample scans, from the cache or fetched once."""

    def progress(what: str, done: int, total: int) -> None: ...

    checked: Progress = progress
    return load_plugins().build(DatasetSpec, "samples").fetch(checked)


@pytest.mark.parametrize(
    "code",
    [
        "import oncoseg_core",
        "from oncoseg_core.plugins.registry import load_plugins; load_plugins()",
        "import sys; sys.argv=['oncoseg','--help']; from oncoseg_core.cli.app import app; app(standalone_mode=False)",
        "import sys; sys.argv=['oncoseg','plugins']; from oncoseg_core.cli.app import app; app(standalone_mode=False)",
        "import sys; sys.argv=['x','--help']; from oncoseg_trainer.cli import app; app(standalone_mode=False)",
        "import sys; sys.argv=['x','chain','--help']; from oncoseg_trainer.cli import app; app(standalone_mode=False)",
        "import sys; sys.argv=['x','segment','--help']; from oncoseg_core.cli.app import app; app(standalone_mode=False)",
        "import sys; sys.argv=['x','adapters','--help']; from oncoseg_core.cli.app import app; app(standalone_mode=False)",
        "import sys; sys.argv=['x','train','--help']; from oncoseg_core.cli.app import app; app(standalone_mode=False)",
    ],
)
def test_light_things_load_nothing_heavy(code):
    script = f"{code}\nimport sys\nprint('LOADED', sorted(set({HEAVY}) & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "LOADED []" in done.stderr


def test_help_lists_the_plugins_commands():
    done = oncoseg("--help")
    assert done.returncode == 0
    for command in ("segment", "plugins", "doctor", "samples", "train"):
        assert command in done.stdout


def test_plugins_as_json():
    done = oncoseg("plugins", "--json")
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout)
    rows = {(row["kind"], row["name"]): row for row in found["components"]}
    for component in [("normalizer", "ct"), ("normalizer", "mri"), ("dataset", "samples"), ("model", "litemedsam"),
                      ("loss", "dice-focal"), ("metric", "dice"), ("prompt generator", "box"), ("tracker", "html")]:  # fmt: skip
        assert rows[component]["status"] == "ok"
        assert rows[component]["version"] == "0.1.0"


def test_doctor_finds_this_place_sound():
    done = oncoseg("doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0
    assert findings["model litemedsam"]["ok"]
    assert findings["model sam3"]["found"].startswith("not built here: its weights come from facebook/sam3")
    assert "torch" in findings["libraries"]["found"]
    assert "cpu" in findings["devices"]["found"]


def test_segment_a_real_tumour_in_its_own_geometry(samples, tmp_path):
    image = samples / "lung1_image.nrrd"
    label = read_volume(samples / "lung1_label.nrrd", "label")
    truth = label.voxels[0] > 0
    index = int(truth.sum(axis=(1, 2)).argmax())
    rows, columns = np.nonzero(truth[index])
    box = f"{columns.min() - 2},{rows.min() - 2},{columns.max() + 3},{rows.max() + 3}"
    output = tmp_path / "mask.nii.gz"
    done = oncoseg("segment", image, "--model", "litemedsam", "--box", box, "--slice", index, "-o", output, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["modality"].startswith("ct (recognised by its values, -1024 to 3071")
    mask = read_volume(output, "label")
    read_volume(image, "ct").geometry.require_same_grid(mask.geometry, "image", "mask")
    found = mask.voxels[0] > 0
    assert set(np.flatnonzero(found.any(axis=(1, 2)))) == {index}
    dice = 2 * np.count_nonzero(found[index] & truth[index]) / (found[index].sum() + truth[index].sum())
    assert dice > 0.85  # measured: 0.92
    assert {path.name for path in tmp_path.iterdir()} == {"mask.nii.gz", "mask.json", "mask.png"}
    assert json.loads((tmp_path / "mask.json").read_text()) == report


def test_follow_a_real_tumour_through_the_volume(samples, tmp_path):
    truth = read_volume(samples / "lung1_label.nrrd", "label").voxels[0] > 0
    index = int(truth.sum(axis=(1, 2)).argmax())
    rows, columns = np.nonzero(truth[index])
    box = f"{columns.min() - 2},{rows.min() - 2},{columns.max() + 3},{rows.max() + 3}"
    done = oncoseg(
        "segment", samples / "lung1_image.nrrd", "--model", "litemedsam", "--box", box, "--slice", index,
        "--propagate", "--target", "tumour", "-o", tmp_path / "mask.nii.gz", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)["structures"]
    assert report["name"] == "tumour"
    assert report["smallest resolvable lesion"] == "2.28 mm in the slice; slices are 5 mm apart"
    assert report["propagation"].count("the model's score fell") == 2
    found = read_volume(tmp_path / "mask.nii.gz", "label").voxels[0] > 0
    assert sorted(row["slice"] for row in report["per slice"]) == list(np.flatnonzero(found.any(axis=(1, 2))))
    assert 2 * np.count_nonzero(found & truth) / (found.sum() + truth.sum()) > 0.8  # measured: 0.89


def test_a_flipped_image_gives_the_flipped_mask(samples, tmp_path):
    """brain1 is stored with its y axis upside down; stored the other way round, the model must see the same picture."""
    image = sitk.ReadImage(str(samples / "brain1_image.nrrd"))
    truth = read_volume(samples / "brain1_label.nrrd", "label").voxels[0] > 0
    index = int(truth.sum(axis=(1, 2)).argmax())
    rows, columns = np.nonzero(truth[index])
    height = truth.shape[1]
    flipped = sitk.Flip(image, [False, True, False])
    assert flipped.GetDirection() != image.GetDirection() or flipped.GetOrigin() != image.GetOrigin()
    sitk.WriteImage(flipped, str(tmp_path / "flipped.nrrd"))
    masks = []
    for name, low, high in (
        (samples / "brain1_image.nrrd", rows.min(), rows.max() + 1),
        (tmp_path / "flipped.nrrd", height - rows.max() - 1, height - rows.min()),
    ):
        output = tmp_path / f"{len(masks)}.nrrd"
        box = f"{columns.min()},{low},{columns.max() + 1},{high}"
        done = oncoseg(
            "segment", name, "--model", "litemedsam", "--modality", "mri", "--box", box, "--slice", index, "-o", output
        )
        assert done.returncode == 0, done.stderr
        masks.append(read_volume(output, "label").voxels[0])
    assert masks[0].any()
    assert np.array_equal(masks[0], masks[1][:, ::-1])


BOX = ("--model", "litemedsam", "--box", "10,10,20,20")


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["missing.nii.gz", *BOX], 1, ["missing.nii.gz: no such file"]),
        (["IMAGE", "--model", "litemedsm", "--box", "1,1,5,5"], 2, ["unknown model 'litemedsm'; did you mean 'litemedsam'?"]),
        (["IMAGE", *BOX, "--modality", "mry", "--slice", "1"], 2, ["unknown normalizer 'mry'; did you mean 'mri'?"]),
        (["IMAGE", "--model", "litemedsam", "--box", "1,2,3"], 2, ["expected four numbers x0,y0,x1,y1"]),
        (["IMAGE", "--model", "litemedsam", "--box", "9,2,3,8"], 2, ["has no area"]),
        (["IMAGE", *BOX], 2, ["IMAGE", "has 48 slices; say on which one"]),
        (["IMAGE", *BOX, "--slice", "48"], 2, ["slice 48 does not exist", "slices 0 to 47"]),
        (["IMAGE", *BOX, "--slice", "1", "-o", "IMAGE"], 2, ["is the image itself"]),
        (["IMAGE", *BOX, "--slice", "1", "-o", "mask.png"], 2, ["a mask is written as one of"]),
        (["BRAIN", *BOX, "--slice", "1"], 2, ["its modality cannot be told", "--modality", "known: ct, cxr"]),
        (["IMAGE", *BOX, "--slice", "1", "--adapter", "nowhere"], 1, ["nowhere: no such folder"]),
        (["IMAGE", *BOX, "--slice", "1", "-o", "BRAIN"], 2, ["BRAIN", "exists; give another name, or --overwrite"]),
        (["IMAGE", "--model", "litemedsam"], 2, ["no prompt was given: expected --box, --point, --text or --exemplar"]),
        (["IMAGE", *BOX, "--exemplar", "5,5,9,9"], 2, ["'litemedsam' takes prompts of kind box, lasso, point, not 'exemplar'"]),
        (["IMAGE", "--model", "litemedsam", "--slice", "1", "--negative-point", "5,5"], 2, ["all hints say what is not meant"]),
        (["IMAGE", "--model", "litemedsam", "--slice", "1", "--point", "600,5"], 2, ["point (600, 5)", "512 pixels wide"]),
        (["IMAGE", *BOX, "--scribble", "5,5,9,9"], 2, ["'litemedsam' takes prompts of kind box, lasso, point, not 'scribble'"]),
        (["IMAGE", *BOX, "--slices", "40:50"], 2, ["slice 50 does not exist", "slices 0 to 47"]),
        (["IMAGE", *BOX, "--slice", "1", "--zoom", "sometimes"], 2, ["'--zoom'", "'off', 'auto', 'always'"]),
        (["IMAGE", *BOX, "--slice", "1", "--model-set", "wieghts=x"], 2, ["unknown key 'wieghts'; did you mean 'weights'?"]),
        (["IMAGE", *BOX, "--slice", "one"], 2, ["'--slice'", "valid integer"]),
    ],
)  # fmt: skip
def test_segment_says_in_one_line_what_is_wrong(samples, tmp_path, arguments, code, parts):
    names = {"IMAGE": str(samples / "lung1_image.nrrd"), "BRAIN": str(samples / "brain1_image.nrrd")}
    arguments = [names.get(argument, argument) for argument in arguments]
    failed(oncoseg("segment", *arguments, cwd=tmp_path), code, *(names.get(part, part) for part in parts))
    assert list(tmp_path.iterdir()) == []


def test_a_pulled_adapter_is_used_by_its_alias_and_one_for_other_weights_refused(samples, tmp_path):
    """The adapter is one that changes nothing, so the mask is that of the model without it."""
    program = (
        "import sys; from pathlib import Path; from oncoseg_lora.pulled import Origin;"
        "from oncoseg_lora.store import save_adapter; from oncoseg_lora.inject import adapt;"
        "from oncoseg_core.path.settings import PathSettings; from oncoseg_core.contract.records import ModelSpec;"
        "from oncoseg_core.plugins.registry import load_plugins;"
        "origin = Origin(repository='lab/lungs', subfolder='liver', revision='0' * 40, alias='liver');"
        "model = adapt(load_plugins().build(ModelSpec, 'litemedsam'));"
        "save_adapter(model, origin.folder, versions={}, paths={'ct': PathSettings()});"
        "(origin.folder / 'pulled.json').write_text(origin.model_dump_json());"
        "print(origin.folder)"
    )
    away = {"ONCOSEG_CACHE": str(tmp_path / "cache"), "ONCOSEG_ADAPTERS_REPO": ""}
    engines = cache_directory() / "engines"  # which engine computes is not the subject, and an export takes a minute
    engines.mkdir(parents=True, exist_ok=True)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "engines").symlink_to(engines)
    made = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**os.environ, **away}
    )
    segment = ("segment", samples / "lung1_image.nrrd", *BOX, "--slice", "1")
    masks = []
    for name in (None, "liver"):
        adapter = () if name is None else ("--adapter", name)
        mask = tmp_path / f"{len(masks)}.nrrd"
        done = oncoseg(*segment, "-o", mask, *adapter, cwd=tmp_path, environment=away)
        assert done.returncode == 0, done.stderr
        masks.append(read_volume(mask, "label").voxels)
    assert np.array_equal(masks[0], masks[1])
    near = "lab/lungs/livr: no such folder, and no adapter of that name was pulled: `oncoseg adapters pull NAME`"
    done = oncoseg(*segment, "--adapter", "lab/lungs/livr", cwd=tmp_path, environment=away)
    failed(done, 1, near, "did you mean 'lab/lungs/liver'")
    record = Path(made.stdout.strip()) / "oncoseg.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps({**content, "base_weights_sha256": "0" * 64}))
    done = oncoseg(*segment, "--adapter", "liver", cwd=tmp_path, environment=away)
    failed(done, 1, f"was trained on base weights {'0' * 64}, the model has {content['base_weights_sha256']}")


@pytest.mark.parametrize("arguments", [["segmnt"], ["plugins", "--foo"]])
def test_wrong_usage_is_one_line(arguments):
    failed(oncoseg(*arguments), 2, "--help shows how")


def test_without_arguments_there_is_help():
    done = oncoseg()
    assert done.returncode == 0
    assert "segment" in done.stdout


def test_an_interrupt_is_one_line(samples, tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", "from oncoseg_core.cli.app import main; main()", "segment",
         str(samples / "lung1_image.nrrd"), *BOX, "--slice", "1"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    maps = Path(f"/proc/{child.pid}/maps")
    for _ in range(600):  # once torch is there, it is at work
        if not maps.exists() or "libtorch" in maps.read_text():
            break
        time.sleep(0.05)
    else:
        pytest.fail("it does not begin")
    if not maps.exists():
        time.sleep(1.5)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert (child.returncode, errors) == (1, "error: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_a_warning_is_one_line_without_the_place_in_the_code():
    program = (
        "import typer, warnings; from oncoseg_core.cli.command_line import run_app; app = typer.Typer();"
        "app.command()(lambda: warnings.warn('the weights\\nare random')); run_app(app)"
    )
    plain, debug = (
        subprocess.run([sys.executable, "-c", program, *more], capture_output=True, text=True, check=True)
        for more in ([], ["--debug"])
    )
    assert plain.stderr == "warning: the weights are random\n"
    assert "UserWarning" in debug.stderr


def test_debug_shows_the_traceback(tmp_path):
    done = oncoseg("segment", "missing.nii.gz", *BOX, "--debug", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


TRAINING = [
    (["quickstrat"], 2, ["no built-in configuration of that name; did you mean 'quickstart' or"]),
    (["quickstart", "--set", "training.epoch=1"], 2, ["unknown key 'training.epoch'; did you mean 'epochs'"]),
    (
        ["quickstart", "--set", "training.epochs=0"],
        2,
        ["training.epochs = 0: input should be greater than or equal to 1"],
    ),
    (["quickstart", "--set", "training.epochs"], 2, ["expected KEY=VALUE"]),
    (["quickstart", "--set", "model.name=sam"], 2, ["unknown model 'sam'"]),
    (["quickstart", "--set", "lora.rnk=8"], 2, ["unknown key 'lora.rnk'; did you mean 'rank'"]),
    (["quickstart", "--set", "data.root=nowhere"], 1, ["nowhere"]),
    (["quickstart", "--set", "prompts.train.settings={jiter: 3}"], 2, ["unknown key 'jiter'"]),
    (["quickstart", "--set", "output=file/run"], 1, ["cannot write", "is a file"]),
]


@pytest.mark.parametrize(("arguments", "code", "parts"), TRAINING)
def test_train_says_in_one_line_what_is_wrong(samples, tmp_path, arguments, code, parts):
    (tmp_path / "file").write_text("x")
    failed(oncoseg(*arguments, program="oncoseg_trainer.cli", cwd=tmp_path), code, *parts)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_offline_the_first_time_says_how_to_go_on(tmp_path):
    away = {
        "ONCOSEG_CACHE": str(tmp_path / "cache"),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "",
        "PIP_CONFIG_FILE": os.devnull,
    }
    done = oncoseg("quickstart", program="oncoseg_trainer.cli", environment=away, cwd=tmp_path)
    failed(done, 1, "pyradiomics", "--set data.root=DIR", "oncoseg samples fetch --from DIR")
    assert not (tmp_path / "runs").exists()


def test_altered_samples_are_refused(samples, tmp_path):
    for path in samples.glob("*.nrrd"):
        shutil.copy(path, tmp_path)
    with (tmp_path / "lung2_label.nrrd").open("r+b") as stream:
        stream.seek(5000)
        stream.write(b"x")
    done = oncoseg("quickstart", "--set", f"data.root={tmp_path}", program="oncoseg_trainer.cli", cwd=tmp_path)
    failed(done, 1, "lung2_label.nrrd: SHA-256 is", "expected cef52738")


def test_oncoseg_train_is_the_same_command(tmp_path):
    done = oncoseg("train", "quickstrat", cwd=tmp_path)
    failed(done, 2, "did you mean 'quickstart' or")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ("empty", ["label holds no voxel of 'lung tumour'"]),
        ("nan", ["1 voxels are NaN or infinite, which 'ct' does not take"]),
        ("moved", ["label.nii.gz and ", "lie up to 5 mm apart"]),
    ],
)
@pytest.mark.parametrize("spoilt", ["a", "b"], ids=["trained on", "held out"])
def test_bad_cases_are_refused_by_name(tmp_path, change, parts, spoilt):
    """A generated dataset of two cases, served by a plugin made here; one case is spoilt."""
    site = tmp_path / "site"
    info = site / "oncoseg_bad-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: oncoseg-bad\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[oncoseg]\noncoseg-bad = oncoseg_bad\n")
    (site / "oncoseg_bad.py").write_text(
        "from oncoseg_core import Case, DatasetSpec, Target, hookimpl\n"
        "from oncoseg_core.imaging.file_dataset import FileDataset\n"
        "T = (Target(name='lung tumour', labels={1}),)\n"
        "class Adapter(FileDataset):\n"
        "    def discover(self, root):\n"
        "        for name, split in (('a', 'train'), ('b', 'test')):\n"
        "            yield Case(dataset='bad', case_id=name, patient_id=name, modality='ct', targets=T, split=split,\n"
        "                       images=(root / f'{name}_image.nii.gz',), labels=(root / f'{name}_label.nii.gz',))\n"
        "@hookimpl\n"
        "def oncoseg_datasets():\n"
        "    yield DatasetSpec(name='bad', factory='oncoseg_bad:Adapter', summary='x', modalities=('ct',), targets=T,\n"
        "                      licence='none', url='none', citation='none')\n"
    )
    voxels = np.zeros((3, 32, 32), dtype=np.float32)
    label = np.zeros((3, 32, 32), dtype=np.uint8)
    label[1, 8:20, 8:20] = 1
    for name in ("a", "b"):
        affines = {"image": np.diag([-1.0, -1, 1, 1]), "label": np.diag([-1.0, -1, 1, 1])}
        arrays = {"image": voxels.copy(), "label": label.copy()}
        if name == spoilt:
            arrays["image"][0, 0, 0] = np.nan if change == "nan" else 0
            arrays["label"] *= change != "empty"
            affines["label"][2, 3] = 5.0 if change == "moved" else 0.0
        for kind, array in arrays.items():
            nibabel.save(nibabel.Nifti1Image(array.T, affines[kind]), tmp_path / f"{name}_{kind}.nii.gz")
    done = oncoseg(
        "quickstart", "--set", "data.dataset=bad", "--set", f"data.root={tmp_path}", "--set", "data.targets=[]",
        "--set", f"output={tmp_path / 'run'}", program="oncoseg_trainer.cli",
        environment={"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    failed(done, 1, f"{tmp_path}/{spoilt}_", *parts)
    assert not (tmp_path / "run").exists()
