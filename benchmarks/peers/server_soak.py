"""Half an hour of many users, with accidents: is every mask right, is nothing that was saved lost, does memory stay?

Eight users in processes of their own prompt, undo, draw, follow and save on three series. Users are killed, the server
is killed with -9 twice, and its disk is full for a while (a tmpfs; only as root). Every mask that a user gets is
compared with what the engine answered to the same prompt before, in this process; every SEG that was said to be saved
is read again at the end.

    python benchmarks/peers/server_soak.py                # 30 minutes
    python benchmarks/peers/server_soak.py --minutes 3 --output scratch
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import yaml
from server_parts import free_port, series_folder, started

from oncoseg_benchmarks.record import RESULTS, record
from oncoseg_client import Server
from oncoseg_core import load_plugins
from oncoseg_dicom import find_series, read_segments, read_voxels
from oncoseg_segment import api

USERS = 8
SERIES = {"lung1": "CT", "lung2": "CT", "brain1": "MR"}
MODEL = {"model": "litemedsam", "model_settings": {"engine": "auto"}}
USER = Path(__file__).with_name("server_user.py")
FULL_SECONDS = 45


def main() -> None:
    """Run, judge, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the record")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = soaked(Path(scratch), arguments.minutes * 60)
    command = f"python benchmarks/peers/{Path(__file__).name} {' '.join(sys.argv[1:])}".rstrip()
    record("server_soak", command, found, arguments.output)
    print(json.dumps(found, indent=2))


# The whole.


def soaked(scratch: Path, seconds: float) -> dict[str, Any]:
    """Start everything, let it work, and judge what is left."""
    store = scratch / "store"
    store.mkdir()
    small = os.geteuid() == 0
    if small:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(store)], check=True)
    try:
        for name, modality in SERIES.items():
            series_folder(store, name, modality)
        answers(scratch, store)
        return run(scratch, store, seconds, small=small)
    finally:
        if small:
            subprocess.run(["umount", "-l", str(store)], check=False)


def answers(scratch: Path, store: Path) -> None:
    """What the engine answers to each prompt that users may give, for them to compare with."""
    for name in SERIES:
        volume = read_voxels(find_series(store / name))
        depth, height, width = volume.geometry.shape
        prompts, masks = prompts_on(depth, height, width), []
        with api.Session(volume, api.SegmentSettings(**MODEL), registry=load_plugins()) as session:
            for one in prompts:
                hint = api.Hint(one["kind"], one["numbers"])
                result = session.add(api.StructureRequest("any", (hint,), slice_index=one["slice"]), replaced=True)
                masks.append(np.packbits(result.structures[0].mask[one["slice"]]))
        np.savez(scratch / f"{name}.npz", masks=np.array(masks), shape=np.array([height, width]))
        uids = find_series(store / name).header
        told = {"prompts": prompts, "study": uids.StudyInstanceUID, "series": uids.SeriesInstanceUID}
        (scratch / f"{name}.json").write_text(json.dumps(told))


def prompts_on(depth: int, height: int, width: int) -> list[dict[str, Any]]:
    """Six boxes and clicks on each of four slices."""
    dice = np.random.default_rng(depth)
    prompts = []
    for index in dice.choice(np.arange(3, depth - 3), 4, replace=False).tolist():
        for number in range(6):
            size = dice.uniform(width / 12, width / 4)
            x, y = dice.uniform(width / 4, width * 0.7), dice.uniform(height / 4, height * 0.7)
            kind, numbers = ("box", (x, y, x + size, y + size)) if number % 3 else ("point", (x, y))
            prompts.append({"kind": kind, "numbers": numbers, "slice": index})
    return prompts


