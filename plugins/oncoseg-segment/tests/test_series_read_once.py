"""A DICOM series is recognised once and its headers are parsed once, however many outputs belong to it."""

import os
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from oncoseg_core import (
    Decoded,
    Exporter,
    ExporterSpec,
    ExportReport,
    ImageReadError,
    LoraSpec,
    ModelSpec,
    PromptableModel,
    Segmentation,
    Settings,
    load_plugins,
)
from oncoseg_core.imaging import read_image, read_masks, write_segmentation
from oncoseg_core.plugins.registry import Plugin, RegisteredComponent
from oncoseg_dicom import RTStructExporter, RTStructSettings, SegExporter, SegSettings, find_series, write_series
from oncoseg_dicom.reader import DicomReader
from oncoseg_dicom.series.files import FileOpener
from oncoseg_dicom.series.search import TAGS
from oncoseg_segment.cli.prompt_options import PromptOptions
from oncoseg_segment.engine.settings import SegmentSettings
from oncoseg_segment.files.export_masks import ExportRequest, export_masks
from oncoseg_segment.files.run import SegmentRequest, segment_file

SHAPE = (5, 64, 64)
BOTH = ("rtstruct=rs.dcm", "seg=seg.dcm")


class BrightModel(nn.Module, PromptableModel):
    """Whatever is bright, wherever the box is."""

    spec = ModelSpec(
        name="bright-slices", factory="tests:None", summary="test", prompt_kinds=("box",), input_size=64,
        lora=LoraSpec(targets=("qkv",)), weights="none",
    )  # fmt: skip
    weights_sha256 = "random:0"

    def __init__(self):
        nn.Module.__init__(self)
        PromptableModel.__init__(self)

    def encode_image(self, pixels):
        return pixels[:, 0]

    def decode(self, embedding, prompts):
        return Decoded(embedding - 0.5, torch.full((len(prompts),), 0.8))


@pytest.fixture
def registry(monkeypatch):
    registry = load_plugins()
    registry.components.append(RegisteredComponent("oncoseg_models", BrightModel.spec, Plugin("test", "1")))
    build = registry.build
    monkeypatch.setattr(
        registry,
        "build",
        lambda record, name, *rest: BrightModel() if record is ModelSpec else build(record, name, *rest),
        raising=False,
    )
    return registry


@pytest.fixture
def series(tmp_path):
    voxels = np.full(SHAPE, -1000, dtype=np.int16)
    voxels[mask()] = 1000
    write_series(tmp_path / "ct", voxels, [(0, 0, 3 * index) for index in range(SHAPE[0])])
    return tmp_path / "ct"


def mask():
    inside = np.zeros(SHAPE, dtype=bool)
    inside[1:4, 20:40, 10:50] = True
    return inside


@pytest.fixture
def passes(series, monkeypatch):
    """How often the series' folder is recognised, and how often each of its files is read, and for what."""
    counted = Counter()
    recognises, dataset = DicomReader.recognises, FileOpener.dataset

    def count_recognitions(self, path):
        counted["recognised"] += path == series
        return recognises(self, path)

    def count_files(self, file, tags=None, *, pixels=False, secrets=()):
        if file.path.parent == series:
            counted["pixels" if pixels else "headers" if tags is TAGS else "first header"] += 1
        return dataset(self, file, tags, pixels=pixels, secrets=secrets)

    monkeypatch.setattr(DicomReader, "recognises", count_recognitions)
    monkeypatch.setattr(FileOpener, "dataset", count_files)
    return counted


ONE_PASS = {"recognised": 1, "headers": SHAPE[0], "first header": 1, "pixels": SHAPE[0]}


@pytest.mark.parametrize("outputs", [BOTH[:1], BOTH])
def test_export_reads_the_series_once(registry, series, passes, tmp_path, outputs):
    write_segmentation(Segmentation({"tumour": mask()}, find_series(series).geometry), tmp_path / "mask.nii.gz")
    passes.clear()
    named = [output.replace("=", f"={tmp_path}/out/") for output in outputs]
    export_masks(registry, ExportRequest(tmp_path / "mask.nii.gz", series, named, names={"1": "tumour"}))
    assert passes == ONE_PASS
    for output in outputs:
        passes.clear()
        other = ExportRequest(tmp_path / "out" / output.partition("=")[2], series, [f"{tmp_path}/out/back.nrrd"])
        export_masks(registry, replace(other, overwrite=True))
        assert passes == ONE_PASS


