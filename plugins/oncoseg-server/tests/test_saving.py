"""A real scan, the real model: what is saved reads back voxel by voxel, whatever the archive, or is not called saved."""

import errno
import shutil
import subprocess
import sys
from functools import partial
from io import BytesIO
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from local_orthanc import DICOMWEB_PLUGIN, ORTHANC, running_orthanc
from pydantic import ValidationError

from oncoseg_core import StorageError, UsageError, load_plugins
from oncoseg_core.imaging import read_image
from oncoseg_dicom import DEMONSTRATION_SERIES, DEMONSTRATION_STUDY, find_series, read_segments, read_structures
from oncoseg_dicomweb import ArchiveError, DicomwebArchive, PrivateFolders, compare_stored
from oncoseg_segment import api
from oncoseg_server.archives.demo import demo_archive
from oncoseg_server.archives.folder import FolderArchive
from oncoseg_server.saving import save as saving
from oncoseg_server.wire import SaveRequest

SLICE, BOX = 22, (319, 332, 22, 395, 401, 24)
"""Where lung2's label is largest: that slice and the next, and 2 pixels around it."""

REGISTRY = load_plugins()


def program(name, *arguments):
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found, f"{name} is missing: pip install -r requirements-dev.txt"
    done = subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """The demonstration's folder, with the scan alone; copied for tests that save to it."""
    folder = tmp_path_factory.mktemp("demo")
    private = PrivateFolders(tmp_path_factory.mktemp("private"))
    demo_archive(REGISTRY, private, lambda *_: None, folder / "store")
    yield folder / "store"
    private.close()


@pytest.fixture(scope="module")
def result(scan):
    """Two structures, of which one lies within the other; the second is on one slice alone."""
    volume = read_image(REGISTRY, scan)
    tumour = api.StructureRequest("lung tumour", (api.Hint("box", BOX),))
    with api.Session(volume, api.SegmentSettings(model="litemedsam"), registry=REGISTRY) as session:
        session.prompt(tumour)
        return session.prompt(api.StructureRequest("core", (api.Hint("box", (335, 350, 380, 390)),), slice_index=SLICE))


@pytest.fixture
def private(tmp_path):
    private = PrivateFolders(tmp_path / "private")
    yield private
    private.close()


@pytest.fixture
def folder(scan, tmp_path, private):
    shutil.copytree(scan, tmp_path / "store")
    return FolderArchive("demo", tmp_path / "store", private)


def save(archive, result, private, **request):
    return saving.save(archive, result, DEMONSTRATION_STUDY, DEMONSTRATION_SERIES, SaveRequest(**request), private)


def require_same(archive, saved, result, tmp_path):
    """What the archive holds are the masks, by our own readers; nothing is approved; dciodvfy has nothing against it."""
    with archive.local(DEMONSTRATION_STUDY, DEMONSTRATION_SERIES) as images:
        series = find_series(images)
        for one in saved:
            content = archive.retrieve(DEMONSTRATION_STUDY, one.series_uid, one.sop_uid)
            data = pydicom.dcmread(BytesIO(content))
            assert data.StudyInstanceUID == DEMONSTRATION_STUDY
            assert data.PatientID == "ONCOSEG-DEMO"
            (tmp_path / "object.dcm").write_bytes(content)
            assert "Error" not in program("dciodvfy", tmp_path / "object.dcm")
            if one.format == "sr":
                assert (data.CompletionFlag, data.VerificationFlag) == ("PARTIAL", "UNVERIFIED")
                continue
            read = (read_segments if one.format == "seg" else read_structures)(data, series)
            assert read.masks.keys() == result.masks.keys()
            for name, mask in result.masks.items():
                np.testing.assert_array_equal(read.masks[name], mask, f"{name} of the {one.format}")
            if one.format == "rtstruct":
                assert data.ApprovalStatus == "UNAPPROVED"


def test_a_folder_gives_back_what_was_saved_and_a_second_time_is_a_second_series(folder, result, private, tmp_path):
    first = save(folder, result, private, label="First look")
    assert [one.format for one in first] == ["seg", "rtstruct", "sr"]
    assert not any(note for one in first for note in one.notes)
    require_same(folder, first, result, tmp_path)
    second = save(folder, result, private, label="First look")
    assert not {one.sop_uid for one in first} & {one.sop_uid for one in second}
    assert not {one.series_uid for one in first} & {one.series_uid for one in second}
    for one in second:
        assert any("had 1" in note and "none was replaced" in note for note in one.notes)
    require_same(folder, first, result, tmp_path)
    names = {path.name for path in (tmp_path / "store" / "oncoseg").rglob("*") if path.is_file()}
    assert names == {f"{one.sop_uid}.dcm" for one in (*first, *second)}
    assert not any((tmp_path / "private").rglob("*.dcm"))


