"""Many series at once over several associations: does the node lose none, stay small, and keep up with a bare SCP?

DCMTK's storescu sends; each association is a process with its share of the series. The bare SCP is pynetdicom's own
with a handler that writes what comes and answers success, without sync, queue or check. The quick one is the same with
the node's way of reading from the socket, which does not let senders wait for acknowledgements: beside it stands what
sync, queue and check cost. All run in processes of their own, one after the other, as often as ``--repeats`` says; the
medians are compared. What each stored is compared with what was sent, pixel by pixel.

    python benchmarks/peers/node_receive.py                               # 100 series of 60 slices of 64 x 64
    python benchmarks/peers/node_receive.py --series 20 --side 512 --name node_receive_512
    python benchmarks/peers/node_receive.py --series 4 --slices 5 --output scratch
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pynetdicom import AE, AllStoragePresentationContexts, evt

from oncoseg_benchmarks.record import RESULTS, record, require, spread
from oncoseg_dicom import write_series
from oncoseg_node.config.settings import NodeSettings
from oncoseg_node.queue.queue import Queue
from oncoseg_node.receiving.connections import MOST_PDU_BYTES, bound_reads
from oncoseg_node.receiving.intake import Intake
from oncoseg_node.receiving.scp import start_scp

LEAST_SHARE = 0.8
KINDS = ("bare", "quick", "node")


def main() -> None:
    """Measure, compare, record; or be one of the servers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=100)
    parser.add_argument("--slices", type=int, default=60)
    parser.add_argument("--side", type=int, default=64, help="rows and columns of a slice")
    parser.add_argument("--associations", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--name", default="node_receive", help="of the record")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the record")
    parser.add_argument("--serve", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.data)
        return
    with tempfile.TemporaryDirectory() as scratch:
        found = measured(Path(scratch), arguments)
    command = f"python benchmarks/peers/{Path(__file__).name} {' '.join(sys.argv[1:])}".rstrip()
    record(arguments.name, command, found, arguments.output)
    print(json.dumps(found, indent=2))


