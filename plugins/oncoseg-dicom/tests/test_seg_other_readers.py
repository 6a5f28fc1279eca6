"""SEG as other people's programs read and write it: dcmqi, highdicom, dicom3tools."""

import json
import tracemalloc
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from seg_builders import header_of, run, series_in_memory, series_on_disk, some_masks, voxels_in_patient

from oncoseg_core import Segmentation, load_plugins
from oncoseg_core.imaging.open_image import read_image, read_masks
from oncoseg_dicom.seg.read import read_segments
from oncoseg_dicom.seg.write import SegSettings, write_seg
from oncoseg_dicom.series.search import find_series

AXIAL = (1, 0, 0, 0, 1, 0)
OBLIQUE = (0.8, 0.6, 0, -0.36, 0.48, 0.8)
NORMAL = {orientation: np.cross(orientation[:3], orientation[3:]) for orientation in (AXIAL, OBLIQUE)}


def stack(orientation=AXIAL, step=2.5, count=6, start=(-100.5, 33.25, -412.0), tilt=0.0):
    along = NORMAL[orientation] + tilt * np.array(orientation[3:])
    return [np.array(start) + along * step * index for index in range(count)]


GEOMETRIES = {
    "axial": (stack(), AXIAL, (0.7, 0.7)),
    "to the feet, not square": (stack(step=-2.5), AXIAL, (0.7, 1.3)),
    "prone": (stack(step=4.0), (-1, 0, 0, 0, -1, 0), (0.9, 0.9)),
    "coronal": ([(-90.0, y, 120.0) for y in (0.0, 3.0, 6.0, 9.0, 12.0)], (1, 0, 0, 0, 0, -1), (1.0, 0.8)),
    "oblique, far away": (stack(OBLIQUE, start=(1500.0, -1200.0, 900.0)), OBLIQUE, (0.5, 0.5)),
    "one slice": (stack(count=1), AXIAL, (0.7, 0.7)),
}
"""Those that an image file of dcmqi's can hold: evenly spaced, at right angles."""


@pytest.fixture(params=GEOMETRIES)
def series(request):
    origins, orientation, spacing = GEOMETRIES[request.param]
    return series_in_memory(origins, orientation, spacing, (11, 14), header_of(SliceThickness="3.7"))


@pytest.fixture
def written(series, tmp_path):
    """A SEG with masks that overlap and leave slices out."""
    masks = some_masks(np.random.default_rng(5), series.geometry.shape, 3)
    write_seg(Segmentation(masks, series.geometry), series, tmp_path / "seg.dcm", SegSettings(source=Path("series")))
    return tmp_path / "seg.dcm", masks


def test_dcmqi_reads_every_voxel(series, written, tmp_path):
    path, masks = written
    told = run("segimage2itkimage", "--inputDICOM", path, "--outputDirectory", tmp_path, "--outputType", "nrrd")
    for number, mask in enumerate(masks.values(), start=1):
        np.testing.assert_array_equal(voxels_in_patient(tmp_path / f"{number}.nrrd", series), mask, told)


def test_highdicom_reads_every_voxel(series, written):
    path, masks = written
    found = highdicom.seg.segread(path)
    for number, (name, mask) in enumerate(masks.items(), start=1):
        assert found.get_segment_numbers(segment_label=name) == [number]
        pixels = found.get_pixels_by_source_instance(
            [plane.sop_instance_uid for plane in series.planes],
            segment_numbers=[number],
            assert_missing_frames_are_empty=True,
        )
        np.testing.assert_array_equal(pixels[..., 0] != 0, mask)


@pytest.mark.parametrize("count", [1, 3])
def test_highdicom_refers_to_a_segment(count, series, tmp_path):
    masks = dict(list(some_masks(np.random.default_rng(5), series.geometry.shape, 3).items())[:count])
    write_seg(Segmentation(masks, series.geometry), series, tmp_path / "seg.dcm", SegSettings(source=Path("series")))
    file = highdicom.seg.segread(tmp_path / "seg.dcm")
    referenced = highdicom.sr.ReferencedSegment.from_segmentation(file, segment_number=count)
    assert len(referenced) >= 2  # the segment, and the images that it was drawn on
    assert "SegmentIdentificationSequence" not in file.SharedFunctionalGroupsSequence[0]


