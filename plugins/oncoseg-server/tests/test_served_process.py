"""The command itself, with a real model, TLS and a token, in a network namespace that has no way out.

Started, prompted, killed, started again with the client's steps: the same masks. Ended: exit status 0, and no copy of a
series is left. The series is generated; the model is LiteMedSAM, whose answer is compared with the engine's.
"""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from oncoseg_client import decode_mask
from oncoseg_core.plugins import read_yaml
from oncoseg_dicom import find_series, read_voxels
from oncoseg_segment import api

TOKEN = "a-token-that-nobody-guesses"

INSIDE = """
import json, os, signal, ssl, subprocess, sys, time
import httpx

settings, certificate, study, series = sys.argv[1:]
CODE = "from oncoseg_core.cli.app import main; main()"
told = {"routes": subprocess.run(["ip", "route"], capture_output=True, text=True).stdout.strip()}


def start():
    process = subprocess.Popen([sys.executable, "-c", CODE, "serve", settings], stderr=subprocess.PIPE, text=True)
    while "serving at" not in (line := process.stderr.readline()):
        if process.poll() is not None or not line:
            sys.exit(f"it did not start: {line}{process.stderr.read()}")
    address = line.split("serving at ")[1].split()[0]
    assert address.startswith("https://"), address
    context = ssl.create_default_context(cafile=certificate)
    http = httpx.Client(base_url=address, verify=context, timeout=120, trust_env=False)
    assert http.get("/api/v1/server").status_code == 401
    http.headers["Authorization"] = "Bearer " + os.environ["TOKEN"]
    return process, http


def opened(http, **more):
    body = {"source": "scans", "study_uid": study, "series_uid": series, **more}
    reply = http.post("/api/v1/sessions", json=body)
    assert reply.status_code == 201, reply.text
    http.headers["X-OncoSeg-Lease"] = reply.json()["lease"]
    return f"/api/v1/sessions/{reply.json()['session']}", reply.json()["answer"]


steps = [
    {"step": "prompt", "structure": "a", "slice": 3, "hints": [{"kind": "box", "points": [[36, 26], [64, 54]]}]},
    {"step": "prompt", "structure": "a", "slice": 4, "hints": [{"kind": "point", "points": [[50, 40]]}]},
]
process, http = start()
path, _ = opened(http)
for step in steps:
    reply = http.post(path + "/steps", json=step)
    assert reply.status_code == 200, reply.text
told["before"] = http.get(path).json()["changes"]
process.kill()
process.wait()
told["left by the killed"] = len([name for name in os.listdir(os.environ["ONCOSEG_CACHE"] + "/server") if name.startswith("run-")])
process, http = start()
path, answer = opened(http, steps=steps)
told["after"] = answer["changes"]
told["folders of the next"] = len([name for name in os.listdir(os.environ["ONCOSEG_CACHE"] + "/server") if name.startswith("run-")])
process.send_signal(signal.SIGTERM)
told["exit status"] = process.wait(30)
told["left at the end"] = len([name for name in os.listdir(os.environ["ONCOSEG_CACHE"] + "/server") if name.startswith("run-")])
told["log"] = process.stderr.read()
print(json.dumps(told))
"""


def in_a_namespace(command):
    return ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command]


def can_be_cut_off():
    if not all(shutil.which(program) for program in ("unshare", "ip", "openssl")):
        return False
    return subprocess.run(in_a_namespace(["true"]), capture_output=True, check=False).returncode == 0


def masks(changes):
    found = np.zeros((8, 128, 128), bool)
    for change in changes:
        part = change["mask"]
        rows, columns = slice(part["y"], part["y"] + part["height"]), slice(part["x"], part["x"] + part["width"])
        found[change["slice"], rows, columns] = decode_mask(part)
    return found


@pytest.mark.skipif(not can_be_cut_off(), reason="needs unshare, ip, openssl and the right to make a network namespace")
def test_killed_and_started_again_without_a_network(tmp_path, scan):
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        capture_output=True, check=True,
    )  # fmt: skip
    settings = tmp_path / "server.yaml"
    settings.write_text(
        f"port: 0\ntoken_env: TOKEN\ntls: {{certificate: {certificate}, key: {key}}}\n"
        "models: {m: {model: litemedsam, model_settings: {engine: torch}}}\n"
        f"sources: {{scans: {{folder: {{path: {scan.folder.parent}}}}}}}\nencode_ahead: {{enabled: false}}\n"
    )
    script = tmp_path / "inside.py"
    script.write_text(INSIDE)
    environment = {**os.environ, "TOKEN": TOKEN, "ONCOSEG_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        in_a_namespace([sys.executable, str(script), str(settings), str(certificate), scan.study, scan.series]),
        capture_output=True, text=True, env=environment, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["routes"] == ""
    before, after = masks(told["before"]), masks(told["after"])
    assert before[3].any()
    assert before[4].any()
    assert (before == after).all()
    expected = engine_s_masks(scan, settings)
    assert (after == expected).all()
    assert told["left by the killed"] == 1
    assert told["folders of the next"] == 1
    assert told["exit status"] == 0
    assert told["left at the end"] == 0
    for secret in (scan.study, scan.series, TOKEN):
        assert secret not in told["log"]


def engine_s_masks(scan, settings):
    volume = read_voxels(find_series(scan.folder, f"uid:{scan.series}"))
    with api.Session(volume, api.SegmentSettings(**read_yaml(settings)["models"]["m"])) as session:
        session.add(api.StructureRequest("a", (api.Hint("box", (36, 26, 64, 54)),), slice_index=3))
        result = session.add(api.StructureRequest("a", (api.Hint("point", (50, 40)),), slice_index=4))
        return result.masks["a"]
