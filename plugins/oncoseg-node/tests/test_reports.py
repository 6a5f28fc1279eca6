"""Reports: what a person and a program read of a job, and what neither may read there."""

import dataclasses
import datetime as dt
import hashlib
import json
import re
import stat
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from oncoseg_core import ConfigError, Geometry, Volume
from oncoseg_dicom import find_series, write_series
from oncoseg_node.config.settings import NodeSettings
from oncoseg_node.records.job import EARLIER, Earlier, Job, State
from oncoseg_node.records.results import CheckedStructure, Delivery, Made, UsedModel, WrittenObject
from oncoseg_node.records.series import Refusal, SeriesFacts
from oncoseg_node.reports import browser, encapsulate, write_report
from oncoseg_node.reports.pictures import Upright, structure_picture, window_of
from oncoseg_node.service import checks

SECRETS = ("Doe^Jane", "MRN-4711", "19500102", "St. Elsewhere", "call her daughter", "1.2.3.4.5", "9.8.7.6")


class Texts(HTMLParser):
    """What a reader sees, and every address that the page names."""

    def __init__(self, page):
        super().__init__()
        self.seen, self.addresses, self.tags = [], [], []
        self.feed(page)

    def handle_data(self, data):
        self.seen.append(data.strip())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in {"src", "href", "action", "data", "srcset"}]


def settings(**more):
    return NodeSettings.model_validate(
        {
            "data": "data",
            "receive": {},
            "rules": [
                {"name": "chest", "when": {"Modality": {"equals": "CT"}}, "protocol": "thorax", "models": ["lungs"],
                 "destinations": ["pacs", "disk"]},
            ],
            "models": {"lungs": {"model": "ct-thresholds"}},
            "destinations": {
                "pacs": {"kind": "dicom", "host": "127.0.0.1", "port": 4242, "ae_title": "PACS"},
                "disk": {"kind": "folder", "path": "there", "formats": ["rtstruct", "seg"]},
            },
            "report": {"pdf": False},
            **more,
        }
    )  # fmt: skip


@pytest.fixture
def job(tmp_path):
    return Job(
        id=1, study_uid="1.2.3.4.5", series_uid="9.8.7.6", folder=tmp_path / "c0ffee", state=State.CHECKED, rule="chest",
        created=1.7e9, changed=1.7e9,
    )  # fmt: skip


FACTS = SeriesFacts(
    study_uid="1.2.3.4.5", series_uid="9.8.7.6", modality="CT", slices=12, spacing_mm=3.0,
    values={
        "PatientName": "Doe^Jane", "PatientID": "MRN-4711", "PatientBirthDate": "19500102", "ConvolutionKernel": ["B30f", "2"],
        "InstitutionName": "St. Elsewhere", "SeriesDescription": "call her daughter", "ContrastBolusAgent": "call her daughter",
        "PixelSpacing": [0.5, 2.0], "Rows": 40, "Columns": 40,
    },
)  # fmt: skip


def structure(name, decision="written", **more):
    return CheckedStructure(name=name, decision=decision, model="lungs", source=name, **more)


CHECKED = (
    structure("Lung_L", confidence=0.4, confidences={"agreement": 0.4, "volume": 0.9}, volume_ml=1234.5, slices=(2, 9),
              colour=(1, 128, 255)),
    structure("Heart", "marked", reasons=("too small <b>by far</b>",), volume_ml=7.25, slices=(3, 4)),
    structure("Larynx", "left out", reasons=("the mask is empty",)),
)  # fmt: skip


def written(form, path):
    return WrittenObject(
        format=form, path=path / f"{form}.dcm", sha256="ab" * 32, study_uid="1.2.3.4.5", series_uid="9.8.7.6.1",
        sop_uid="9.8.7.6.2", sop_class_uid="1.2",
    )  # fmt: skip


MADE = Made(
    structures=(),
    models=(
        UsedModel(key="lungs", component="ct-thresholds", version="0.1", weights_sha256="cd" * 32, seconds=2.5,
                  licence="Apache-2.0"),
    ),
    seconds={"read": 1.0, "lungs": 2.5},
    findings=("a gantry was tilted",),
)  # fmt: skip