def run(scratch: Path, store: Path, seconds: float, *, small: bool) -> dict[str, Any]:
    """Users, accidents, and the count of what happened."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    config = scratch / "server.yaml"
    settings = {
        "port": port,
        "models": {"litemedsam": MODEL},
        "sources": {"scans": {"folder": {"path": str(store)}}},
        "limits": {"lease_seconds": 20, "embeddings_mb": 300},
    }
    config.write_text(yaml.safe_dump(settings))
    town = Town(scratch, config, url, store / "filler")
    kills, full, next_kill = [seconds / 3, 2 * seconds / 3], seconds / 2 if small else math.inf, 20.0
    start = time.monotonic()
    try:
        while (at := time.monotonic() - start) < seconds:
            time.sleep(2)
            town.look_after(at)
            if kills and at > kills[0]:
                kills.pop(0)
                town.kill_server()
            if at > next_kill:
                town.kill_a_user()
                next_kill = at + town.dice.uniform(20, 60)
            if at > full:
                full = math.inf
                town.fill_disk(until=at + FULL_SECONDS)
    finally:
        town.close()
    told = {"minutes": seconds / 60, "users": USERS, "accidents": dict(town.accidents)}
    return told | judged(scratch, store, town.memory)


class Town:
    """The server, its users, and the accidents that happen to them."""

    def __init__(self, scratch: Path, config: Path, url: str, filler: Path) -> None:
        self._scratch, self._config, self._url, self._filler = scratch, config, url, filler
        self.dice = random.Random(1)  # noqa: S311 - nothing secret
        self.accidents: Counter[str] = Counter()
        self.memory: list[list[tuple[float, float]]] = []
        self._emptied = math.inf
        self._serve()
        self._users = [self._spawn(number) for number in range(USERS)]

    def look_after(self, at: float) -> None:
        """Measure the server's memory; start one anew that died, and empty the disk in time."""
        if self._server.poll() is not None:
            self.accidents["the server died by itself"] += 1
            self._serve()
        self.memory[-1].append((at, resident_mb(self._server.pid)))
        if at > self._emptied:
            self._filler.unlink(missing_ok=True)
            self._emptied = math.inf

    def kill_server(self) -> None:
        """With -9; three seconds later there is a new one."""
        self._server.send_signal(signal.SIGKILL)
        self._server.wait()
        self.accidents["server killed"] += 1
        time.sleep(3)
        self._serve()

    def kill_a_user(self) -> None:
        """With -9; another one takes the seat."""
        number = self.dice.randrange(USERS)
        self._users[number].kill()
        self._users[number].wait()
        self._users[number] = self._spawn(number)
        self.accidents["users killed"] += 1

    def fill_disk(self, until: float) -> None:
        """Take all space that is left, for a while."""
        fill(self._filler)
        self._emptied = until
        self.accidents["disk filled"] += 1

    def close(self) -> None:
        """Users finish their step; then the server ends."""
        self._filler.unlink(missing_ok=True)
        for user in self._users:
            user.terminate()
        for process in (*self._users, self._server):
            if process is self._server:
                process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=90)
            process.kill()

    def _serve(self) -> None:
        self._server = serve(self._config, self._scratch, self._url)
        self.memory.append([])

    def _spawn(self, number: int) -> subprocess.Popen[bytes]:
        return spawn(self._url, self._scratch, number, self.dice.random())


def judged(scratch: Path, store: Path, memory: list[list[tuple[float, float]]]) -> dict[str, Any]:
    """What the users told, and whether all that was saved is there."""
    events = []
    for file in sorted(scratch.glob("user-*.jsonl")):
        for line in file.read_text().splitlines():
            with suppress(ValueError):  # a user was killed while writing it
                events.append(json.loads(line))
    counts = Counter(one["what"] for one in events)
    saved = [one for one in events if one["what"] == "saved"]
    lost, differing = saved_objects(store, saved)
    refusals = Counter(f"{one['code']}: {one['message'][:160]}" for one in events if one["what"] == "refused")
    return {
        "calls": dict(counts),
        "wrong masks": [one for one in events if one["what"] == "wrong"][:20],
        "refusals": dict(refusals.most_common(40)),
        "without a cause": [
            one for one in events if one["what"] == "refused" and one["code"] in {"internal", "no_reason"}
        ],
        "saved": len(saved),
        "saved and lost": lost,
        "saved and differing": differing,
        "memory_mb": [growth(life) for life in memory],
    }


def growth(life: list[tuple[float, float]]) -> dict[str, Any]:
    """Of one life of the server: resident memory after five minutes (or half of it), and at its end."""
    begin = life[0][0] if life else 0.0
    settled = begin + min(300.0, (life[-1][0] - begin) / 2) if life else 0.0
    later = [mb for at, mb in life if at >= settled]
    if len(later) < 6:
        return {"samples": len(life)}
    third = max(1, len(later) // 3)
    return {
        "samples": len(life),
        "first third after settling, median": round(statistics.median(later[:third])),
        "last third, median": round(statistics.median(later[-third:])),
        "highest": round(max(mb for _, mb in life)),
    }


def saved_objects(store: Path, saved: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """SOP instances that are not there, and SEGs whose voxels are not those that the user had."""
    files = {}
    for file in store.rglob("*.dcm"):
        with suppress(Exception):
            header = pydicom.dcmread(file, stop_before_pixels=True)
            files[str(header.SOPInstanceUID)] = file
    lost, differing = [], []
    for one in saved:
        for made in one["objects"]:
            if made["sop_uid"] not in files:
                lost.append(made["sop_uid"])
            elif made["format"] == "seg":
                series = find_series(store / one["series"])
                structures = read_segments(pydicom.dcmread(files[made["sop_uid"]]), series)
                found = {name: int(mask.sum()) for name, mask in structures.masks.items()}
                if found != one["voxels"]:
                    differing.append(f"{made['sop_uid']}: {found} for {one['voxels']}")
    return lost, differing


def serve(config: Path, scratch: Path, url: str) -> subprocess.Popen[bytes]:
    """A server, once it answers."""
    with (scratch / "server.log").open("ab") as log:
        process = subprocess.Popen(["oncoseg", "serve", str(config)], stdout=log, stderr=log)
    with Server(url) as server:
        started(server, process, scratch / "server.log")
    return process


def spawn(url: str, scratch: Path, number: int, seed: float) -> subprocess.Popen[bytes]:
    """A user, in a process of its own."""
    command = [sys.executable, USER, url, str(scratch), str(number), str(int(seed * 1e9))]
    with (scratch / "users.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    return 0.0


def fill(file: Path) -> None:
    """Take all space that is left."""
    with suppress(OSError), file.open("wb", buffering=0) as out:
        while True:
            out.write(bytes(1024 * 1024))


if __name__ == "__main__":
    main()