@pytest.mark.skipif(
    ORTHANC is None or not DICOMWEB_PLUGIN.exists(),
    reason="Orthanc with DICOMweb is not installed: apt-get install orthanc orthanc-dicomweb",
)
def test_a_pacs_gives_back_what_was_saved(scan, result, private, tmp_path):
    with running_orthanc(tmp_path / "orthanc", dicomweb=True) as orthanc:
        archive = DicomwebArchive("pacs", orthanc.dicomweb, private)
        archive.store(sorted(scan.rglob("*.dcm")))
        saved = save(archive, result, private)
        require_same(archive, saved, result, tmp_path)
        assert {one.modality for one in archive.series(DEMONSTRATION_STUDY)} == {"CT", "SEG", "RTSTRUCT", "SR"}
        archive.close()


def test_the_report_has_the_measurements_of_the_engine_and_refers_to_the_segments(folder, result, private, tmp_path):
    saved = {one.format: one for one in save(folder, result, private)}
    seg, report = (
        pydicom.dcmread(BytesIO(folder.retrieve(DEMONSTRATION_STUDY, saved[one].series_uid, saved[one].sop_uid)))
        for one in ("seg", "sr")
    )
    (tmp_path / "sr.dcm").write_bytes(folder.retrieve(DEMONSTRATION_STUDY, saved["sr"].series_uid, saved["sr"].sop_uid))
    dump = program("dsrdump", tmp_path / "sr.dcm")
    for name, measured in result.measurements.items():
        assert dump.count(f'"{name}"') == 2  # the segment's group and that of its diameters
        for line in (measured.diameters.longest, measured.diameters.perpendicular):
            assert f"{line.mm:.12f}"[:9] in dump
    groups = highdicom.sr.srread(tmp_path / "sr.dcm").content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == list(result.masks)
    for group, (name, mask) in zip(groups, result.masks.items(), strict=True):
        values = {str(one.name.meaning): one.value for one in group.get_measurements()}
        measured = result.measurements[name]
        on_slice = np.count_nonzero(mask[measured.diameters.slice])
        assert values.pop("Area") == pytest.approx(on_slice * 0.62695313**2, rel=1e-5)
        assert values.pop("Attenuation Coefficient") == pytest.approx(measured.intensities[0].mean)
        assert (np.count_nonzero(mask.any(axis=(1, 2))) > 1) == ("Volume" in values)
        assert values.pop("Volume", measured.volume_ml) == pytest.approx(measured.volume_ml)
        assert not values
    assert result.model.weights_sha256 in report.to_json()
    assert seg.SOPInstanceUID in report.to_json()


class Other:
    """An archive that fails as it is told, and otherwise is a folder."""

    def __init__(self, folder, **failing):
        self._folder, self.name = folder, folder.name
        self._failing = failing

    def __getattr__(self, name):
        return self._failing.get(name) or getattr(self._folder, name)


def test_what_the_archive_refuses_is_not_saved_and_says_that_nothing_reached_it(folder, result, private, tmp_path):
    def refuse(files):
        raise ArchiveError("not_stored", "source 'demo': is out of room")

    with pytest.raises(ArchiveError, match="out of room; nothing is saved, and nothing of it reached") as refused:
        save(Other(folder, store=refuse), result, private)
    assert refused.value.problem == "not_stored"
    assert not any((tmp_path / "private").rglob("*.dcm"))


def test_an_archive_that_lists_a_little_later_is_waited_for_and_no_longer(folder, result, private, monkeypatch):
    monkeypatch.setattr(saving, "compare_stored", partial(compare_stored, waits=(0.01, 0.01)))
    times = []

    def late(study, series, sop):
        times.append(sop)
        if times.count(sop) <= most:
            raise ArchiveError("not_found", "source 'demo': not yet")
        return folder.retrieve(study, series, sop)

    most = 2
    assert len(save(Other(folder, retrieve=late), result, private)) == 3
    most = 3
    with pytest.raises(ArchiveError, match="the SEG was sent and is not given back .source 'demo': not yet"):
        save(Other(folder, retrieve=late), result, private)