def measured(scratch: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Send everything to both, in turn."""
    sent = made(scratch / "sent", arguments)
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    memory: dict[str, list[float]] = {kind: [] for kind in KINDS}
    processor: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for turn in range(arguments.repeats):
        for kind in KINDS if turn % 2 == 0 else KINDS[::-1]:
            data = scratch / kind
            with server(kind, data) as (port, pid):
                before = processor_seconds(pid)
                start = time.perf_counter()
                send_all(scratch / "sent", port, arguments.associations)
                seconds = time.perf_counter() - start
                rates[kind].append(len(sent) / seconds)
                memory[kind].append(peak_of(pid))
                processor[kind].append(1000 * (processor_seconds(pid) - before) / len(sent))
            compare(sent, data, kind)
            shutil.rmtree(data)
    medians = {kind: float(np.median(values)) for kind, values in rates.items()}
    share = medians["node"] / medians["bare"]
    require(share >= LEAST_SHARE, f"the node receives {share:.2f} of the bare rate; expected {LEAST_SHARE}: {medians}")
    return {
        "instances": len(sent),
        "bytes_each": next((scratch / "sent").rglob("*.dcm")).stat().st_size,
        "associations": arguments.associations,
        "sender": version_of(storescu()),
        "instances_per_second": {kind: spread(values) for kind, values in rates.items()},
        "share_of_bare": round(share, 3),
        "share_of_quick": round(medians["node"] / medians["quick"], 3),
        "processor_ms_each": {kind: spread(values) for kind, values in processor.items()},
        "peak_memory_mb": {kind: spread(values) for kind, values in memory.items()},
        "lost": 0,
        "differing": 0,
    }


def made(folder: Path, arguments: argparse.Namespace) -> dict[str, str]:
    """The series, a folder for each association; digests of pixels by SOP instance."""
    dice = np.random.default_rng(1)
    digests = {}
    for number in range(arguments.series):
        voxels = dice.integers(-1000, 1000, (arguments.slices, arguments.side, arguments.side)).astype(np.int16)
        origins = [(0.0, 0.0, 3.0 * z) for z in range(arguments.slices)]
        share = folder / str(number % arguments.associations)
        for file in write_series(share / str(number), voxels, origins):
            uid, digest = pixels_of(file)
            digests[uid] = digest
    return digests


def pixels_of(file: Path) -> tuple[str, str]:
    """A file's SOPInstanceUID and the digest of its pixels."""
    dataset = pydicom.dcmread(file)
    return str(dataset.SOPInstanceUID), hashlib.sha256(dataset.PixelData).hexdigest()


def compare(sent: dict[str, str], data: Path, kind: str) -> None:
    """Stop unless all that was sent is stored, once and equal."""
    stored = [pixels_of(file) for file in data.rglob("*.dcm")]
    require(len(stored) == len(sent), f"{kind}: {len(stored)} files for {len(sent)} instances")
    require(dict(stored) == sent, f"{kind}: what is stored is not what was sent")
    require(not list(data.rglob("*.partial")), f"{kind}: half files are left")
    if kind == "node":
        queue = Queue(data)
        require(len(queue.jobs()) == len({job.series_uid for job in queue.jobs()}), "a series has two jobs")
        queue.close()


def send_all(folder: Path, port: int, associations: int) -> None:
    """All folders at once, one association each."""
    command = [storescu(), "-aec", "ONCOSEG", "+sd", "+r", "127.0.0.1", str(port)]
    senders = [
        subprocess.Popen([*command, str(folder / str(number))], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for number in range(associations)
        if (folder / str(number)).is_dir()
    ]
    for sender in senders:
        _, errors = sender.communicate()
        require(sender.returncode == 0, f"storescu failed: {errors.decode(errors='replace')[:400]}")


def storescu() -> str:
    """DCMTK's, not the program of the same name that pynetdicom installs."""
    require(Path("/usr/bin/storescu").exists(), "DCMTK is not installed: apt-get install dcmtk")
    return "/usr/bin/storescu"


def version_of(program: str) -> str:
    """The first line of what a program says of itself."""
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.splitlines()[0]


@contextmanager
def server(kind: str, data: Path) -> Iterator[tuple[int, int]]:
    """A server in a process of its own: its port and its process."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", kind, "--data", str(data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None  # noqa: S101 - a pipe
    assert process.stdin is not None  # noqa: S101
    try:
        yield int(process.stdout.readline()), process.pid
    finally:
        process.stdin.close()
        process.wait(30)


def peak_of(pid: int) -> float:
    """Peak of resident memory in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def processor_seconds(pid: int) -> float:
    """What a process has used of the processors so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve(kind: str, data: Path) -> None:
    """Serve until standard input ends."""
    data.mkdir(parents=True)
    if kind != "node":
        bare = AE("ONCOSEG")
        bare.supported_contexts = AllStoragePresentationContexts
        (data / "images").mkdir()
        handlers: list[Any] = [(evt.EVT_C_STORE, write, [data])]
        if kind == "quick":
            bare.maximum_pdu_size = MOST_PDU_BYTES
            handlers.append((evt.EVT_CONN_OPEN, lambda event: bound_reads(event.assoc.dul.socket)))
        running = bare.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        print(running.socket.getsockname()[1], flush=True)
        sys.stdin.read()
        bare.shutdown()
        return
    settings = NodeSettings.model_validate(
        {
            "data": data,
            "receive": {"dicom": {"port": 0}},
            "rules": [
                {"name": "any", "when": {"Modality": {"equals": "CT"}}, "protocol": "thorax", "models": ["thresholds"]}
            ],
            "models": {"thresholds": {"model": "ct-thresholds"}},
        }
    )
    queue = Queue(data)
    assert settings.receive.dicom is not None  # noqa: S101 - given above
    with start_scp(settings.receive.dicom, Intake(queue, settings)) as scp:
        print(scp.port, flush=True)
        sys.stdin.read()
    queue.close()


def write(event: Any, data: Path) -> int:
    """What the simplest SCP does."""
    path = data / "images" / f"{event.request.AffectedSOPInstanceUID}.dcm"
    path.write_bytes(event.encoded_dataset())
    return 0x0000


if __name__ == "__main__":
    main()
