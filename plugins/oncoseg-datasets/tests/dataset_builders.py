"""Small datasets in the real formats and under the real names, generated: no test here reads an image of a person."""

import csv
import functools

import numpy as np
import openpyxl
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from oncoseg_core import DatasetSpec, load_plugins
from oncoseg_testing import check_dataset

CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
FILM_STORAGE = "1.2.840.10008.5.1.4.1.1.1.1"
STRUCTURES_STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"


@functools.cache
def registry():
    return load_plugins()


def adapter(name, **settings):
    """A dataset's adapter, built as a run builds it."""
    return registry().build(DatasetSpec, name, settings)


def check(name, root, **settings):
    """Run the kit on every case."""
    built = adapter(name, **settings)
    check_dataset(built, root, built.spec, cases_to_read=100)
    return built


def discovered(name, root, **settings):
    """The adapter, and its cases by id."""
    built = adapter(name, **settings)
    return built, {case.case_id: case for case in built.discover(root)}


def faults_of(built, root):
    """Kind and message of each bad case, by its id; such a case has neither labels nor targets."""
    bad = [case for case in built.discover(root) if case.fault is not None]
    assert not any(case.labels or case.targets for case in bad)
    return {case.case_id: (case.fault.kind, case.fault.message) for case in bad}


def faults(name, root, **settings):
    """As :func:`faults_of`, of a dataset by its name."""
    return faults_of(adapter(name, **settings), root)


def the_fault(found):
    """The only bad case: its id, kind and message."""
    ((case, (kind, message)),) = found.items()
    return case, kind, message


def disc(height, width, y, x, radius):
    rows, columns = np.ogrid[:height, :width]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def noise(height, width, seed=0, channels=None):
    shape = (height, width) if channels is None else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


def picture(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def table(path, rows):
    """A CSV or tab-separated file with the keys of the first row as its header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if path.suffix == ".tab" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return path


def sheet(path, rows):
    """An Excel file with the keys of the first row as its header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    book = openpyxl.Workbook()
    book.active.append(list(rows[0]))
    for row in rows:
        book.active.append(list(row.values()))
    book.save(path)
    return path


def dicom(path, pixels, modality="CR", storage=FILM_STORAGE, **attributes):
    """A DICOM file with one grey frame."""
    dataset = _dicom_file(storage, modality)
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return _save(dataset, path)


def series(folder, voxels, *, modality="CT", spacing=(3.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0), names=None, **attributes):
    """A series of axial slices from voxels ``(z, y, x)``, its first slice the lowest; file names in any order."""
    uid, study, frame = generate_uid(), generate_uid(), generate_uid()
    paths = []
    for index, plane in enumerate(voxels):
        name = names[index] if names else f"1-{index + 1:03}.dcm"
        own = {
            "SeriesInstanceUID": uid,
            "StudyInstanceUID": study,
            "FrameOfReferenceUID": frame,
            "InstanceNumber": index + 1,
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "ImagePositionPatient": [origin[0], origin[1], origin[2] + index * spacing[0]],
            "PixelSpacing": [spacing[1], spacing[2]],
            "SliceThickness": spacing[0],
        } | {key: value(index) if callable(value) else value for key, value in attributes.items()}
        paths.append(dicom(folder / name, plane, modality, CT_STORAGE, **own))
    return paths


def structure_set(path, image, regions):
    """An RTSTRUCT on the frame of ``image``; ``regions`` is name -> contours of (x, y, z) in millimetres."""
    dataset = _dicom_file(STRUCTURES_STORAGE, "RTSTRUCT")
    frame = pydicom.Dataset()
    frame.FrameOfReferenceUID = pydicom.dcmread(image, stop_before_pixels=True).FrameOfReferenceUID
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(regions.items(), start=1):
        roi, filled = pydicom.Dataset(), pydicom.Dataset()
        roi.ROINumber, roi.ROIName = number, name
        filled.ReferencedROINumber, filled.ContourSequence = number, []
        for contour in contours:
            item = pydicom.Dataset()
            item.ContourGeometricType = "CLOSED_PLANAR"
            item.NumberOfContourPoints = len(contour)
            item.ContourData = [float(value) for point in contour for value in point]
            filled.ContourSequence.append(item)
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(filled)
    return _save(dataset, path)


def lidc_xml(path, series_uid, readers):
    """A LIDC reading: per reader a list of nodules, each a list of (sop uid, z, inclusion, outline)."""

    def roi(uid, z, inclusion, outline):
        edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in outline)
        return (
            f"<roi><imageZposition>{z}</imageZposition><imageSOP_UID>{uid}</imageSOP_UID>"
            f"<inclusion>{inclusion}</inclusion>{edges}</roi>"
        )

    sessions = "".join(
        "<readingSession><annotationVersion>3.12</annotationVersion>"
        "<servicingRadiologistID>anonymous</servicingRadiologistID>"
        + "".join(
            f"<unblindedReadNodule><noduleID>{number}</noduleID>"
            + "".join(roi(*one) for one in nodule)
            + "</unblindedReadNodule>"
            for number, nodule in enumerate(nodules)
        )
        + "<nonNodule><nonNoduleID>9</nonNoduleID><imageZposition>0</imageZposition>"
        "<locus><xCoord>1</xCoord><yCoord>1</yCoord></locus></nonNodule></readingSession>"
        for nodules in readers
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<LidcReadMessage uid="1.3.6.1.4.1.14519.5.2.1.6279.6001.1307390" '
        'xmlns="http://www.nih.gov" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:schemaLocation="http://www.nih.gov http://troll.rad.med.umich.edu/lidc/LidcReadMessage.xsd">'
        f"<ResponseHeader><Version>1.8.1</Version><SeriesInstanceUid>{series_uid}</SeriesInstanceUid>"
        f"</ResponseHeader>{sessions}</LidcReadMessage>"
    )
    return path


def _dicom_file(storage, modality):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = storage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = storage, meta.MediaStorageSOPInstanceUID
    dataset.Modality = modality
    return dataset


def _save(dataset, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path