def test_segment_reads_the_series_once(registry, series, passes, tmp_path):
    request = SegmentRequest(
        image=series,
        structures=[PromptOptions(boxes=["8,18,52,42"], slice_index=2, target="tumour").structure()],
        settings=SegmentSettings(model="bright-slices", zoom=None),
        outputs=[output.replace("=", f"={tmp_path}/out/") for output in BOTH],
    )
    segment_file(registry, request)
    assert passes == ONE_PASS
    image = read_image(registry, series)
    found = [read_masks(registry, tmp_path / "out" / name, image).masks["tumour"] for name in ("rs.dcm", "seg.dcm")]
    np.testing.assert_array_equal(found[0], found[1])
    assert found[0].sum() == 20 * 40


@pytest.mark.parametrize("exporter", [RTStructExporter, SegExporter])
def test_an_exporter_finds_the_series_itself_where_no_handle_is_passed(series, passes, tmp_path, exporter):
    settings = {RTStructExporter: RTStructSettings, SegExporter: SegSettings}[exporter](source=series)
    segmentation = Segmentation({"tumour": mask()}, find_series(series).geometry, {}, {"model": "test"})
    for handle in (None, "of another format"):
        passes.clear()
        exporter(settings).export(replace(segmentation, image_handle=handle), tmp_path / "out.dcm")
        assert passes["headers"] == SHAPE[0]


def test_the_handle_of_another_series_is_not_used(registry, series, tmp_path):
    write_series(tmp_path / "other", np.zeros(SHAPE, np.int16), [(0, 0, 4 * index) for index in range(SHAPE[0])])
    image = read_image(registry, tmp_path / "other")
    segmentation = Segmentation({"tumour": mask()}, find_series(series).geometry, image_handle=image.handle)
    RTStructExporter(RTStructSettings(source=series)).export(segmentation, tmp_path / "rs.dcm")
    assert read_masks(registry, tmp_path / "rs.dcm", read_image(registry, series)).masks["tumour"].sum() == mask().sum()


def test_a_series_that_changed_after_it_was_read_is_refused(registry, series, tmp_path):
    image = read_image(registry, series)
    segmentation = Segmentation({"tumour": mask()}, image.geometry, image_handle=image.handle)
    exporter = RTStructExporter(RTStructSettings(source=series))
    exporter.export(segmentation, tmp_path / "rs.dcm")
    first, second, *_ = sorted(series.iterdir())
    status = first.stat()
    os.utime(first, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    second.unlink()
    message = "2 of the 5 files of the series changed on disk after the series was read"
    with pytest.raises(ImageReadError, match=message):
        exporter.export(segmentation, tmp_path / "again.dcm")
    with pytest.raises(ImageReadError, match=message):
        read_masks(registry, tmp_path / "rs.dcm", image)
    assert not (tmp_path / "again.dcm").exists()


def test_an_exporter_that_knows_only_the_source_still_works(registry, series, passes, tmp_path):
    class SourceSettings(Settings):
        source: str

    class NameExporter(Exporter):
        Settings = SourceSettings

        def export(self, segmentation, destination):
            destination.write_text(self.settings.source)
            return ExportReport((destination,))

    spec = ExporterSpec(format="name", suffix=".name", needs_source=True, factory="tests:None", summary="test")
    registry.components.append(RegisteredComponent("oncoseg_exporters", spec, Plugin("test", "1")))
    build = registry.build
    registry.build = lambda record, name, *rest: (
        NameExporter(SourceSettings(source=str(rest[0]["source"]))) if name == "name" else build(record, name, *rest)
    )
    write_segmentation(Segmentation({"tumour": mask()}, find_series(series).geometry), tmp_path / "mask.nii.gz")
    passes.clear()
    export_masks(registry, ExportRequest(tmp_path / "mask.nii.gz", series, [f"name={tmp_path}/a.name"]))
    assert (tmp_path / "a.name").read_text() == str(series)
    assert passes == ONE_PASS


def test_the_handle_tells_nothing_of_the_patient(series, registry):
    image = read_image(registry, series)
    assert image.handle is not None
    for text in (repr(image), repr(image.handle)):
        assert "Phantom" not in text
