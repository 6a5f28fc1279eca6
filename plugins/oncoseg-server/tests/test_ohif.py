"""The whole way with real parts: Orthanc, `oncoseg serve`, OHIF as npm ships it, the system's Chromium.

It runs where these can be had (Debian: ``apt-get install chromium orthanc orthanc-dicomweb nodejs npm``). The CT and its
tumour are real (lung2 of the sample scans).
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pydicom
import pytest
from local_orthanc import DICOMWEB_PLUGIN, ORTHANC, free_port, running_orthanc
from node_tools import node_modules

from oncoseg_core import OncoSegError
from oncoseg_core.cli import installed_registry
from oncoseg_core.imaging import read_volume
from oncoseg_core.system import cache_directory
from oncoseg_dicom import DEMONSTRATION_SERIES, DEMONSTRATION_STUDY
from oncoseg_dicomweb import PrivateFolders
from oncoseg_server.archives.demo import demo_archive
from oncoseg_server.viewer import fetch_viewer
from oncoseg_server.web.errors import STATUS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
BROWSER = Path(__file__).parent / "browser"
ONCOSEG = (sys.executable, "-c", "from oncoseg_core.cli.app import main; main()")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "ONCOSEG_TEST_TOKEN": "a-token-of-the-tests"}
# The deepest point of the tumour on its largest slice, columns and rows of the stored slice.
SLICE, PIXEL = 22, (359.5, 362.5)
STROKE = {"from": (359.5, 395.5), "to": (372.5, 395.5)}
COLUMNS = 512
VISIT_SECONDS = 240

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
    pytest.mark.skipif(
        ORTHANC is None or not DICOMWEB_PLUGIN.is_file(),
        reason="no Orthanc with DICOMweb: apt-get install orthanc orthanc-dicomweb",
    ),
]


@pytest.fixture(scope="module")
def tools():
    try:
        fetch_viewer()
    except OncoSegError as error:
        pytest.skip(f"no viewer: {error}")
    return node_modules(BROWSER)


@pytest.fixture(scope="module")
def scan():
    """The demonstration's DICOM files, in the order of their slices."""
    private = PrivateFolders(cache_directory() / "server")
    try:
        demo_archive(installed_registry(), private, lambda *_: None)
    except OncoSegError as error:
        pytest.skip(f"no sample scan: {error}")
    finally:
        private.close()
    # Results that somebody saved into the demonstration lie beside the series.
    headers = {path: header_of(path) for path in (cache_directory() / "demo").rglob("*.dcm")}
    files = [path for path, header in headers.items() if header.SeriesInstanceUID == DEMONSTRATION_SERIES]
    files.sort(key=lambda path: float(headers[path].ImagePositionPatient[2]))
    assert len(files) == 61
    return files


def header_of(path):
    return pydicom.dcmread(path, stop_before_pixels=True)


@pytest.fixture(scope="module")
def pacs(tmp_path_factory, scan):
    with running_orthanc(tmp_path_factory.mktemp("orthanc"), dicomweb=True) as orthanc:
        for file in scan:
            request = urllib.request.Request(orthanc.url + "/instances", data=file.read_bytes(), method="POST")
            urllib.request.urlopen(request, timeout=20).close()
        yield orthanc


@pytest.fixture(scope="module")
def origin(tmp_path_factory, pacs, tools):
    """The address of a server with the archive behind it, a token before it and the viewer on it."""
    folder = tmp_path_factory.mktemp("server")
    settings = {
        "port": free_port(),
        "viewer": True,
        "token_env": "ONCOSEG_TEST_TOKEN",
        "sources": {"pacs": {"dicomweb": {"url": pacs.dicomweb}}},
    }
    (folder / "server.yaml").write_text(json.dumps(settings))  # JSON is YAML
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([*ONCOSEG, "serve", folder / "server.yaml"], stdout=log, stderr=log, env=ENVIRONMENT)
    address = f"http://127.0.0.1:{settings['port']}"
    try:
        for _ in range(600):
            if answers(address):
                break
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=20)