def test_what_reached_the_archive_before_it_broke_is_named(folder, result, private):
    def break_off(files):
        folder.store(files[:1])
        raise ArchiveError("unreachable", "source 'demo': the connection broke; try again")

    with pytest.raises(ArchiveError, match="nothing counts as saved; SEG 'Half' reached the archive: delete") as broken:
        save(Other(folder, store=break_off), result, private, label="Half")
    assert broken.value.problem == "unreachable"


def test_an_archive_that_changes_a_voxel_a_contour_or_a_length_is_caught(folder, result, private):
    def change(modality, edit):
        def retrieve(study, series, sop):
            data = pydicom.dcmread(BytesIO(folder.retrieve(study, series, sop)))
            if data.Modality == modality:
                edit(data)
            changed = BytesIO()
            data.save_as(changed)
            return changed.getvalue()

        return retrieve

    def flip(data):
        data.PixelData = bytes([data.PixelData[0] ^ 1]) + data.PixelData[1:]

    def move(data):
        contour = data.ROIContourSequence[0].ContourSequence[0]
        contour.ContourData = [float(contour.ContourData[0]) + 0.01, *contour.ContourData[1:]]

    def lose(data):
        del data.ContentSequence[-1].ContentSequence[-1]

    def encode_anew(data):  # which loses nothing
        data.SpecificCharacterSet = "ISO_IR 100"
        data.file_meta.SourceApplicationEntityTitle = "PACS"
        data.InstanceAvailability = "ONLINE"

    for modality, edit, where in (
        ("SEG", flip, "SEG back changed .PixelData."),
        ("RTSTRUCT", move, "RTSTRUCT back changed .ROIContourSequence/ContourSequence/ContourData."),
        ("SR", lose, "SR back changed .ContentSequence/ContentSequence."),
    ):
        with pytest.raises(ArchiveError, match=f"{where}; nothing counts as saved; SEG ") as changed:
            save(Other(folder, retrieve=change(modality, edit)), result, private)
        assert changed.value.problem == "not_stored"
    for modality in ("SEG", "RTSTRUCT", "SR"):
        assert save(Other(folder, retrieve=change(modality, encode_anew)), result, private)


def test_a_full_disk_is_a_full_disk_and_leaves_nothing(folder, result, private, tmp_path, monkeypatch):
    from oncoseg_server.archives import folder as module

    copies = []

    def full(source, target):
        copies.append(target)
        if len(copies) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return copy(source, target)

    copy = shutil.copyfileobj
    monkeypatch.setattr(module.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="disk is full") as failed:
        save(folder, result, private)
    assert failed.value.errno == errno.ENOSPC
    assert len(copies) == 3
    assert not [path for path in (tmp_path / "store" / "oncoseg").rglob("*") if path.is_file()]
    assert not any((tmp_path / "private").rglob("*.dcm"))


def test_a_disk_that_is_full_while_the_objects_are_written_is_told_as_such(folder, result, private, monkeypatch):
    def full(*_, **__):
        raise StorageError("cannot write seg.dcm: the disk is full") from OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(saving.api, "export", full)
    with pytest.raises(OSError, match="cannot write seg.dcm") as failed:
        save(folder, result, private)
    assert failed.value.errno == errno.ENOSPC


@pytest.mark.parametrize("label", ["", " ", "a\\b", "a\nb", "\x00", "\u0085a", "x" * 17])
def test_labels_that_dicom_has_no_room_for(label):
    with pytest.raises(ValidationError):
        SaveRequest(label=label)


def test_a_label_of_any_language_is_written(folder, result, private, tmp_path):
    saved = save(folder, result, private, label="Größe 肿瘤")
    require_same(folder, saved, result, tmp_path)
    assert {entry.description for entry in folder.series(DEMONSTRATION_STUDY) if entry.modality in {"SEG", "SR"}} == {
        "Größe 肿瘤"
    }


def test_a_report_needs_its_segments_and_a_series_its_own_result(folder, result, private):
    with pytest.raises(UsageError, match="add seg"):
        save(folder, result, private, formats=["sr"])
    assert [one.format for one in save(folder, result, private, formats=["rtstruct"])] == ["rtstruct"]
    with pytest.raises(UsageError, match="another study"):
        saving.save(folder, result, "1.2.3", DEMONSTRATION_SERIES, SaveRequest(formats=["seg"]), private)