def volume(modality="ct"):
    geometry = Geometry.from_parts((12, 40, 40), (3.0, 0.5, 2.0))
    x = np.indices((12, 40, 40))[2]
    return Volume((x * 10.0 - 200)[None].astype(np.float32), geometry, modality)


def masks():
    lung, heart = np.zeros((2, 12, 40, 40), dtype=bool)
    lung[2:10, 5:30, 25:35] = True
    heart[3:5, 10:20, 10:20] = True
    return {"Lung_L": lung, "Heart": heart, "Larynx": np.zeros_like(lung)}


def report(job, configured=None, **more):
    arguments = {
        "facts": FACTS, "made": MADE, "checked": CHECKED, "objects": [written("rtstruct", job.out), written("seg", job.out)],
        "deliveries": [], "refusals": [], **more,
    }  # fmt: skip
    return write_report(job, configured or settings(), **arguments)


def read(job):
    return json.loads((job.out / "report.json").read_text()), (job.out / "report.html").read_text()


def test_the_outcome_comes_first_and_every_structure_has_its_row(job):
    files = report(job, masks=masks(), volume=volume())
    assert [path.name for path in files] == ["report.json", "report.html"]
    content, page = read(job)
    assert content["schema"] == "oncoseg-node-report/1"
    assert content["counts"] == {"written": 1, "marked": 1, "left out": 1}
    assert [one["name"] for one in content["structures"]] == ["Lung_L", "Heart", "Larynx"]
    seen = Texts(page).seen
    assert "2 of 3 structures contoured" in seen
    assert seen.index("2 of 3 structures contoured") < seen.index("Look at these first") < seen.index("Structures")
    assert "left out: the mask is empty" in seen
    assert {
        "1,234",
        "7.25",
        "2–9",
        "0.40",
        "agreement",
        "a gantry was tilted",
        "Apache-2.0",
        "cd" * 32,
        "ab" * 32,
    } <= set(seen)
    assert "UNAPPROVED." in seen


def test_a_column_in_which_nothing_stands_is_left_out(job):
    report(job, checked=CHECKED[:1])
    seen = Texts(read(job)[1]).seen
    assert "by method" in seen
    assert "reasons" not in seen


def test_what_others_wrote_is_text_and_never_markup(job):
    report(job)
    page = read(job)[1]
    assert "too small <b>by far</b>" in " ".join(Texts(page).seen)
    assert "<b>by far" not in page


def test_neither_file_names_the_patient_or_a_uid(job):
    report(job, masks=masks(), volume=volume())
    for path in (job.out / "report.json", job.out / "report.html"):
        text = path.read_text()
        assert [secret for secret in SECRETS if secret in text] == []
    content = read(job)[0]
    assert content["case"] == "c0ffee"
    assert (content["series"]["kernel"], content["series"]["contrast"]) == ("B30f 2", "stated")
    assert {path.name for path in job.out.rglob("*") if path.is_file()} == {
        "report.json", "report.html", "001.svg", "002.svg", "overview.svg"
    }  # fmt: skip


def test_the_page_asks_for_nothing_and_runs_nothing(job):
    report(job, masks=masks(), volume=volume())
    page = read(job)[1]
    texts = Texts(page)
    assert "script" not in texts.tags
    assert texts.addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in texts.addresses)
    assert "default-src 'none'" in page
    assert re.findall(r"url\(|@import", page) == []


def test_deliveries_are_what_was_proved_and_what_is_still_to_be_sent(job):
    done = [
        Delivery(destination="pacs", format="rtstruct", sop_uid="1", status="confirmed", how="read back equal"),
        Delivery(destination="disk", format="seg", sop_uid="2", status="failed", message="the disk is full"),
    ]
    report(job, deliveries=done)
    content, page = read(job)
    assert [(one["destination"], one["format"], one["status"]) for one in content["deliveries"]] == [
        ("pacs", "rtstruct", "confirmed"), ("disk", "seg", "failed"), ("disk", "rtstruct", "not sent yet")
    ]  # fmt: skip
    assert {"confirmed", "failed", "not sent yet", "read back equal", "the disk is full"} <= set(Texts(page).seen)


