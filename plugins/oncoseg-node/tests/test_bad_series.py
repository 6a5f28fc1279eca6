"""Bad series, each with one fault alone, are refused by the name of that fault and none is taken.

All are synthetic: no real series is known that has one of these faults and no other.
"""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from node_parts import ct_series, node_settings
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, JPEGLSNearLossless, SecondaryCaptureImageStorage, generate_uid

from oncoseg_node.config.settings import RuleSettings
from oncoseg_node.examination import examine
from oncoseg_node.examination.judge import files_of, judge
from oncoseg_node.examination.whole import examine_files
from oncoseg_node.records.job import Job, State

RULE = {
    "name": "thorax",
    "when": {"Modality": {"equals": "CT"}},
    "require": {
        "contrast": "without",
        "kernel": {"matches": "^B[23]"},
        "body_part": {"any_of": ["CHEST"]},
        "slices": [8, 20],
        "spacing_mm": [1, 5],
        "derived": False,
    },
    "protocol": "thorax",
    "models": ["m"],
}


def judged(folder, require=None, **receive):
    """The judgement of a folder under one rule that wants native CT of the chest in a soft kernel."""
    rule = RuleSettings.model_validate(RULE | {"require": RULE["require"] | (require or {})})
    settings = node_settings(folder, **receive).model_copy(update={"rules": (rule,)})
    return judge(files_of(folder), settings)


def kinds(folder, **options):
    return [refusal.kind for refusal in judged(folder, **options).refusals]


def edit(path, **values):
    """Change one file of a series; None removes an attribute."""
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    if "SOPClassUID" in values:
        dataset.file_meta.MediaStorageSOPClassUID = values["SOPClassUID"]
    dataset.save_as(path)


def each(files, change):
    for index, file in enumerate(files):
        edit(file, **change(index))


def copy(path, name, **values):
    dataset = pydicom.dcmread(path)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    target = path.with_name(name)
    dataset.save_as(target)
    edit(target, **values)


def placed(files, heights):
    each(files, lambda i: {"ImagePositionPatient": [-10, -20, float(heights[i])]})


def smaller(path, size=6):
    edit(path, Rows=size, PixelData=bytes(2 * 8 * size))


def as_jpeg(path, syntax):
    """In a syntax that always loses, without the header's word for it."""
    dataset = pydicom.dcmread(path)
    dataset.PixelData = encapsulate([b"\xff\xd8" + bytes(200) + b"\xff\xd9"])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path)


def second_phase(files):
    for index, file in enumerate(files):
        edit(file, TemporalPositionIdentifier=1)
        copy(file, f"second{index}.dcm", TemporalPositionIdentifier=2)


def second_acquisition_between(files):
    for index, file in enumerate(files[:-1]):
        copy(file, f"second{index}.dcm", AcquisitionNumber=2, ImagePositionPatient=[-10, -20, 3.0 * index + 1.5])


