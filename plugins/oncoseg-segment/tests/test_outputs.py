"""Several outputs: all or none, nothing replaced unasked, and those that belong to one image must agree."""

import hashlib

import numpy as np
import pytest
from toy_series import components, write_series

from oncoseg_core import DataError, ExporterSpec, OncoSegError, Registry, Segmentation, StorageError, UsageError
from oncoseg_core.imaging.formats import read_volume
from oncoseg_core.imaging.open_image import read_image, recognise
from oncoseg_core.plugins.configuration import apply_overrides
from oncoseg_core.plugins.registry import Plugin, RegisteredComponent
from oncoseg_segment.files.outputs import (
    check_export_settings,
    export_segmentation,
    parse_output,
    prepare_exporters,
    require_free,
    staging,
)


@pytest.fixture
def registry():
    return Registry(components=components())


@pytest.fixture
def series(tmp_path):
    return write_series(tmp_path / "series", np.zeros((4, 20, 20), dtype=np.float32))


def masks():
    found = np.zeros((2, 4, 20, 20), dtype=bool)
    found[0, 1:3, 3:9, 3:9] = True
    found[1, 2:4, 6:12, 6:12] = True
    return {"one": found[0], "two": found[1]}


def export(registry, series, *outputs, settings=None, names=("one", "two"), image_settings=None):
    parsed = [parse_output(registry, output) for output in outputs]
    image = read_image(registry, series, settings=image_settings)
    exporters = prepare_exporters(registry, parsed, recognise(registry, series), image_settings or {}, settings or {})
    segmentation = Segmentation({name: masks()[name] for name in names}, image.geometry)
    with staging() as stage:
        jobs = [(output, exporter, segmentation) for output, exporter in zip(parsed, exporters, strict=True)]
        written = export_segmentation(stage, registry, jobs, image, image_settings or {})
        stage.commit()
    return written


def planned(*paths):
    return [(path, "the output") for path in paths]


def files(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_outputs_are_understood(registry):
    def told(text):
        output = parse_output(registry, text)
        return output.format, str(output.path), output.needs_source

    assert told("contours=a/b.dcm") == ("contours", "a/b.dcm", True)
    assert told("mask.NII.gz") == ("nifti", "mask.NII.gz", False)
    assert told("mask.mha") == ("mha", "mask.mha", False)
    assert told("./run=3.nrrd") == ("nrrd", "run=3.nrrd", False)
    spec = ExporterSpec(format="nifti", suffix=".nii.gz", factory="a:b", summary="test")
    registry.components.append(RegisteredComponent("oncoseg_exporters", spec, Plugin("test", "1")))
    assert told("mask.nii.gz") == ("nifti", "mask.nii.gz", False)
    assert told("mask.nii") == ("nifti", "mask.nii", False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.toy", "a.toy: several formats have that suffix; say which: `outputs` contours=a.toy or voxels=a.toy"),
        ("a.dcm", "a.dcm: a mask is written as one of .nii, .nii.gz, .nrrd, .mha, or as FORMAT=FILE .formats: contours, voxels"),
        ("contors=a.toy", "unknown exporter 'contors'; did you mean 'contours'"),
        ("run=3.nrrd", "unknown exporter 'run'"),
        ("contours=a.nii.gz", "a.nii.gz: has the suffix of another format; files of contours end in .toy"),
    ],
)  # fmt: skip
def test_outputs_that_are_not_understood(registry, text, message):
    with pytest.raises(UsageError, match=message):
        parse_output(registry, text)


def test_settings_of_outputs(registry):
    outputs = [parse_output(registry, text) for text in ("contours=a.toy", "b.nrrd")]
    check_export_settings({"contours": {"lose": 1, "broken": True}}, outputs)
    with pytest.raises(UsageError, match="no output is in that format; did you mean 'contours'"):
        check_export_settings({"contour": {"lose": 1}}, outputs)
    with pytest.raises(UsageError, match="`export_settings` contours=1: expected FORMAT.KEY=VALUE"):
        check_export_settings({"contours": 1}, outputs)


def test_everything_is_written_with_its_hash(registry, series, tmp_path):
    out = tmp_path / "out"
    written = export(registry, series, f"contours={out}/a.toy", f"voxels={out}/b.toy", image_settings={"series": "3"})
    assert files(out) == ["a.toy", "b.toy"]
    for one in written:
        assert one.notes == ("wrote 2",)
        assert one.sha256 == (hashlib.sha256(one.files[0].read_bytes()).hexdigest(),)