def test_what_a_destination_takes_and_was_never_made_is_not_silent(job):
    ended = job.model_copy(update={"state": State.CONFIRMED})
    done = [Delivery(destination="disk", format="rtstruct", sop_uid="1", status="confirmed", how="equal")]
    for now, expected in (
        (job, {"disk rtstruct confirmed"}),
        (ended, {"disk rtstruct confirmed", "disk seg not made"}),
    ):
        report(now, objects=[written("rtstruct", job.out)], deliveries=done)
        rows = {f"{one['destination']} {one['format']} {one['status']}" for one in read(now)[0]["deliveries"]}
        assert rows - {"pacs rtstruct not sent yet"} == expected
    assert "nothing of that kind was made, and nothing was sent" in Texts(read(ended)[1]).seen


def test_a_refused_series_has_a_short_report_that_says_why(job):
    refused = job.model_copy(update={"state": State.REFUSED, "reason": "missing-slices"})
    refusals = [Refusal(kind="missing-slices", message="3 slices are missing")]
    write_report(refused, settings(), None, None, [], [], [], refusals)
    content, page = read(refused)
    assert content["outcome"] == "refused"
    assert content["refusals"] == [{"kind": "missing-slices", "message": "3 slices are missing"}]
    seen = Texts(page).seen
    assert "Not contoured: the series is refused" in seen
    assert ": 3 slices are missing" in seen
    assert "Structures" not in seen


def test_a_second_set_of_a_series_says_that_there_may_be_another(job):
    job.folder.mkdir(exist_ok=True)
    (job.folder / EARLIER).write_text(Earlier(case="3-abcd", images=60).model_dump_json())
    report(job)
    assert any(
        "came before, as case 3-abcd" in one for one in json.loads((job.out / "report.json").read_text())["notes"]
    )


def test_doubts_of_the_series_stand_beside_those_of_its_image(job):
    report(job, facts=FACTS.model_copy(update={"doubts": ("an end may lack",)}))
    assert read(job)[0]["findings"] == ["an end may lack", *MADE.findings]


def test_a_failed_one_says_its_reason(job):
    failed = job.model_copy(update={"state": State.FAILED, "reason": "pacs does not answer"})
    report(failed)
    assert "pacs does not answer" in " ".join(Texts(read(failed)[1]).seen)


def test_the_same_job_gives_the_same_files_and_keeps_its_pictures(job):
    report(job, masks=masks(), volume=volume())
    first = {path.name: path.read_bytes() for path in job.out.rglob("*") if path.is_file()}
    report(job)
    assert {path.name: path.read_bytes() for path in job.out.rglob("*") if path.is_file()} == first
    assert first["report.html"].count(b"<figure") == 3


def test_a_picture_of_a_structure_that_became_empty_goes(job):
    report(job, masks=masks(), volume=volume())
    report(job, masks=masks() | {"Heart": np.zeros((12, 40, 40), dtype=bool)}, volume=volume())
    assert not (job.out / "pictures" / "002.svg").exists()


def test_masks_are_taken_one_after_the_other(job):
    taken, beats = [], []

    class Lazy(dict):
        def get(self, name):
            taken.append(name)
            return super().get(name)

    report(job, masks=Lazy(masks()), volume=volume(), beat=beats.append)
    assert taken == ["Lung_L", "Heart", "Larynx"]
    assert len(beats) >= 4


# Pictures.

FLIPS = [(dx, dy, dz) for dx in (1, -1) for dy in (1, -1) for dz in (1, -1)]


@pytest.mark.parametrize("signs", FLIPS)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_every_grid_is_shown_left_to_right_front_to_back_feet_to_head(signs, order):
    direction = np.zeros((3, 3))
    for axis, (lps, sign) in enumerate(zip(order, signs, strict=True)):
        direction[lps, axis] = sign
    geometry = Geometry.from_parts((4, 5, 6), (3.0, 2.0, 1.0), direction)
    indices = np.indices(geometry.shape).reshape(3, -1).T[:, ::-1]
    places = geometry.index_to_lps(indices)
    upright = Upright.of(geometry)
    seen = [upright.apply(places[:, lps].reshape(geometry.shape)) for lps in range(3)]
    for lps, axis in ((0, 2), (1, 1), (2, 0)):
        assert (np.diff(seen[lps], axis=axis) > 0).all()
        np.testing.assert_allclose(np.abs(np.diff(seen[lps], axis=axis)), upright.spacing[axis])


