"""A real archive and a real scan: the structure set arrives beside its CT, and other people's programs read it exactly.

Orthanc is stored to by C-STORE and by DICOMweb, asked by C-FIND and C-GET, and commits itself by an association of its
own. The scan is lung2 of the samples, 16 slices of it; the tumour is its label, the lung a threshold.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from local_orthanc import DICOMWEB_PLUGIN, ORTHANC, free_port, running_orthanc
from node_job import FRAME, SERIES, STUDY, node_job
from pydicom.uid import CTImageStorage
from pynetdicom import AE

from oncoseg_datasets.plugin import SAMPLES
from oncoseg_datasets.sources.samples import SamplesAdapter
from oncoseg_dicom import write_series
from oncoseg_dicomweb import DicomwebArchive, PrivateFolders
from oncoseg_node.config.settings import DicomDestination, DicomwebDestination
from oncoseg_node.sending import accept_commitment_reports, confirm, send
from oncoseg_node.writing import write

pytestmark = pytest.mark.skipif(
    ORTHANC is None or not DICOMWEB_PLUGIN.exists(),
    reason="Orthanc with DICOMweb is not installed: apt-get install orthanc orthanc-dicomweb",
)

SLICES = slice(14, 30)
"""Where lung2's tumour is."""

FORMATS = ("rtstruct", "seg")


def program(name, *arguments):
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found, f"{name} is missing: pip install -r requirements-dev.txt"
    done = subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    samples = SamplesAdapter(SamplesAdapter.Settings(sources=("pyradiomics",)), spec=SAMPLES).fetch(lambda *_: None)
    image = sitk.ReadImage(str(samples / "lung2_image.nrrd"))
    voxels = sitk.GetArrayFromImage(image)[SLICES].astype(np.int16)
    tumour = sitk.GetArrayFromImage(sitk.ReadImage(str(samples / "lung2_label.nrrd")))[SLICES] > 0
    column_mm, row_mm, slice_mm = image.GetSpacing()
    x, y, z = image.GetOrigin()
    origins = [(round(x, 6), round(y, 6), round(z + slice_mm * index, 6)) for index in range(*SLICES.indices(1000))]
    attributes = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": SERIES, "FrameOfReferenceUID": FRAME}
    write_series(folder / "ct", voxels, origins, pixel_spacing=(row_mm, column_mm), attributes=attributes)
    return node_job(folder, images=folder / "ct", masks={"Lung": lung(voxels), "GTVp": tumour})


def lung(voxels):
    """Air that does not reach the picture's edge: with vessels as holes, and many small islands."""
    parts = sitk.ConnectedComponent(sitk.GetImageFromArray((voxels < -500).astype(np.uint8)))
    labels = sitk.GetArrayFromImage(parts)
    outside = np.unique(np.concatenate([labels[:, 0].ravel(), labels[:, -1].ravel(), labels[:, :, 0].ravel()]))
    return (labels > 0) & ~np.isin(labels, outside)


@pytest.fixture(scope="module")
def commitments(tmp_path_factory):
    """The folder and the port of an SCP that takes reports, as the node's does."""
    folder = tmp_path_factory.mktemp("commitments")
    entity = AE(ae_title="ONCOSEG")
    handler = accept_commitment_reports(entity, folder)
    port = free_port()
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[handler])
    yield folder, port
    server.shutdown()


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory, commitments, job):
    """With the CT in it."""
    modalities = {"node": {"AET": "ONCOSEG", "Host": "127.0.0.1", "Port": commitments[1]}}
    folder = tmp_path_factory.mktemp("orthanc")
    with running_orthanc(folder, dicomweb=True, DicomModalities=modalities) as server:
        entity = AE(ae_title="SCANNER")
        entity.add_requested_context(CTImageStorage)
        association = entity.associate("127.0.0.1", server.dicom_port, ae_title="ORTHANC")
        for file in sorted((job.series.source).iterdir()):
            assert association.send_c_store(file).Status == 0
        association.release()
        yield server


def at(orthanc, **more):
    return DicomDestination(
        kind="dicom", host="127.0.0.1", port=orthanc.dicom_port, ae_title="ORTHANC", formats=FORMATS, **more
    )