FAULTS = {
    "missing-slices": lambda files: files[5].unlink(),
    "duplicate-slices": lambda files: copy(files[5], "again.dcm"),
    "uneven-spacing": lambda files: placed(files, np.cumsum([3, 3, 3, 4, 3, 3, 2, 3, 3, 4, 3, 3])),
    "gantry-tilt": lambda files: each(files, lambda i: {"ImagePositionPatient": [-10, -20 + 0.6 * i, 3.0 * i]}),
    "mixed-orientations": lambda files: each(
        files, lambda i: {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0] if i < 6 else [1, 0, 0, 0, 0, -1]}
    ),
    "localizer": lambda files: edit(files[0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    "mixed-series": lambda files: edit(files[0], SeriesInstanceUID=generate_uid()),
    "mixed-studies": lambda files: edit(files[0], StudyInstanceUID=generate_uid()),
    "mixed-pixel-sizes": lambda files: smaller(files[4]),
    "mixed-patients": lambda files: edit(files[4], PatientID="ANOTHER"),
    "mixed-modalities": lambda files: edit(files[4], Modality="MR"),
    "too-few-slices": lambda files: [file.unlink() for file in files[7:]],
    "wrong-modality": lambda files: each(files, lambda _i: {"Modality": "OT"}),
    "wrong-body-part": lambda files: each(files, lambda _i: {"BodyPartExamined": "FOOT"}),
    "wrong-kernel": lambda files: each(files, lambda _i: {"ConvolutionKernel": "B70f"}),
    "contrast-given": lambda files: each(files, lambda _i: {"ContrastBolusAgent": "APPLIED"}),
    "slice-spacing": lambda files: placed(files, 0.5 * np.arange(12)),
    "secondary-capture": lambda files: edit(files[0], SOPClassUID=SecondaryCaptureImageStorage),
    "screen-capture": lambda files: edit(files[0], ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]),
    "no-frame-of-reference": lambda files: each(files, lambda _i: {"FrameOfReferenceUID": None}),
    "mixed-frames-of-reference": lambda files: edit(files[3], FrameOfReferenceUID=generate_uid()),
    "no-position": lambda files: each(files, lambda _i: {"ImagePositionPatient": None}),
    "unreadable-file": lambda files: files[3].write_bytes(files[3].read_bytes()[:200]),
    "cut-short": lambda files: files[3].write_bytes(files[3].read_bytes()[:-40]),
    "no-pixels": lambda files: edit(files[3], PixelData=None),
    "missing-rescale": lambda files: edit(files[3], RescaleSlope=None, RescaleIntercept=None),
    "projection": lambda files: each(files, lambda _i: {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "MIP"]}),
    "reformatted": lambda files: each(files, lambda _i: {"ImageType": ["DERIVED", "SECONDARY", "CSA MPR"]}),
    "derived": lambda files: each(files, lambda _i: {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}),
    "multi-phase": second_phase,
    "burned-in-text": lambda files: edit(files[3], BurnedInAnnotation="YES"),
    "lossy-compression": lambda files: edit(files[3], LossyImageCompression="01"),
}


def test_a_series_without_a_fault_is_taken(tmp_path):
    ct_series(tmp_path)
    assert kinds(tmp_path) == []
    facts = judged(tmp_path).facts
    assert (facts.modality, facts.slices, facts.spacing_mm) == ("CT", 12, 3.0)
    assert facts.values["PixelSpacing"] == [1.0, 1.0]
    assert "PHANTOM" not in repr(facts)


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_has_its_own_name(tmp_path, kind):
    FAULTS[kind](ct_series(tmp_path))
    assert kinds(tmp_path) == [kind]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("mixed-pixel-sizes", lambda files: edit(files[4], PixelSpacing=[1.0, 1.1])),
        ("missing-slices", lambda files: [files[5].unlink(), files[6].unlink()]),
        ("multi-phase", second_acquisition_between),
        ("missing-rescale", lambda files: each(files, lambda _i: {"RescaleSlope": None, "RescaleIntercept": None})),
        ("contrast-given", lambda files: each(files, lambda _i: {"ContrastBolusVolume": "80"})),
        ("screen-capture", lambda files: edit(files[0], ConversionType="WSD")),
        ("lossy-compression", lambda files: [as_jpeg(file, JPEGBaseline8Bit) for file in files]),
        ("lossy-compression", lambda files: [as_jpeg(file, JPEGLSNearLossless) for file in files]),
        ("duplicate-slices", lambda files: [copy(file, f"again{file.name}") for file in files]),
        ("localizer", lambda files: each(files, lambda _i: {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]})),
        ("unreadable-file", lambda files: files[3].write_bytes(b"no DICOM" * 40)),
        ("unreadable-file", lambda files: files[3].write_bytes(files[3].read_bytes()[:800])),
        ("unreadable-file", lambda files: files[3].write_bytes(b"")),
    ],
)
def test_other_forms_of_a_fault_have_the_same_name(tmp_path, kind, change):
    change(ct_series(tmp_path))
    assert kinds(tmp_path) == [kind]


def test_every_name_is_explained():
    page = (Path(__file__).parents[3] / "docs" / "reference" / "node-refusals.md").read_text()
    others = {"empty", "too-many-instances", "no-rule", "too-many-slices", "no-contrast", "unusable"}
    assert {kind for kind in {*FAULTS, *others} if f"`{kind}`" not in page} == set()


