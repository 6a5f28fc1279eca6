"""Kill -9 at random moments of a series' way: does every study end with one right structure set, or a named failure?

A scanner sends small studies of a real chest to a node, which contours body and lungs by rules and sends them to
Orthanc by C-STORE. Meanwhile the node, its workers, or Orthanc are killed, one at a time, in the middle of receiving,
examining, segmenting, writing, sending and confirming, and while the node starts. At the end every structure set in
Orthanc is read back and compared, voxel by voxel, with what the model answers in this process.

    python benchmarks/peers/node_kills.py                      # 100 studies, 100 kills
    python benchmarks/peers/node_kills.py --kills 8 --dry      # small, and recorded nowhere
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import yaml
from node_peers import ARCHIVE_TITLE, NODE_TITLE, NodeProcess, Orthanc, Scanner, Study, write_studies

from oncoseg_benchmarks.record import RESULTS, record
from oncoseg_core import AutomaticModelSpec, load_plugins
from oncoseg_dicom import find_series, read_structures, read_voxels
from oncoseg_node.audit.chain import verify

STRUCTURES = ("External", "Lung_L", "Lung_R")
ENDS = {"confirmed", "refused", "failed"}
PHASES: dict[str, tuple[str, ...]] = {
    "receive": ("node",),
    "received": ("node", "examiner", "examiner"),
    "complete": ("node", "device"),
    "segmented": ("node", "device"),
    "checked": ("node", "sender", "archive"),
    "sent": ("node", "sender", "archive"),
    "start": ("node",),
}
"""What is killed while a job is in a state; ``receive`` is during an association, ``start`` soon after a kill."""
LONGEST = {
    "receive": 0.3,
    "received": 1.0,
    "complete": 0.4,
    "segmented": 0.4,
    "checked": 0.2,
    "sent": 0.2,
    "start": 1.5,
}
"""Seconds from the begin of a phase to the kill, at most."""
WAIT_SECONDS = 30.0
FIRST_PORT = 21_100
"""Below those that the system gives to connections: while a node is down, nobody else takes its port."""
AHEAD = 3
"""Studies that are on their way at once."""


def main() -> None:
    """Kill, judge, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="as many studies are sent")
    parser.add_argument("--nodes", type=int, default=4, help="that run at once, each with an Orthanc of its own")
    parser.add_argument(
        "--minutes", type=float, default=60, help="kill no more, and send no more studies, after so many"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry", action="store_true", help="recorded nowhere")
    parser.add_argument("--work", type=Path, help="where files are made (default: a temporary folder)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the record")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.work) as scratch:
        found = all_killed(Path(scratch), arguments)
    if not arguments.dry:
        command = f"python benchmarks/peers/{Path(__file__).name} {' '.join(sys.argv[1:])}".rstrip()
        record("node_kills", command, found, arguments.output)
    print(json.dumps(found, indent=2))