def answers(address):
    try:
        urllib.request.urlopen(address + "/healthz", timeout=2).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def visit(tmp_path_factory, origin, scan, tools):
    """What one visit saw; the pictures stay in ``$ONCOSEG_PICTURES`` where that names a folder."""
    pictures = os.environ.get("ONCOSEG_PICTURES") or str(tmp_path_factory.mktemp("pictures"))
    x, y, z = header_of(scan[SLICE + 1]).ImagePositionPatient
    spacing = header_of(scan[SLICE]).PixelSpacing
    world = [float(x + (PIXEL[0] - 0.5) * spacing[1]), float(y + (PIXEL[1] - 0.5) * spacing[0]), float(z)]
    plan = {
        "playwright": str(tools / "playwright-core"), "chromium": CHROMIUM, "origin": origin, "pictures": pictures,
        "world": world, "token": ENVIRONMENT["ONCOSEG_TEST_TOKEN"], "patient": "Demonstration", "source": "pacs", "study": DEMONSTRATION_STUDY,
        "sop": str(header_of(scan[SLICE]).SOPInstanceUID), "pixel": PIXEL, "beside": (PIXEL[0] - 12, PIXEL[1] + 3), "stroke": STROKE,
    }  # fmt: skip
    return {**browse("visit.mjs", plan, VISIT_SECONDS), "sop": plan["sop"]}


