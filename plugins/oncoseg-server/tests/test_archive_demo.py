"""The demonstration: the real scan, voxel by voxel, anonymous, ready for a viewer, and made once."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from fastapi import FastAPI
from fastapi.testclient import TestClient

from oncoseg_core import DatasetSpec, Registry, UsageError, load_plugins
from oncoseg_dicom import DEMONSTRATION_SERIES, DEMONSTRATION_STUDY, find_series, read_voxels
from oncoseg_dicomweb import PrivateFolders
from oncoseg_server.archives.demo import demo_archive
from oncoseg_server.archives.routes import dicomweb_router

REGISTRY = load_plugins()


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    private = PrivateFolders(tmp_path_factory.mktemp("private"))
    yield private
    private.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory, private):
    return demo_archive(REGISTRY, private, lambda *_: None, tmp_path_factory.mktemp("demo"))


def test_the_series_is_the_scan_voxel_by_voxel_at_its_place(store):
    samples = REGISTRY.build(DatasetSpec, "samples", {})
    folder = samples.fetch(lambda *_: None)
    image = sitk.ReadImage(str(folder / "lung2_image.nrrd"))
    (entry,) = store.series()
    assert (entry.study_uid, entry.series_uid, entry.modality, entry.instances) == (
        DEMONSTRATION_STUDY,
        DEMONSTRATION_SERIES,
        "CT",
        61,
    )
    with store.local(DEMONSTRATION_STUDY, DEMONSTRATION_SERIES) as files:
        series = find_series(files)
        voxels = read_voxels(series).voxels[0]
    assert not series.notes
    np.testing.assert_array_equal(voxels, sitk.GetArrayFromImage(image))
    for index in ((0, 0, 0), (511, 17, 60), (30, 400, 22)):
        place = series.geometry.index_to_lps(np.array([index], dtype=float))[0]
        np.testing.assert_allclose(place, image.TransformIndexToPhysicalPoint(index), atol=1e-5)


def test_nobody_is_named_and_it_says_so(store):
    for one in store.instances(DEMONSTRATION_STUDY, DEMONSTRATION_SERIES)[::20]:
        header = pydicom.dcmread(one.path, stop_before_pixels=True)
        assert header.PatientIdentityRemoved == "YES"
        assert (header.PatientID, header.PatientBirthDate) == ("ONCOSEG-DEMO", "")


def test_it_is_made_once_and_needs_no_samples_afterwards(store, private):
    before = {one.path: one.modified_ns for one in store.instances(DEMONSTRATION_STUDY, DEMONSTRATION_SERIES)}
    again = demo_archive(Registry(), private, lambda *_: None, store._root)
    assert {one.path: one.modified_ns for one in again.instances(DEMONSTRATION_STUDY, DEMONSTRATION_SERIES)} == before


def test_without_the_samples_it_says_what_to_install(private, tmp_path):
    with pytest.raises(UsageError, match="pip install oncoseg-datasets"):
        demo_archive(Registry(), private, lambda *_: None, tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


def test_a_viewer_gets_list_metadata_and_frames(store):
    app = FastAPI()
    app.include_router(dicomweb_router({"demo": store}))
    client = TestClient(app)
    root = "/dicom-web/demo/studies"
    # As OHIF 3.13.2 asks.
    (study,) = client.get(
        root, params={"limit": 101, "offset": 0, "fuzzymatching": "false", "includefield": "00081030,00080060"}
    ).json()
    assert study["00081030"]["Value"] == ["OncoSeg demonstration: lung tumour"]
    assert study["00080061"]["Value"] == ["CT"]
    (series,) = client.get(
        f"{root}/{DEMONSTRATION_STUDY}/series?includefield=00080021,00080031,0008103E,00200011"
    ).json()
    assert series["00201209"]["Value"] == [61]
    metadata = client.get(f"{root}/{DEMONSTRATION_STUDY}/series/{DEMONSTRATION_SERIES}/metadata").json()
    assert len(metadata) == 61
    one = store.instances(DEMONSTRATION_STUDY, DEMONSTRATION_SERIES)[22]
    shown = next(each for each in metadata if each["00080018"]["Value"] == [one.sop_uid])
    assert {"00200032", "00200037", "00280030", "00280010", "00281053", "00281050"} <= shown.keys()
    assert "7FE00010" not in shown
    frame = client.get(
        f"{root}/{DEMONSTRATION_STUDY}/series/{DEMONSTRATION_SERIES}/instances/{one.sop_uid}/frames/1",
        headers={"Accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"},
    )
    head, _, rest = frame.content.partition(b"\r\n\r\n")
    assert b"transfer-syntax=1.2.840.10008.1.2.1" in head
    pixels = np.frombuffer(rest[: 512 * 512 * 2], "<i2").reshape(512, 512)
    np.testing.assert_array_equal(pixels, pydicom.dcmread(one.path).pixel_array)