@pytest.fixture(scope="module")
def sent(job, orthanc):
    """The objects, after they were sent by C-STORE."""
    objects = write(*job.arguments)
    assert [(one.status, one.how) for one in send(objects, "orthanc", at(orthanc))] == [("stored", "C-STORE")] * 2
    return objects


@pytest.fixture(scope="module")
def fetched(sent, orthanc, tmp_path_factory):
    """The files as the archive gives them, by format."""
    private = PrivateFolders(tmp_path_factory.mktemp("private"))
    archive = DicomwebArchive("orthanc", orthanc.dicomweb, private)
    files = {}
    for one in sent:
        files[one.format] = tmp_path_factory.mktemp("fetched") / f"{one.format}.dcm"
        files[one.format].write_bytes(archive.retrieve(one.study_uid, one.series_uid, one.sop_uid))
    assert {entry.modality for entry in archive.series(STUDY)} == {"CT", "RTSTRUCT", "SEG"}
    archive.close()
    private.close()
    return files


def test_it_is_proven_by_query_and_by_reading_it_back(sent, orthanc):
    for one in confirm(sent, "orthanc", at(orthanc)):
        assert (one.status, one.how) == ("confirmed", "query and read back (C-FIND, C-GET), equal")


def test_it_commits_itself_by_an_association_of_its_own(sent, orthanc, commitments):
    destination = at(orthanc, confirm="commitment", silent_seconds=10)
    for one in confirm(sent, "orthanc", destination, commitments=commitments[0]):
        assert (one.status, one.how) == ("confirmed", "storage commitment")


def test_dicomweb_finds_it_there_and_has_the_same(sent, orthanc):
    web = DicomwebDestination(kind="dicomweb", url=orthanc.dicomweb, formats=FORMATS)
    assert {one.how for one in send(sent, "web", web)} == {"already there and equal"}
    assert {one.how for one in confirm(sent, "web", web)} == {"read back by DICOMweb and equal"}


def test_sent_again_there_is_one_of_each(sent, orthanc):
    assert {one.how for one in send(sent, "orthanc", at(orthanc))} == {"already there and equal"}
    assert orthanc.get("/instances").count(b'"') == 2 * (16 + 2)


def test_the_standard_is_kept(fetched):
    for file in fetched.values():
        said = program("dciodvfy", file)
        assert "RTStructureSet" in said or "Segmentation" in said
        assert [line for line in said.splitlines() if "rror" in line] == []


def test_plastimatch_reads_every_voxel(fetched, job, tmp_path):
    program(
        "plastimatch", "convert", "--input", fetched["rtstruct"], "--referenced-ct", job.series.source,
        "--output-prefix", tmp_path / "read", "--prefix-format", "nrrd",
    )  # fmt: skip
    for name, mask in job.masks.items():
        image = sitk.ReadImage(str(tmp_path / "read" / f"{name}.nrrd"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image) != 0, mask, name)


def test_dcmqi_reads_every_voxel(fetched, job, tmp_path):
    program("segimage2itkimage", "--inputDICOM", fetched["seg"], "--outputDirectory", tmp_path, "-t", "nrrd")
    for number, mask in enumerate(job.masks.values(), start=1):
        image = sitk.ReadImage(str(tmp_path / f"{number}.nrrd"))
        steps = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
        held = np.argwhere(sitk.GetArrayViewFromImage(image) != 0)[:, ::-1]
        index = job.series.geometry.lps_to_index(np.array(image.GetOrigin()) + held @ steps.T)
        assert np.abs(index - np.rint(index)).max() < 0.01
        np.testing.assert_array_equal(np.rint(index)[:, ::-1], np.argwhere(mask))


def test_highdicom_reads_every_voxel_and_the_doubt(fetched, job):
    file = highdicom.seg.segread(fetched["seg"])
    images = [plane.sop_instance_uid for plane in job.series.planes]
    for number, (name, mask) in enumerate(job.masks.items(), start=1):
        assert file.get_segment_numbers(segment_label=name) == [number]
        pixels = file.get_pixels_by_source_instance(
            images, segment_numbers=[number], assert_missing_frames_are_empty=True
        )
        np.testing.assert_array_equal(pixels[..., 0] != 0, mask)
    assert "DOUBTFUL" in file.SegmentSequence[1].SegmentDescription


def test_nothing_in_it_is_approved(fetched):
    assert pydicom.dcmread(fetched["rtstruct"]).ApprovalStatus == "UNAPPROVED"