def browse(script, plan, seconds):
    """What a script of ``browser/`` saw."""
    command = ["node", BROWSER / script, json.dumps(plan)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert "failed" not in seen, json.dumps({key: seen.get(key) for key in ("failed", "panel", "problems", "seconds")})
    return seen


@pytest.fixture(scope="module")
def faults(tmp_path_factory, origin, tools):
    pictures = os.environ.get("ONCOSEG_PICTURES") or str(tmp_path_factory.mktemp("faults"))
    plan = {
        "playwright": str(tools / "playwright-core"), "chromium": CHROMIUM, "origin": origin, "pictures": pictures,
        "token": ENVIRONMENT["ONCOSEG_TEST_TOKEN"], "source": "pacs", "study": DEMONSTRATION_STUDY,
    }  # fmt: skip
    return browse("faults.mjs", plan, 120)


@pytest.fixture(scope="module")
def by_command(tmp_path_factory, scan, visit):
    """What ``oncoseg segment`` makes of the same prompt on the same files."""
    folder = tmp_path_factory.mktemp("command")
    ((x, y),) = visit["click"]["sent"]["hints"][0]["points"]
    command = [
        "segment", scan[0].parent, "--model", "litemedsam", "--point", f"{x},{y}", "--slice", str(SLICE),
        "--modality", "ct", "--output", folder / "mask.nii.gz",
    ]  # fmt: skip
    done = subprocess.run(
        [*ONCOSEG, *command], capture_output=True, text=True, env=ENVIRONMENT, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def mask_of(slices, sop):
    """The mask ``(y, x)`` of a slice as the browser had it."""
    if sop not in slices:
        return np.zeros((COLUMNS, COLUMNS), bool)
    runs = slices[sop]["runs"]
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(-1, slices[sop]["columns"])


def test_the_mask_is_where_the_click_was(visit):
    mask = mask_of(visit["clicked"]["masks"], visit["sop"])
    x, y = (int(value) for value in PIXEL)
    assert mask[y, x]
    assert list(visit["clicked"]["masks"]) == [visit["sop"]]
    rows, columns = np.nonzero(mask)
    assert abs(columns.mean() - x) < 12
    assert abs(rows.mean() - y) < 12


def test_the_click_was_sent_as_pixels_of_the_stored_slice(visit):
    sent = visit["click"]["sent"]
    assert sent["slice"] == SLICE
    assert sent["hints"][0]["points"][0] == pytest.approx(PIXEL, abs=1)


def test_it_is_seen_on_the_screen(visit):
    assert abs(visit["before"]["colour"]) < 5
    assert visit["clicked"]["colour"] > 40
    assert abs(visit["undone"]["colour"]) < 5


def test_the_diameter_is_the_commands(visit, by_command):
    structure = json.loads((by_command / "mask.json").read_text())["structures"][0]
    expected = structure["measurements"]["diameters"]["longest"]["mm"]
    row = visit["clicked"]["panel"]["rows"]["Long × short"]
    long, short = (float(value) for value in re.fullmatch(r"([\d.]+) × ([\d.]+) mm", row).groups())
    assert long == pytest.approx(expected, abs=1)
    assert short < long
    assert f"{long:.1f} mm" in visit["clicked"]["panel"]["drawn"]


def test_the_mask_is_the_commands_pixel_by_pixel(visit, by_command):
    (expected,) = read_volume(by_command / "mask.nii.gz", "ct").voxels
    mask = mask_of(visit["clicked"]["masks"], visit["sop"])
    assert mask.any()
    assert np.array_equal(mask, expected[SLICE] > 0)


def test_undo_takes_it_away_and_redo_brings_it_back(visit):
    assert visit["undone"]["masks"] == {}
    assert visit["redone"]["masks"] == visit["clicked"]["masks"]


def test_a_stroke_of_ohifs_brush_is_an_edit(visit):
    assert visit["stroke"]["status"] == 200
    sent = visit["stroke"]["sent"]
    assert (sent["step"], sent["slice"]) == ("edit", SLICE)
    before, after = (mask_of(visit[when]["masks"], visit["sop"]) for when in ("clicked", "edited"))
    added = after & ~before
    assert (after >= before).all()
    assert added.sum() > 100
    _, columns = np.nonzero(added)
    assert abs(columns.mean() - (STROKE["from"][0] + STROKE["to"][0]) / 2) < 6
    assert visit["unedited"]["masks"] == visit["clicked"]["masks"]


def test_a_propagation_follows_the_tumour(visit):
    followed = visit["followed"]
    assert len(followed["masks"]) > 5
    assert visit["sop"] in followed["masks"]
    assert re.fullmatch(r"[\d.]+ ml", followed["panel"]["rows"]["Volume"])


def test_saving_says_what_was_read_back(visit, pacs):
    assert visit["save"]["status"] == 201
    assert visit["saved"]["saved"].startswith("Saved and read back: SEG, RTSTRUCT, SR.")
    series = json.loads(pacs.get(f"/dicom-web/studies/{DEMONSTRATION_STUDY}/series"))
    assert sorted(one["00080060"]["Value"][0] for one in series) == ["CT", "RTSTRUCT", "SEG", "SR"]
    assert DEMONSTRATION_SERIES in {one["0020000E"]["Value"][0] for one in series}


def test_after_a_reload_the_seg_is_there_with_the_same_voxels(visit):
    (seg,) = visit["reloaded"]
    assert seg["slices"] == visit["followed"]["masks"]


def test_a_click_in_another_plane_is_a_prompt_on_its_slice(visit):
    sent = visit["coronal"]["sent"]
    assert sent["slice"] == SLICE + 1
    assert sent["hints"][0]["points"][0] == pytest.approx(PIXEL, abs=3)


def test_a_reload_loses_no_unsaved_work(visit):
    assert visit["again"]["notice"] == "What was not saved before is here again."
    assert visit["again"]["rows"].keys() >= {"Long × short", "Volume"}


def test_nothing_was_loaded_from_anywhere_else(visit, origin):
    assert set(visit["origins"]) - {"null"} == {origin}
    assert not [problem for problem in visit["problems"] if "Content Security Policy" in problem]
    assert "token" not in visit["address"]


FAULTS = {
    "wrong_port": ("unreachable", "lost", "the address and port are right"),
    "wrong_token": ("unauthorized", None, "refuses the token"),
    "pacs_down": ("source_unreachable", "failed", "check that the archive runs"),
    "series_gone": ("not_found", "failed", "no such series"),
    "model_missing": ("model_unavailable", "failed", "weights of `litemedsam`"),
    "gpu_out_of_memory": ("out_of_memory", "ready", "GPU ran out of memory"),
    "other_image": ("other_image", "failed", "another image than this viewer shows"),
    "full_disk": ("disk_full", "ready", "disk is full"),
    "lease_taken": ("lease_taken", "failed", "belongs to somebody else"),
    "version_mismatch": ("version_mismatch", "failed", "version 2; reload the page"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_named_in_one_sentence(faults, fault):
    code, phase, words = FAULTS[fault]
    seen = faults["faults"][fault]
    assert (seen["code"], seen.get("phase")) == (code, phase)
    assert words in seen["error"]
    assert re.fullmatch(r"[A-Z].*[^.]\.", seen["error"])
    assert ". " not in seen["error"]


def test_the_stand_in_answers_with_the_servers_codes():
    script = (BROWSER / "faults.mjs").read_text()
    used = re.findall(r"failure\('\w+', (\d+), '(\w+)'", script)
    assert len(used) == 6
    assert all(STATUS[code] == int(status) for status, code in used)


def test_after_a_lost_server_the_work_goes_on(faults):
    assert "answers again; the session was opened again with its" in faults["back"]["notice"]
    assert faults["back"]["steps"] == faults["back"]["before"] > 0
    assert faults["problems"] == []


def test_the_list_of_structures(faults):
    assert faults["renamed"] == ["GTV primary"]
    assert faults["added"] == ["GTV primary", "Lesion"]
    assert faults["removed"]["step"] == {"step": "remove", "structure": "GTV primary"}
    assert faults["removed"]["structures"] == ["Lesion"]


def test_a_box_is_sent_with_its_lower_corner_first(faults):
    box = faults["box"]
    assert box["structure"] == "Lesion"
    (hint,) = box["hints"]
    assert hint["kind"] == "box"
    assert np.allclose(hint["points"], [[300.5, 310.5], [340.5, 360.5]], atol=1)