def test_it_is_valid(written):
    told = run("dciodvfy", written[0])
    assert "Segmentation" in told
    assert [line for line in told.splitlines() if line.startswith("Error")] == []


@pytest.mark.parametrize(
    "more", [{"modality": "MR"}, {"modality": "PT"}, {"attributes": {"PatientName": "Müller^Zoë"}}]
)
def test_it_is_valid_on_a_series_that_is_found(more, tmp_path):
    _, series = series_on_disk(tmp_path / "series", (4, 12, 10), stack(count=4), **more)
    segmentation = Segmentation({"liver tumour": np.ones((4, 12, 10), dtype=bool)}, series.geometry)
    write_seg(segmentation, series, tmp_path / "seg.dcm", SegSettings(source=tmp_path))
    told = run("dciodvfy", tmp_path / "seg.dcm")
    assert [line for line in told.splitlines() if line.startswith("Error")] == []
    assert pydicom.dcmread(tmp_path / "seg.dcm").PatientName == more.get("attributes", {}).get(
        "PatientName", "Phantom^Nobody"
    )


def code(value, meaning):
    return {"CodeValue": value, "CodingSchemeDesignator": "SCT", "CodeMeaning": meaning}


def write_by_dcmqi(folder, files, labels, *arguments):
    """A SEG of label images, one per structure, on the series of these files."""
    images, attributes = [], []
    for number, (name, image) in enumerate(labels.items(), start=1):
        images.append(folder / f"label{number}.nrrd")
        sitk.WriteImage(image, str(images[-1]))
        segment = {
            "labelID": number, "SegmentLabel": name, "SegmentDescription": name, "SegmentAlgorithmType": "MANUAL",
            "SegmentedPropertyCategoryCodeSequence": code("85756007", "Tissue"),
            "SegmentedPropertyTypeCodeSequence": code("85756007", "Tissue"),
        }  # fmt: skip
        attributes.append([segment])
    metadata = {
        "ContentCreatorName": "Nobody", "SeriesNumber": "300", "InstanceNumber": "1",
        "SeriesDescription": "by dcmqi", "segmentAttributes": attributes,
    }  # fmt: skip
    (folder / "meta.json").write_text(json.dumps(metadata))
    told = run(
        "itkimage2segimage",
        *("--inputImageList", ",".join(map(str, images)), "--inputDICOMList", ",".join(map(str, files))),
        *("--inputMetadata", folder / "meta.json", "--outputDICOM", folder / "seg.dcm", *arguments),
    )
    assert (folder / "seg.dcm").is_file(), told
    return pydicom.dcmread(folder / "seg.dcm")


def as_label(mask, geometry, number):
    image = sitk.GetImageFromArray(mask.astype(np.uint8) * number)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction.ravel().tolist())
    return image


def assert_read_beside_its_images(folder, masks):
    """Through the reader, from a folder that holds the images too: a SEG is never taken for one."""
    registry = load_plugins()
    image = read_image(registry, folder)
    for name, mask in read_masks(registry, folder / "seg.dcm", image).masks.items():
        np.testing.assert_array_equal(mask, masks[name])


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(
    "arguments",
    [(), ("--compress", "deflate"), ("--segmentationType", "labelmap")],
    ids=["binary", "deflated", "labels"],
)
def test_what_dcmqi_wrote_is_read_exactly(geometry, arguments, tmp_path):
    origins, orientation, spacing = GEOMETRIES[geometry]
    shape = (len(origins), 11, 14)
    files, series = series_on_disk(tmp_path / "series", shape, origins, orientation=orientation, pixel_spacing=spacing)
    rng = np.random.default_rng(3)
    label = rng.integers(0, 3, shape)
    masks = {"liver": label == 1, "lesion": label == 2}
    labels = {
        name: as_label(mask, series.geometry, number) for number, (name, mask) in enumerate(masks.items(), start=1)
    }
    found = read_segments(write_by_dcmqi(tmp_path, files, labels, *arguments), series)
    assert_read_beside_its_images(tmp_path, masks)
    assert list(found.masks) == list(masks)
    for name, mask in masks.items():
        np.testing.assert_array_equal(found.masks[name], mask)
    assert found.notes == ()