def all_killed(scratch: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The kills, shared out to the nodes, and what was found at all of them."""
    shares = [len(range(number, arguments.kills, arguments.nodes)) for number in range(arguments.nodes)]
    begin = time.monotonic()

    def one(number: int) -> dict[str, Any]:
        dice = random.Random(f"{arguments.seed} {number}")  # noqa: S311 - nothing secret
        port = FIRST_PORT + number
        return killed(scratch / f"node-{number}", shares[number], arguments.minutes * 60, dice, port)

    with ThreadPoolExecutor(arguments.nodes) as pool:
        parts = list(pool.map(one, range(arguments.nodes)))
    return {"nodes": arguments.nodes, **merged(parts), "seconds": round(time.monotonic() - begin)}


def merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums of what is counted, by key; all that is listed; whether all is so."""
    found: dict[str, Any] = {}
    for key, first in parts[0].items():
        values = [part[key] for part in parts]
        if isinstance(first, bool):
            found[key] = all(values)
        elif isinstance(first, dict):
            found[key] = dict(sum(map(Counter, values), Counter()))
        else:
            found[key] = sum(values, type(first)())
    return found


def killed(scratch: Path, kills: int, seconds: float, dice: random.Random, port: int) -> dict[str, Any]:
    """Start a node and its archive, kill, wait until every job has ended, and judge."""
    studies = write_studies(scratch / "studies", kills)
    archive, data = Orthanc(scratch / "archive"), scratch / "data"
    config = scratch / "node.yaml"
    config.write_text(yaml.safe_dump(settings_of(data, port, archive.dicom_port)))
    node = NodeProcess(config, port, data, scratch / "node.log")
    town = Town(node, archive, port, studies, dice)
    begin = time.monotonic()
    try:
        node.wait()
        town.go(kills, begin + seconds)
        all_ended = town.wait_for_ends()
        studies = studies[: town.scanner.sent]
        node.kill()
        node.start()  # what half was written is swept when a node starts
        node.wait()
        status = node.end()
        found = {
            "kills": len(town.kills),
            "kills by state": dict(Counter(phase for phase, _ in town.kills)),
            "kills by victim": dict(Counter(victim for _, victim in town.kills)),
            "studies": len(studies),
            "associations of the scanner": town.scanner.attempts,
            "starts of the node": node.starts,
            "all jobs ended": all_ended,
            "nodes that ended with status 0": int(status == 0),
        }
        return found | judged(scratch, data, node, archive, studies)
    except BaseException:
        print((scratch / "node.log").read_text()[-6000:], file=sys.stderr)
        raise
    finally:
        node.kill()
        archive.kill()


class Town:
    """The scanner, and who kills."""

    def __init__(
        self, node: NodeProcess, archive: Orthanc, port: int, studies: list[Study], dice: random.Random
    ) -> None:
        self._node, self._archive, self._dice = node, archive, dice
        self.kills: list[tuple[str, str]] = []
        self.finished_killing = False
        self.scanner = Scanner(port, studies, self._may_go)

    def go(self, kills: int, end: float) -> None:
        """Kill so many times, over all phases in turn, as long as there is time."""
        phases: list[str] = []
        while len(self.kills) < kills and time.monotonic() < end:
            if not phases:
                phases = list(PHASES)
                self._dice.shuffle(phases)
            self._kill(phases.pop())
        self.finished_killing = True
        self.scanner.limit(len(self.kills))

    def wait_for_ends(self) -> bool:
        """Until every study was sent and every job has ended; False where that takes too long."""
        until = time.monotonic() + 240
        while time.monotonic() < until:
            jobs = self._node.jobs()
            if self.scanner.done and len(jobs) >= self.scanner.sent and all(job["state"] in ENDS for job in jobs):
                return True
            time.sleep(0.2)
        return False

    def _may_go(self, number: int) -> bool:
        ended = sum(job["state"] in ENDS for job in self._node.jobs())
        return number - ended < AHEAD and (self.finished_killing or number <= len(self.kills) + AHEAD)

    def _kill(self, phase: str) -> None:
        victim = self._dice.choice(PHASES[phase])
        self._wait_for(phase)
        time.sleep(self._dice.uniform(0, LONGEST[phase]))
        states = sorted({job["state"] for job in self._node.jobs() if job["owner"] is not None})
        happened = "receive" if phase == "receive" and self.scanner.sending else "+".join(states) or "none at work"
        if victim == "archive":
            self._archive.kill()
            time.sleep(self._dice.uniform(0, 1))
            self._archive.start()
        elif victim == "node":
            self._node.kill()
            self._node.start()
            if phase == "start":
                self.kills.append((happened, victim))
                happened = "start"
                time.sleep(self._dice.uniform(0, LONGEST[phase]))
                self._node.kill()
                self._node.start()
            self._node.wait()
        elif not self._node.kill_worker(victim):
            return
        self.kills.append((happened, victim))

    def _wait_for(self, phase: str) -> None:
        until = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < until and phase != "start":
            if phase == "receive" and self.scanner.sending:
                return
            if phase == "received" and any(job["state"] == phase for job in self._node.jobs()):
                return
            if any(job["state"] == phase and job["owner"] is not None for job in self._node.jobs()):
                return
            time.sleep(0.02)


def settings_of(data: Path, port: int, archive_port: int) -> dict[str, Any]:
    """The node's settings: short waits, and more attempts than one study is killed."""
    return {
        "data": str(data),
        "receive": {"dicom": {"ae_title": NODE_TITLE, "port": port}},
        "quiet_seconds": 1.0,
        "rules": [
            {
                "name": "chest",
                "when": {"Modality": {"equals": "CT"}},
                "require": {"spacing_mm": [0.3, 30.0], "derived": True},
                "protocol": "thorax",
                "structures": list(STRUCTURES),
                "models": ["thresholds"],
                "destinations": ["archive"],
            }
        ],
        "models": {"thresholds": {"model": "ct-thresholds"}},
        "destinations": {
            "archive": {"kind": "dicom", "host": "127.0.0.1", "port": archive_port, "ae_title": ARCHIVE_TITLE}
        },
        "work": {"backoff_seconds": [0.5, 1.0, 2.0], "attempts": 10},
        "keep": {"free_bytes": 2**20},
        "report": {"pdf": False},
    }


# What is left.


def judged(scratch: Path, data: Path, node: NodeProcess, archive: Orthanc, studies: list[Study]) -> dict[str, Any]:
    """Structure sets in the archive, failures, files, audit."""
    jobs = {job["series_uid"]: job for job in node.jobs()}
    outcomes, wrong = Counter[str](), []
    for study in studies:
        outcome = outcome_of(study, archive, jobs.get(study.series_uid))
        outcomes[outcome] += 1
        if outcome != "one right structure set":
            wrong.append(f"{study.folder.name}: {outcome}")
    half = [path for path in data.rglob("*") if path.name.endswith(".tmp") or path.name.startswith(".partial-")]
    images = {study.series_uid: len(study.files) for study in studies}
    lost = [uid for uid, job in jobs.items() if job["instances"] != images[uid] and job["state"] == "confirmed"]
    audit = verify(data / "audit")
    (scratch / "jobs.json").write_text(json.dumps(list(jobs.values()), default=str))
    return {
        "outcomes": dict(outcomes),
        "not right": wrong[:20],
        "jobs": len(node.jobs()),
        "series with lost images": len(lost),
        "half files": [path.name for path in half],
        "audit lines": audit.lines,
        "audits intact": audit.intact,
        "audit lines repaired": sum(
            b'"event": "repaired"' in line
            for path in (data / "audit").glob("*.jsonl")
            for line in path.read_bytes().splitlines()
        ),
    }


def outcome_of(study: Study, archive: Orthanc, job: dict[str, Any] | None) -> str:
    """One right structure set, or what is there instead."""
    sets = archive.objects(study.study_uid, "RTSTRUCT")
    state = "no job" if job is None else job["state"]
    if state in {"failed", "refused"} and len(sets) <= 1:
        return f"{state}: {job['reason'][:120] if job else ''}"
    if len(sets) != 1:
        return f"{len(sets)} structure sets, {state}"
    series = find_series(study.folder)
    there = read_structures(pydicom.dcmread(io.BytesIO(sets[0])), series).masks
    registry = load_plugins()
    model = registry.build(AutomaticModelSpec, "ct-thresholds", {})
    expected = model.segment(read_voxels(series), STRUCTURES, lambda *_: None).masks
    if set(there) != set(STRUCTURES):
        return f"a structure set of {', '.join(there)}"
    if not all(np.array_equal(there[name], expected[name]) for name in STRUCTURES):
        return "a wrong structure set"
    return "one right structure set" if state == "confirmed" else f"a right structure set, and the job is {state}"


if __name__ == "__main__":
    main()
