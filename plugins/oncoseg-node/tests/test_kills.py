"""The real node, killed with -9 while it receives, segments and sends: one structure set, right, and no half file.

The series is generated (a block of tissue in air); ``benchmarks/peers/node_kills.py`` does the same a hundred times with
a real chest, Orthanc, and every other moment.
"""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pydicom
import pytest
from local_orthanc import free_port
from node_parts import PRIMARY
from node_stand_ins import write_config
from pynetdicom import AE

from oncoseg_dicom import find_series, read_structures, write_series
from oncoseg_node.audit.chain import files_of, verify

PROGRAM = "from oncoseg_core.cli.app import main; main()"
SECONDS = 120
STATES = ("received", "complete", "segmented", "checked", "sent", "confirmed")


class Killed:
    """A node in a process of its own, and its queue as another process sees it."""

    def __init__(self, config, data):
        self.config, self.data = config, data
        self.start()

    def start(self):
        with (self.data.parent / "node.log").open("ab") as log:
            command = [sys.executable, "-c", PROGRAM, "node", "run", str(self.config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def until(self, holds, what):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            if answer := holds():
                return answer
            assert self.process.poll() is None, (self.data.parent / "node.log").read_text()
            time.sleep(0.02)
        pytest.fail(f"{what} did not happen: {(self.data.parent / 'node.log').read_text()}")

    def reached(self, state):
        """Whether a job is in this state, or has been."""
        address = f"file:{self.data / 'queue.sqlite'}?mode=ro"
        with suppress(sqlite3.Error), closing(sqlite3.connect(address, uri=True)) as connection:
            states = [row[0] for row in connection.execute("SELECT state FROM jobs")]
            assert "failed" not in states, (self.data.parent / "node.log").read_text()
            return bool(set(states) & set(STATES[STATES.index(state) :]))
        return False

    def kill_worker(self, name):
        """As soon as it is there."""
        pid = self.until(lambda: self.worker(name), f"worker {name}")
        os.kill(pid, signal.SIGKILL)

    def worker(self, name):
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, IndexError):
                words = (folder / "cmdline").read_bytes().split(b"\0")
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid and words[-2].decode().startswith(name):
                    return int(folder.name)
        return None


def send(files, port):
    """Whether each was answered with success."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    entity = AE("SCANNER")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    first = pydicom.dcmread(files[0])
    entity.add_requested_context(first.SOPClassUID, first.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title="ONCOSEG")
    if not association.is_established:
        return False
    statuses = [getattr(association.send_c_store(pydicom.dcmread(file)), "Status", None) for file in files]
    association.release()
    return statuses == [0] * len(files)


def test_a_study_survives_kills_while_it_is_received_segmented_and_sent(tmp_path):
    voxels = np.full((12, 48, 48), -1000, np.int16)
    voxels[:, 8:40, 10:38] = 40
    origins = [(-50.0, -50.0, 5.0 * z) for z in range(12)]
    files = write_series(tmp_path / "ct", voxels, origins, pixel_spacing=(5.0, 5.0), attributes=PRIMARY)
    port, data = free_port(), tmp_path / "data"
    config = write_config(
        tmp_path,
        rule={"structures": ["External"]},
        receive={"dicom": {"port": port}},
        quiet_seconds=0.3,
        work={"backoff_seconds": [0.05]},
        report={"pdf": False},
    )
    node = Killed(config, data)
    try:
        node.until(lambda: send(files[:5], port), "receiving")
        node.kill()
        node.start()
        node.until(lambda: send(files, port), "receiving again")
        node.until(lambda: node.reached("complete"), "segmenting")
        node.kill_worker("device")
        node.until(lambda: node.reached("checked"), "sending")
        node.kill_worker("sender")
        node.until(lambda: node.reached("confirmed"), "the end")
        assert send(files, port), "the same images again are no fault"
        node.process.terminate()
        assert node.process.wait(30) == 0
    finally:
        node.kill()
    (structures,) = (tmp_path / "drop").iterdir()
    masks = read_structures(pydicom.dcmread(structures), find_series(tmp_path / "ct")).masks
    assert list(masks) == ["External"]
    assert np.array_equal(masks["External"], voxels > 0)
    assert len(list((data / "jobs").iterdir())) == 1
    assert len(list((data / "jobs").rglob("images/*.dcm"))) == len(files)
    assert [path for path in data.rglob("*") if path.name.startswith(".partial") or path.suffix == ".tmp"] == []
    assert verify(data / "audit").intact
    events = [json.loads(line) for path in files_of(data / "audit") for line in path.read_bytes().splitlines()]
    names = [one["event"] for one in events]
    assert {name: names.count(name) for name in ("started", "segmented", "confirmed", "failed")} == {
        "started": 2,
        "segmented": 1,
        "confirmed": 1,
        "failed": 0,
    }
    # The images that came before the kill may have been quiet for long enough, and refused until the others came.
    assert [one["result"] for one in events if one["event"] == "examined"][-1] == "complete"
    assert {one["kind"] for one in events if one["event"] == "put off"} == {"crashed"}
