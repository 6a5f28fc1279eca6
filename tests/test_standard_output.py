"""``--json`` is one JSON document whatever a plugin prints, and no command replaces a file unasked."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

PLUGIN = """
import os
from oncoseg_core import DatasetSpec, ExporterSpec, NormalizerSpec, Target, hookimpl

print("at import")

@hookimpl
def oncoseg_normalizers():
    print("in a hook")
    yield NormalizerSpec(modality="noisy", factory="noisy_parts:Noisy", summary="for [/a] test")

@hookimpl
def oncoseg_datasets():
    yield DatasetSpec(name="noisy", modalities=("noisy",), targets=(Target(name="GTV [/old]", labels={1}),), licence="l",
                      url="http://a.example", citation="c", factory="noisy_parts:Scans", summary="for a test")

@hookimpl
def oncoseg_exporters():
    yield ExporterSpec(format="noisy", suffix=".nii.gz", factory="noisy_parts:Writer", summary="for a test")
"""

PARTS = """
import os
from pathlib import Path
import numpy as np
from oncoseg_core import Case, Exporter, ExportReport, FileDataset, Normalizer, Target
from oncoseg_core.imaging import write_segmentation

print("at the import of a part")

class Noisy(Normalizer):
    def __init__(self, settings=None):
        super().__init__(settings)
        print("built")
        os.write(1, b"from C\\n")

    def example(self):
        print("example")
        return np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4)

    def fit(self, voxels):
        print("fit")
        return {}

    def apply(self, voxels, stats):
        print("apply")
        return np.clip(voxels / 32, 0, 1).astype(np.float32)

class Scans(FileDataset):
    def discover(self, root):
        print("discover")
        for path in sorted(Path(root).glob("*_image.nii.gz")):
            name = path.name.removesuffix("_image.nii.gz") + "[/1]"
            yield Case(dataset="noisy", case_id=name, patient_id=name, modality="noisy", images=(path,),
                       labels=(path.with_name(path.name.replace("image", "label")),), targets=self.spec.targets, split="test")

class Writer(Exporter):
    def export(self, segmentation, destination):
        print("export")
        write_segmentation(segmentation, destination)
        return ExportReport((destination,), ("nan is " + str(float("nan")),))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    (folder / "noisy_plugin.py").write_text(PLUGIN)
    (folder / "noisy_parts.py").write_text(PARTS)
    info = folder / "oncoseg_noisy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: oncoseg-noisy\nVersion: 1.0\n\n")
    (info / "entry_points.txt").write_text("[oncoseg]\noncoseg-noisy = noisy_plugin\n")
    return folder


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    voxels = np.zeros((3, 8, 8), dtype=np.uint8)
    voxels[1, 2:5, 2:5] = 1
    for what in ("image", "label"):
        sitk.WriteImage(sitk.GetImageFromArray(voxels), folder / f"a_{what}.nii.gz")
    return folder


def oncoseg(site, *arguments, cwd):
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "ONCOSEG_PLUGINS": "oncoseg-noisy,oncoseg-datasets,oncoseg-segment",
    }
    code = "from oncoseg_core.cli.app import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True, text=True, timeout=120, env=environment, cwd=cwd,
    )  # fmt: skip


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize(
    "arguments",
    [
        ["plugins"],
        ["plugins", "show", "noisy", "--kind", "normalizer"],
        ["doctor"],
        ["doctor", "--series", "scans/a_image.nii.gz"],
        ["datasets", "list"],
        ["datasets", "show", "noisy"],
        ["datasets", "check", "noisy", "scans", "--preview", "sheet.png"],
        ["datasets", "prepare", "noisy", "scans", "--dest", "store"],
        [
            "export",
            "scans/a_label.nii.gz",
            "--on",
            "scans/a_image.nii.gz",
            "-o",
            "noisy=out.nii.gz",
            "--modality",
            "noisy",
        ],
    ],
    ids=" ".join,
)
def test_json_is_one_document_whatever_a_plugin_prints(site, scans, tmp_path, arguments):
    done = oncoseg(site, *arguments, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout, parse_constant=refuse)
    for line in ("at import", "in a hook"):
        assert f"plugin oncoseg-noisy 1.0 prints: {line}\n" in done.stderr


def test_tables_and_help_show_markup_as_it_is(site, scans, tmp_path):
    checked = oncoseg(site, "datasets", "check", "noisy", "scans", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "GTV [/old]" in checked.stdout
    listed = oncoseg(site, "plugins", "show", "noisy", "--kind", "normalizer", cwd=tmp_path)
    assert "summary: for [/a] test" in listed.stdout


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["plugins", "show", "noisy", "--kind", "normalizer"], "noisy.png"),
        (["plugins", "show", "noisy", "--kind", "normalizer", "-o", "p.png"], "p.png"),
        (["datasets", "check", "noisy", "scans", "--preview", "p.png"], "p.png"),
        (["export", "scans/a_label.nii.gz", "--on", "scans/a_image.nii.gz", "-o", "p.nii.gz", "--modality", "noisy"], "p.nii.gz"),
        (["samples", "fetch", "--dest", "."], "lung1_image.nrrd"),
    ],
)  # fmt: skip
def test_no_command_replaces_a_file_unasked(site, scans, tmp_path, arguments, file):
    (tmp_path / file).write_text("older")
    done = oncoseg(site, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{file} exists" in done.stderr
    assert "--overwrite" in done.stderr
    assert (tmp_path / file).read_text() == "older"
    if arguments[0] != "samples":
        assert oncoseg(site, *arguments, "--overwrite", cwd=tmp_path).returncode == 0
        assert (tmp_path / file).read_bytes() != b"older"
