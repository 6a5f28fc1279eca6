"""An exporter's files meet neither the manifest, the preview, another output nor a file that is there."""

import hashlib
import json

import pytest
from toy_engine import image_file, registry_of
from two_files import two_file_components

from oncoseg_core import PluginError, UsageError
from oncoseg_segment.cli.prompt_options import PromptOptions
from oncoseg_segment.engine.settings import SegmentSettings
from oncoseg_segment.files.export_masks import ExportRequest, export_masks
from oncoseg_segment.files.run import SegmentRequest, segment_file


@pytest.fixture
def registry():
    found = registry_of()
    found.components += two_file_components()
    return found


@pytest.fixture
def image(tmp_path):
    return image_file(tmp_path)


def segment(registry, image, form, second, *more, overwrite=False):
    out = image.parent / "out"
    structure = PromptOptions(boxes=("38,28,62,52",), slice_index=3).structure()
    request = SegmentRequest(
        image=image,
        structures=[structure],
        settings=SegmentSettings(model="brighter", modality="unit"),
        outputs=[f"{form}={out}/mask.nii.gz", *(f"{out}/{name}" for name in more)],
        export_settings={form: {"second": second}},
        overwrite=overwrite,
    )
    return segment_file(registry, request), out


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def never(*_, **__):
    raise AssertionError("the model ran")


@pytest.mark.parametrize(
    ("second", "more", "what"),
    [
        ("mask.json", (), "mask.json would be written twice, by the declared output and by the manifest"),
        ("mask.png", (), "mask.png would be written twice, by the declared output and by the preview"),
        ("b.nrrd", ("b.nrrd",), "b.nrrd would be written twice, by the declared output and by the nrrd output"),
    ],
)
def test_a_declared_file_that_meets_another_is_refused_before_the_model_runs(
    registry, image, monkeypatch, second, more, what
):
    monkeypatch.setattr("oncoseg_segment.files.run.Session", never)
    with pytest.raises(UsageError, match=what):
        segment(registry, image, "declared", second, *more, overwrite=True)
    assert names(image.parent / "out") == []


def test_a_declared_file_does_not_replace_an_older_one_unasked(registry, image, monkeypatch):
    out = image.parent / "out"
    out.mkdir()
    (out / "legend.txt").write_text("older")
    with pytest.raises(UsageError, match=r"legend.txt exists; give another name, or `overwrite`"):
        segment(registry, image, "declared", "legend.txt")
    segment(registry, image, "declared", "legend.txt", overwrite=True)
    assert (out / "legend.txt").read_text() == "second"


@pytest.mark.parametrize("second", ["mask.json", "mask.png"])
def test_an_undeclared_file_that_meets_another_ends_the_run_and_writes_nothing(registry, image, second):
    with pytest.raises(UsageError, match=f"exporter 'undeclared', after the export.*{second} would be written twice"):
        segment(registry, image, "undeclared", second, overwrite=True)
    assert names(image.parent / "out") == []


def test_an_undeclared_file_does_not_take_the_place_of_an_output(registry, image):
    with pytest.raises(UsageError, match=r"b.nrrd would be written twice, by the nrrd output"):
        segment(registry, image, "undeclared", "b.nrrd", "b.nrrd")
    assert names(image.parent / "out") == []


def test_an_undeclared_file_does_not_replace_an_older_one(registry, image):
    out = image.parent / "out"
    out.mkdir()
    (out / "legend.txt").write_text("older")
    with pytest.raises(UsageError, match=r"legend.txt exists; give another name, or `overwrite`"):
        segment(registry, image, "undeclared", "legend.txt")
    assert names(out) == ["legend.txt"]
    assert (out / "legend.txt").read_text() == "older"


@pytest.mark.parametrize("form", ["declared", "undeclared"])
def test_the_manifest_lists_every_file_with_its_hash(registry, image, form):
    manifest, out = segment(registry, image, form, "legend.txt")
    assert names(out) == ["legend.txt", "mask.json", "mask.nii.gz", "mask.png"]
    assert json.loads((out / "mask.json").read_text())["format"] == 1
    for file in manifest["outputs"][0]["files"]:
        assert hashlib.sha256((out / file["file"]).read_bytes()).hexdigest() == file["sha256"]


def test_a_file_elsewhere_is_refused(registry, image):
    with pytest.raises(PluginError, match="files gave a wrong answer: expected mask.nii.gz and files beside it"):
        segment(registry, image, "elsewhere", "legend.txt")


def test_measurements_are_reserved_too(registry, image, tmp_path):
    _, out = segment(registry, image, "declared", "legend.txt")
    request = ExportRequest(
        masks=out / "mask.nii.gz",
        on=image,
        outputs=[f"declared={tmp_path}/new/a.nii.gz"],
        export_settings={"declared": {"second": "m.json"}},
        measurements=tmp_path / "new" / "." / "m.json",
    )
    with pytest.raises(UsageError, match=r"m.json would be written twice, by the declared output and by the measure"):
        export_masks(registry, request)