def outlines(picture):
    """Of each plane: the box of the outline in mm of the picture, left, top, right, bottom."""
    boxes = []
    for place, path in re.findall(r'<g transform="(translate\([^"]*)"><path d="([^"]*)"', picture):
        x, y, sx, sy = (float(one) for one in re.findall(r"-?[\d.]+", place))
        xs, ys = [], []
        for x0, y0, letter, end in re.findall(r"M([\d.]+) ([\d.]+)([HV])([\d.]+)", path):
            xs += [float(x0), float(end) if letter == "H" else float(x0)]
            ys += [float(y0), float(end) if letter == "V" else float(y0)]
        boxes.append((x + sx * min(xs), y + sy * min(ys), x + sx * max(xs), y + sy * max(ys)))
    return boxes


def test_the_outline_has_the_size_and_place_of_the_structure_on_all_three_planes():
    mask = np.zeros((12, 40, 40), dtype=bool)
    mask[1:5, 10:30, 20:26] = True  # 12 x 10 x 12 mm; the field is 36 x 20 x 80 mm
    picture = structure_picture(mask, volume(), (1, 2, 3), "Heart")
    scale = 300 / 80
    axial, coronal, sagittal = outlines(picture)
    np.testing.assert_allclose(np.array(axial) / scale, [40, 35, 52, 45], atol=1e-3)  # 30 mm above, of 80
    np.testing.assert_allclose(np.array(coronal) / scale, [40, 22 + 21, 52, 22 + 33], atol=1e-3)  # head on top
    np.testing.assert_allclose(np.array(sagittal) / scale, [35, 43, 45, 55], atol=1e-3)
    assert "#010203" in picture
    assert "slice 1" in picture


def test_a_small_structure_is_shown_with_what_is_around_it():
    large = Volume(np.zeros((1, 20, 200, 200), np.float32), Geometry.from_parts((20, 200, 200), (2.0, 1.0, 1.0)), "ct")
    mask = np.zeros((20, 200, 200), dtype=bool)
    mask[10, 100, 100] = True
    axial = outlines(structure_picture(mask, large, (0, 0, 0), "Lens_L"))[0]
    assert axial[2] - axial[0] == pytest.approx(300 / 120)


@pytest.mark.parametrize("end", [0, 199])
def test_what_is_shown_ends_where_the_image_ends(end):
    large = Volume(np.zeros((1, 20, 200, 200), np.float32), Geometry.from_parts((20, 200, 200), (2.0, 1.0, 1.0)), "ct")
    mask = np.zeros((20, 200, 200), dtype=bool)
    mask[10, end, end] = True
    axial = outlines(structure_picture(mask, large, (0, 0, 0), "Lens_L"))[0]
    expected = (0, 0, 1, 1) if end == 0 else (119, 119, 120, 120)
    np.testing.assert_allclose(np.array(axial) * 120 / 300, expected, atol=1e-3)


def test_an_empty_mask_has_no_picture():
    assert structure_picture(np.zeros((12, 40, 40), dtype=bool), volume(), (0, 0, 0), "Heart") is None


def test_the_window_fits_what_is_looked_at():
    ct = volume()
    assert [window_of(np.array([v]), ct).name for v in (-800.0, 40.0, 600.0)] == ["lung", "soft tissue", "bone"]
    other = window_of(np.array([1.0]), volume("mri"))
    assert (other.low, other.high) == pytest.approx((-200, 160), abs=5)


