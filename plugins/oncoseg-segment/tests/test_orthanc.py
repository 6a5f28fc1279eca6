"""An archive on this machine: a series, its RTSTRUCT and its SEG go in by C-STORE, and come out as they were.

Optional: it runs where the program ``Orthanc`` is installed (Debian and Ubuntu: ``apt-get install orthanc``).
"""

import json

import numpy as np
import pydicom
import pytest
from local_orthanc import ORTHANC, running_orthanc
from pynetdicom import AE

from oncoseg_core import ExporterSpec, Segmentation, load_plugins
from oncoseg_core.imaging.open_image import read_image, read_masks
from oncoseg_dicom.series.write_series import write_series

pytestmark = pytest.mark.skipif(ORTHANC is None, reason="the program Orthanc is not installed: apt-get install orthanc")

REGISTRY = load_plugins()
SHAPE = (5, 32, 28)
PLACES = [(-14.0, 30.5, z) for z in (0.0, 2.5, 5.0, 7.5, 12.5)]  # a slice is missing


class Archive:
    """A running Orthanc: stores by the DICOM network, gives files back by HTTP."""

    def __init__(self, orthanc):
        self.orthanc = orthanc

    def store(self, files):
        sender = AE(ae_title="ONCOSEG")
        datasets = [pydicom.dcmread(file) for file in files]
        for kind in {(data.SOPClassUID, data.file_meta.TransferSyntaxUID) for data in datasets}:
            sender.add_requested_context(*kind)
        association = sender.associate("127.0.0.1", self.orthanc.dicom_port, ae_title="ORTHANC")
        assert association.is_established
        try:
            statuses = {association.send_c_store(data).Status for data in datasets}
        finally:
            association.release()
        assert statuses == {0}

    def fetch(self, folder):
        folder.mkdir()
        for instance in json.loads(self.orthanc.get("/instances")):
            (folder / f"{instance}.dcm").write_bytes(self.orthanc.get(f"/instances/{instance}/file"))
        return sorted(folder.iterdir())


@pytest.fixture
def archive(tmp_path):
    with running_orthanc(tmp_path / "orthanc") as orthanc:
        yield Archive(orthanc)


def test_series_and_structures_come_back_as_they_were(archive, tmp_path):
    voxels = np.random.default_rng(0).integers(-1000, 2000, SHAPE).astype(np.int16)
    images = write_series(tmp_path / "series", voxels, PLACES, pixel_spacing=(0.8, 0.9))
    image = read_image(REGISTRY, tmp_path / "series")
    ball = np.linalg.norm((np.indices(SHAPE).T - [2, 15, 12]) / [1, 6, 8], axis=-1).T < 1
    hollow = ball.copy()
    hollow[:, 13:17, 10:14] = False
    masks = {"liver": ball, "liver tumour": hollow}  # they overlap, and one has a hole
    objects = []
    for format_ in ("rtstruct", "seg"):
        exporter = REGISTRY.build(ExporterSpec, format_, {"source": str(tmp_path / "series")})
        objects += exporter.export(Segmentation(masks, image.geometry), tmp_path / f"{format_}.dcm").files
    archive.store([*images, *objects])
    fetched = archive.fetch(tmp_path / "fetched")
    assert len(fetched) == len(images) + len(objects)

    sent = {pydicom.dcmread(file).SOPInstanceUID: pydicom.dcmread(file) for file in (*images, *objects)}
    by_modality = {}
    for file in fetched:
        found = pydicom.dcmread(file)
        original = sent[found.SOPInstanceUID]
        assert found == original
        if "PixelData" in original:
            assert found.PixelData == original.PixelData
        by_modality.setdefault(found.Modality, []).append(file)
    again = read_image(REGISTRY, tmp_path / "fetched")
    np.testing.assert_array_equal(again.voxels, image.voxels)
    assert again.geometry.distance_mm(image.geometry) == 0
    for modality in ("RTSTRUCT", "SEG"):
        (file,) = by_modality[modality]
        structures = read_masks(REGISTRY, file, again).masks
        assert structures.keys() == masks.keys()
        for name, mask in masks.items():
            np.testing.assert_array_equal(structures[name], mask, f"{name} of the {modality}")
