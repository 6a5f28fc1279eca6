"""Saving over HTTP: what the viewer sees is what comes back from the source, voxel by voxel."""

import numpy as np
import pytest
from pydicom import dcmread
from toy_engine import registry_of

from oncoseg_client import decode_mask
from oncoseg_core import Registry, load_plugins
from oncoseg_dicom import find_series, read_segments


@pytest.fixture
def registry():
    """The toy model among all that is installed: the exporters are real."""
    registry: Registry = registry_of()
    registry.components += load_plugins().components
    return registry


def test_saved_objects_are_listed_and_hold_the_masks(open_session, client, scan):
    session = open_session()
    session.box("tumour")
    session.box("node", (50, 30, 62, 52), 4)
    reply = session.post("/save", {"label": "Reviewed"})
    assert reply.status_code == 201, reply.text
    objects = {one["format"]: one for one in reply.json()["objects"]}
    assert set(objects) == {"seg", "rtstruct", "sr"}
    assert reply.json()["timing_ms"]["total"] > 0
    listed = client.get(f"/api/v1/sources/scans/series?study={scan.study}").json()
    found = {one["modality"]: one["series_uid"] for one in listed}
    assert found == {"CT": scan.series, "SEG": objects["seg"]["series_uid"], "RTSTRUCT": objects["rtstruct"]["series_uid"],
                     "SR": objects["sr"]["series_uid"]}  # fmt: skip
    (file,) = (path for path in scan.folder.parent.rglob("*.dcm") if objects["seg"]["sop_uid"] in path.name)
    structures = read_segments(dcmread(file), find_series(scan.folder, f"uid:{scan.series}"))
    for change in session.get().json()["changes"]:
        part = change["mask"]
        mask = np.zeros((128, 128), bool)
        mask[part["y"] : part["y"] + part["height"], part["x"] : part["x"] + part["width"]] = decode_mask(part)
        assert (structures.masks[change["structure"]][change["slice"]] == mask).all()
    assert set(structures.masks) == {"tumour", "node"}


def test_nothing_is_not_saved(open_session):
    reply = open_session().post("/save", {})
    assert (reply.status_code, reply.json()["code"]) == (422, "prompt_refused")
    assert "prompt one first" in reply.json()["message"]


def test_an_sr_without_its_seg_is_refused(open_session):
    session = open_session()
    session.box()
    reply = session.post("/save", {"formats": ["sr"]})
    assert (reply.status_code, reply.json()["code"]) == (422, "prompt_refused")


def test_a_session_goes_on_after_saving(open_session):
    session = open_session()
    session.box("tumour")
    session.post("/save", {"formats": ["seg"]})
    assert session.post("/undo").json()["structures"] == []
    assert session.post("/redo").status_code == 200
    again = session.post("/save", {"formats": ["seg"]}).json()["objects"][0]
    assert any("none was replaced" in note for note in again["notes"])