def test_too_many_slices_and_no_contrast_are_named(tmp_path):
    ct_series(tmp_path)
    assert kinds(tmp_path, require={"slices": [5, 11]}) == ["too-many-slices"]
    assert kinds(tmp_path, require={"contrast": "with"}) == ["no-contrast"]


def test_a_series_beyond_the_bound_is_not_looked_into(tmp_path):
    ct_series(tmp_path)
    assert kinds(tmp_path, most_instances=11) == ["too-many-instances"]
    assert kinds(tmp_path, most_instances=12) == []


def test_an_empty_folder_is_refused(tmp_path):
    assert kinds(tmp_path) == ["empty"]


def test_an_end_that_may_lack_is_doubted_and_not_refused(tmp_path):
    """It leaves no gap; only the counting shows it, and scanners count in many ways."""
    files = ct_series(tmp_path)
    each(files, lambda i: {"InstanceNumber": i + 1})
    assert judged(tmp_path).facts.doubts == ()
    each(files, lambda i: {"InstanceNumber": i + 21, "ImagesInAcquisition": 40, "AcquisitionNumber": 1})
    assert kinds(tmp_path) == []
    assert judged(tmp_path).facts.doubts == (
        "the 12 images are numbered 21 to 32, so that 20 may lack, at an end of the stack too",
        "the acquisition has 40 images, and 12 came: an end of the stack may lack",
    )


def test_acquisitions_that_follow_each_other_are_one_image(tmp_path):
    each(ct_series(tmp_path), lambda i: {"AcquisitionNumber": 1 + i // 6})
    assert kinds(tmp_path) == []


@pytest.mark.parametrize("agent", ["NO", "none", ""])
def test_what_scanners_write_for_no_contrast_is_none(tmp_path, agent):
    each(ct_series(tmp_path), lambda _i: {"ContrastBolusAgent": agent})
    assert kinds(tmp_path) == []


def test_several_faults_are_all_named(tmp_path):
    files = ct_series(tmp_path)
    edit(files[0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    edit(files[4], PatientID="ANOTHER")
    assert kinds(tmp_path) == ["mixed-patients", "localizer"]


def test_positions_rounded_by_the_scanner_are_even(tmp_path):
    placed(ct_series(tmp_path), np.round(1.2345 * np.arange(12), 1))
    assert kinds(tmp_path) == []


def test_refusals_name_no_patient(tmp_path):
    files = ct_series(tmp_path, attributes={"PatientName": "Doe^Jane", "PatientID": "4711"})
    edit(files[4], PatientID="4712", PatientName="Roe^Jim")
    edit(files[5], ImagePositionPatient=None)
    files[3].write_bytes(files[3].read_bytes()[:-40])
    text = " ".join(refusal.message for refusal in judged(tmp_path).refusals)
    assert text
    assert not any(secret in text for secret in ("Doe", "Jane", "4711", "4712", "Roe", str(tmp_path)))


def test_a_job_is_examined_by_its_images(tmp_path):
    ct_series(tmp_path / "images")
    settings = node_settings(tmp_path)
    job = Job(id=1, study_uid="1.2", series_uid="1.3", folder=tmp_path, state=State.RECEIVED, created=0, changed=0)
    facts, rule, refusals = examine(job, settings)
    assert (facts.slices, rule.name, refusals) == (12, "thorax", [])
    (tmp_path / "images" / "image0005.dcm").unlink()
    _, rule, (refusal,) = examine(job, settings)
    assert (rule.name, refusal.kind) == ("thorax", "missing-slices")
    assert examine(job.model_copy(update={"folder": tmp_path / "none"}), settings)[2][0].kind == "empty"


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        ("98892001/CT5N", []),
        ("98892001/CT2N", ["localizer", "mixed-orientations"]),
        ("98892003/MR700", ["projection", "mixed-orientations"]),
        ("77654033/CT2", ["missing-slices"]),
    ],
)
def test_real_series_of_scanners(series, expected):
    """From the wheel of pydicom: five slices of a CT, scouts, a MIP, four slices of a CT far from each other."""
    root = Path(get_testdata_file("DICOMDIR", download=False)).parent
    facts, found = examine_files(files_of(root / series), node_settings(root).receive)
    assert [refusal.kind for refusal in found] == expected
    assert facts.slices == len(files_of(root / series))