def test_a_label_image_cannot_hold_overlaps_and_says_what_can_be_done(registry, series, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(DataError, match="overlaps another one.*`overlaps` first or highest-score") as error:
        export(registry, series, f"contours={out}/a.toy", f"{out}/b.nrrd")
    assert "partial" not in str(error.value)
    assert not out.exists()
    export(registry, series, f"{out}/b.nrrd", names=["two"])
    assert read_volume(out / "b.nrrd", "label").voxels.sum() == masks()["two"].sum()


def test_all_or_none(registry, series, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(StorageError, match=f"cannot write {out}/b.toy: it is broken"):
        export(
            registry,
            series,
            f"contours={out}/a.toy",
            f"voxels={out}/b.toy",
            settings=apply_overrides({}, ["voxels.broken=true"]),
        )
    assert files(out) == []


def test_folders_that_were_made_for_nothing_go_and_no_others(registry, series, tmp_path):
    outer = tmp_path / "outer"
    outer.mkdir()
    with pytest.raises(StorageError, match="it is broken"):
        export(registry, series, f"contours={outer}/a/b/c.toy", settings=apply_overrides({}, ["contours.broken=true"]))
    assert outer.is_dir()
    assert not (outer / "a").exists()
    (tmp_path / "taken").touch()
    with pytest.raises(StorageError, match="cannot write .*taken/a.toy: a part of that path is a file"):
        export(registry, series, f"contours={tmp_path}/taken/a.toy")


def test_a_full_disk_is_told_with_the_place_that_the_file_would_have(tmp_path, monkeypatch):
    def full(path, _):
        raise StorageError(f"cannot write {path}: the disk is full")

    monkeypatch.setattr("oncoseg_segment.files.outputs.atomic_write", full)
    with staging() as stage, pytest.raises(StorageError, match=f"cannot write {tmp_path}/m.json: the disk is full"):
        stage.write(tmp_path / "m.json", "{}")


def test_an_older_file_stays_where_the_export_fails(registry, series, tmp_path):
    out = tmp_path / "out"
    export(registry, series, f"contours={out}/a.toy", names=["one"])
    before = (out / "a.toy").read_bytes()
    with pytest.raises(StorageError, match="it is broken"):
        export(
            registry,
            series,
            f"contours={out}/a.toy",
            f"voxels={out}/b.toy",
            settings=apply_overrides({}, ["voxels.broken=true"]),
        )
    assert files(out) == ["a.toy"]
    assert (out / "a.toy").read_bytes() == before


def test_a_place_that_fails_in_the_end_takes_the_new_ones_with_it(registry, series, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "c.nrrd").write_text("older")
    with staging() as stage:
        for name in ("a.toy", "c.nrrd", "b.toy"):
            stage.path(out / name).write_text("new")
        (out / "b.toy").mkdir()
        with pytest.raises(StorageError, match="that is a folder"):
            stage.commit()
    assert files(out) == ["b.toy", "c.nrrd"]


def test_formats_that_do_not_agree_are_refused(registry, series, tmp_path):
    out = tmp_path / "out"
    both = [f"contours={out}/a.toy", f"voxels={out}/b.toy"]
    with pytest.raises(StorageError, match=f"{out}/b.toy: structure 'one' differs by 2 voxels when it is read back"):
        export(registry, series, *both, settings=apply_overrides({}, ["voxels.lose=2"]))
    assert files(out) == []


def test_a_format_that_needs_a_series_refuses_another_image(registry, tmp_path):
    output, image = parse_output(registry, "contours=a.toy"), tmp_path / "scan.nrrd"
    image.touch()
    with pytest.raises(UsageError, match="contours belongs to the series that was segmented, and the image is none"):
        prepare_exporters(registry, [output], recognise(registry, image), {}, {})


def test_wrong_settings_are_refused_before_anything_is_done(registry, series):
    output = [parse_output(registry, "contours=a.toy")]
    with pytest.raises(OncoSegError, match="settings of exporter 'contours': unknown key 'los'; did you mean 'lose'"):
        prepare_exporters(registry, output, recognise(registry, series), {}, {"contours": {"los": 1}})


def test_nothing_is_replaced_unasked(tmp_path):
    image, old = tmp_path / "scan.png", tmp_path / "old.nrrd"
    image.touch()
    old.touch()
    require_free(planned(tmp_path / "new.nrrd"), [image], overwrite=False)
    with pytest.raises(UsageError, match="old.nrrd exists; give another name, or `overwrite`"):
        require_free(planned(old), [image], overwrite=False)
    require_free(planned(old), [image], overwrite=True)
    with pytest.raises(UsageError, match="is the image itself"):
        require_free(planned(tmp_path / "sub" / ".." / "scan.png"), [image], overwrite=True)
    with pytest.raises(UsageError, match="would be written twice"):
        require_free(planned(tmp_path / "a.nrrd", tmp_path / "." / "a.nrrd"), [image], overwrite=True)
    with pytest.raises(UsageError, match="is a folder; give a file name"):
        require_free(planned(tmp_path), [image], overwrite=True)


def test_no_file_of_a_folder_that_is_read_is_ever_replaced(tmp_path):
    """``--overwrite`` with an output named like a slice would destroy the slice."""
    folder = tmp_path / "CT"
    folder.mkdir()
    (folder / "image0003.dcm").touch()
    with pytest.raises(UsageError, match="image0003.dcm is in the folder that is read, and may be one of its images"):
        require_free(planned(tmp_path / "x" / ".." / "CT" / "image0003.dcm"), [folder], overwrite=True)
    require_free(planned(folder / "rs.dcm", tmp_path / "image0003.dcm"), [folder], overwrite=True)


@pytest.mark.parametrize("name", ["mask.nii", "mask.nii.gz", "mask.mha"])
def test_every_label_image_comes_with_its_numbers(registry, series, tmp_path, name):
    (written,) = export(registry, series, str(tmp_path / name), names=("two",))
    assert written.notes == ("the label image's numbers: 1 is 'two'",)
