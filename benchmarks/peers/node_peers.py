"""What stands around a node in a measurement: real studies, a scanner that sends again, Orthanc, the processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pynetdicom import AE
from server_parts import free_port

from oncoseg_core import DatasetSpec, load_plugins
from oncoseg_core.imaging import read_image
from oncoseg_dicom import write_series

PROGRAM = "from oncoseg_core.cli.app import main; main()"
NODE_TITLE, ARCHIVE_TITLE = "ONCOSEG", "ARCHIVE"
STEP = (3, 4, 4)
"""Of lung1, every third slice, row and column of four: a study is small, and the body and the lungs are a patient's."""


class Study(NamedTuple):
    """A folder with one CT series."""

    folder: Path
    study_uid: str
    series_uid: str
    files: list[Path]


def write_studies(scratch: Path, count: int) -> list[Study]:
    """Studies of one real chest, each with noise of its own of a few Hounsfield units."""
    registry = load_plugins()
    samples = registry.build(DatasetSpec, "samples", {})
    folder = samples.fetch(lambda *_: None)
    case = next(case for case in samples.discover(folder) if case.case_id == "lung1")
    volume = read_image(registry, Path(case.images[0]))
    spacing = volume.geometry.spacing
    voxels = np.rint(volume.voxels[0]).astype(np.int16)[:: STEP[0], :: STEP[1], :: STEP[2]]
    origins = [(0.0, 0.0, round(index * spacing[0] * STEP[0], 4)) for index in range(len(voxels))]
    pixels = (round(float(spacing[1]) * STEP[1], 4), round(float(spacing[2]) * STEP[2], 4))
    return [_write_study(scratch / f"study-{number:03d}", voxels, origins, pixels, number) for number in range(count)]


def _write_study(
    folder: Path, voxels: np.ndarray, origins: list[tuple[float, float, float]], pixels: tuple[float, float], seed: int
) -> Study:
    noise = np.random.default_rng(seed).integers(-3, 4, voxels.shape).astype(np.int16)
    attributes = {"BodyPartExamined": "CHEST"}
    files = write_series(folder, voxels + noise, origins, pixel_spacing=pixels, attributes=attributes)
    header = pydicom.dcmread(files[0], stop_before_pixels=True)
    return Study(folder, str(header.StudyInstanceUID), str(header.SeriesInstanceUID), files)


class Scanner:
    """Sends studies one after the other in a thread, and each again until every image was answered with success."""

    def __init__(self, port: int, studies: list[Study], may_go: Callable[[int], bool]) -> None:
        self._port, self._studies, self._may_go = port, studies, may_go
        self.sent, self.attempts, self.sending = 0, 0, False
        self._most = len(studies)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether all were sent."""
        return not self._thread.is_alive()

    def limit(self, studies: int) -> None:
        """Send no more than so many, and those that were begun."""
        self._most = studies

    def _run(self) -> None:
        for number, study in enumerate(self._studies):
            while number < self._most and not self._may_go(number):
                time.sleep(0.02)
            if number >= self._most:
                return
            self.sending = True
            while not self._send(study):
                time.sleep(0.3)
            self.sending = False
            self.sent += 1

    def _send(self, study: Study) -> bool:
        self.attempts += 1
        entity = AE("SCANNER")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
        first = pydicom.dcmread(study.files[0], stop_before_pixels=True)
        entity.add_requested_context(first.SOPClassUID, first.file_meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", self._port, ae_title=NODE_TITLE)
        if not association.is_established:
            return False
        try:
            for path in study.files:
                if not association.is_established:
                    return False
                if getattr(association.send_c_store(pydicom.dcmread(path)), "Status", None) != 0:
                    return False
        except (RuntimeError, ValueError, OSError):  # the node was killed meanwhile
            return False
        finally:
            if association.is_established:
                association.release()
        return True


class Orthanc:
    """A real archive on loopback, that can be killed and started again on its files."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise SystemExit("Orthanc is not installed: apt-get install orthanc")
        self._program, self._folder = program, folder
        self.dicom_port, self._http = free_port(), free_port()
        folder.mkdir(parents=True)
        settings = {
            "Name": "archive",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "index"),
            "DicomPort": self.dicom_port,
            "DicomAet": ARCHIVE_TITLE,
            "HttpPort": self._http,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomModalities": {"node": {"AET": NODE_TITLE, "Host": "127.0.0.1", "Port": 1}},
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        with (self._folder / "orthanc.log").open("ab") as log:
            self.process = subprocess.Popen([self._program, self._folder / "orthanc.json"], stdout=log, stderr=log)
        for _ in range(300):
            with suppress(OSError):
                self._ask("/system")
                return
            time.sleep(0.05)
        raise RuntimeError("Orthanc does not answer")

    def kill(self) -> None:
        """With -9."""
        self.process.kill()
        self.process.wait()

    def objects(self, study_uid: str, modality: str) -> list[bytes]:
        """The files of a study's objects of a modality."""
        query = {"Level": "Instance", "Query": {"StudyInstanceUID": study_uid, "Modality": modality}}
        names = json.loads(self._ask("/tools/find", json.dumps(query).encode()))
        return [self._ask(f"/instances/{name}/file") for name in names]

    def _ask(self, path: str, body: bytes | None = None) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._http}{path}", body, timeout=20) as reply:
            return bytes(reply.read())


class NodeProcess:
    """``oncoseg node run``, and the workers that it starts."""

    def __init__(self, config: Path, port: int, data: Path, log: Path) -> None:
        self._config, self._port, self._log = config, port, log
        self.database = data / "queue.sqlite"
        self.starts = 0
        self.start()

    def start(self) -> None:
        """Start it, without waiting."""
        self.starts += 1
        with self._log.open("ab") as log:
            command = [sys.executable, "-c", PROGRAM, "node", "run", str(self._config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def wait(self) -> None:
        """Until it listens."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"the node ended: {self._log.read_text()[-2000:]}")
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
                return
            time.sleep(0.05)
        raise RuntimeError("the node does not listen")

    def kill(self) -> None:
        """With -9."""
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """By SIGTERM; the exit status."""
        self.process.terminate()
        return self.process.wait(60)

    def worker(self, name: str) -> int | None:
        """The process of a worker, by the beginning of its name; one of several at random."""
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if b"oncoseg_node.work.worker" in words and words[-2].decode().startswith(name):
                    parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                    if parent == self.process.pid:
                        return int(folder.name)
        return None

    def kill_worker(self, name: str) -> bool:
        """With -9; False where there is none."""
        pid = self.worker(name)
        if pid is None:
            return False
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return True
        return False

    def jobs(self) -> list[dict[str, Any]]:
        """State, owner and reason of each job; empty before the queue is there."""
        with suppress(sqlite3.Error):
            connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=5)
            connection.row_factory = sqlite3.Row
            try:
                return [dict(row) for row in connection.execute("SELECT * FROM jobs ORDER BY id")]
            finally:
                connection.close()
        return []