def test_stored_values_are_drawn_as_what_they_mean():
    def stored(modality, **header):
        return dataclasses.replace(volume(modality), headers=(header,))

    ct = window_of(np.array([1064.0]), stored("ct", RescaleSlope=2.0, RescaleIntercept=-2048.0))
    assert (ct.low, ct.high, ct.name) == ((-160 + 2048) / 2, (240 + 2048) / 2, "soft tissue")
    plain = window_of(np.array([1.0]), stored("mri", PhotometricInterpretation="MONOCHROME2"))
    assert window_of(np.array([1.0]), stored("mri", PhotometricInterpretation="MONOCHROME1"))[:2] == (
        plain.high,
        plain.low,
    )


# PDF.


def test_without_a_browser_there_is_no_pdf_and_the_report_says_so(job, monkeypatch):
    monkeypatch.setattr(browser, "BROWSERS", ("no-such-browser",))
    (job.out).mkdir(parents=True)
    (job.out / "report.pdf").write_bytes(b"of an earlier state")
    files = report(job, settings(report={"pdf": True}))
    assert [path.name for path in files] == ["report.json", "report.html"]
    content, page = read(job)
    assert content["notes"] == ["no PDF: no Chromium is installed (looked for no-such-browser)"]
    assert content["notes"][0] in Texts(page).seen
    assert not (job.out / "report.pdf").exists()


def script(path, body):
    path.write_text(f"#!{sys.executable}\nimport os, sys, time, subprocess\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("time.sleep(60)", "no PDF: the browser took longer than 0.3 s"),
        ("sys.exit(3)", "no PDF: the browser ended with exit code 3"),
        ("", "no PDF: the browser wrote none"),
        ("open([a for a in sys.argv if 'print-to' in a][0].split('=')[1], 'wb').write(b'%PDF-1.4 half')",
         "no PDF: the browser did not finish it"),
    ],
)  # fmt: skip
def test_a_browser_that_fails_or_hangs_is_ended(tmp_path, monkeypatch, body, problem):
    monkeypatch.setattr(browser, "find_browser", lambda: script(tmp_path / "browser", body))
    (tmp_path / "report.html").write_text("x")
    seconds = 0.3 if "sleep" in body else 20
    assert browser.print_pdf(tmp_path / "report.html", tmp_path / "report.pdf", 0, seconds) == problem
    assert not (tmp_path / "report.pdf").exists()


@pytest.mark.skipif(browser.find_browser() is None, reason="no Chromium is installed")
def test_the_pdf_is_the_same_each_time_dated_as_the_job(job):
    configured = settings(report={"pdf": True})
    files = report(job, configured)
    first = files[-1].read_bytes()
    assert first.startswith(b"%PDF-")
    assert b"D:20231114221320+00'00'" in first
    report(job, configured)
    assert (job.out / "report.pdf").read_bytes() == first


def test_the_pdf_goes_into_the_study_under_the_same_uids_each_time(tmp_path):
    write_series(tmp_path / "ct", np.zeros((3, 8, 8), np.int16), [(0, 0, 2.0 * z) for z in range(3)])
    series = find_series(tmp_path / "ct")
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.4\n%%EOF\n")
    moment = dt.datetime(2026, 3, 4, tzinfo=dt.UTC)
    one, other = (encapsulate(tmp_path / "report.pdf", series, tmp_path / "pdf.dcm", "seed", moment) for _ in range(2))
    assert one == other
    assert (one.format, one.study_uid) == ("pdf", series.header.StudyInstanceUID)
    assert hashlib.sha256((tmp_path / "pdf.dcm").read_bytes()).hexdigest() == one.sha256


@pytest.mark.parametrize(
    ("pdf", "found", "message"),
    [(False, "/bin/chromium", "`report.pdf` is false"), (True, None, "no Chromium is installed"), (True, "/bin/chromium", None)],
)  # fmt: skip
def test_the_check_of_the_node_says_when_no_pdf_could_be_sent(monkeypatch, pdf, found, message):
    monkeypatch.setattr(checks, "find_browser", lambda: found)
    if message is None:
        assert checks._pdf(settings(report={"pdf": pdf})) == "printed by /bin/chromium"
    else:
        with pytest.raises(ConfigError, match=message):
            checks._pdf(settings(report={"pdf": pdf}))