def test_frames_that_run_the_other_way_are_read(tmp_path):
    """The label image is mirrored in memory, and says so in its direction: it shows the same voxels."""
    files, series = series_on_disk(tmp_path / "series", (5, 11, 14), stack(count=5), pixel_spacing=(0.7, 0.7))
    mask = np.random.default_rng(3).random((5, 11, 14)) < 0.3
    mirrored = sitk.Flip(as_label(mask, series.geometry, 1), (True, False, True))
    dataset = write_by_dcmqi(tmp_path, files, {"liver": mirrored}, "--referencesGeometryCheck", "0")
    orientation = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    assert orientation[0] == -1
    np.testing.assert_array_equal(read_segments(dataset, series).masks["liver"], mask)


@pytest.mark.filterwarnings("ignore")
def test_highdicom_finds_the_frames_of_a_multi_frame_image(tmp_path):
    """Its frames are in another order than its slices, so that only true frame numbers give the mask."""
    files, _ = series_on_disk(
        tmp_path / "series", (4, 11, 14), stack(count=4), attributes={"AcquisitionNumber": 1, "RescaleIntercept": "-3"}
    )
    image = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        [pydicom.dcmread(files[index]) for index in (2, 0, 3, 1)], "1.2.3.4.5.7", 2, "1.2.3.4.5.6", 1
    )
    image.save_as(tmp_path / "enhanced.dcm")
    series = find_series(tmp_path / "enhanced.dcm")
    numbers = [plane.frame for plane in series.planes]
    assert sorted(numbers) == [1, 2, 3, 4] != numbers
    mask = np.random.default_rng(1).random((4, 11, 14)) < 0.3
    segmentation = Segmentation({"liver": mask}, series.geometry)
    write_seg(segmentation, series, tmp_path / "seg.dcm", SegSettings(source=tmp_path))
    found = highdicom.seg.segread(tmp_path / "seg.dcm").get_pixels_by_source_frame(
        "1.2.3.4.5.6", numbers, segment_numbers=[1]
    )
    np.testing.assert_array_equal(found[..., 0] != 0, mask)
    told = run("dciodvfy", tmp_path / "seg.dcm")
    assert [line for line in told.splitlines() if line.startswith("Error")] == []


def test_masks_that_overlap_are_not_in_memory_together(tmp_path):
    series = series_in_memory(stack(count=4), AXIAL, (0.7, 0.7), (512, 512), header_of())
    whole = np.ones(series.geometry.shape, dtype=bool)
    settings = SegSettings(source=Path("series"))
    write_seg(
        Segmentation({"one": whole}, series.geometry), series, tmp_path / "first.dcm", settings
    )  # loads libraries
    masks = {f"structure {number}": whole for number in range(16)}
    tracemalloc.start()
    write_seg(Segmentation(masks, series.geometry), series, tmp_path / "seg.dcm", settings)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pydicom.dcmread(tmp_path / "seg.dcm").SegmentsOverlap == "YES"
    assert peak < 12 * whole.nbytes  # 8 when this was written; 33 with all of them at once


@pytest.mark.parametrize(("size", "content"), [((3, 3), b"\xff\x01"), ((2, 3), b"\x3f\x00")])
def test_an_odd_number_of_bytes_is_padded_with_zero(size, content, tmp_path):
    series = series_in_memory(stack(count=1), AXIAL, (0.7, 0.7), size, header_of())
    segmentation = Segmentation({"one": np.ones((1, *size), dtype=bool)}, series.geometry)
    write_seg(segmentation, series, tmp_path / "seg.dcm", SegSettings(source=Path("series")))
    assert pydicom.dcmread(tmp_path / "seg.dcm").PixelData == content
