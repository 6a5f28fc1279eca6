"""How long a program waits for a server of its own, and how soon that is gone when the program is killed.

A program starts ``oncoseg serve --child`` by ``LocalServer``, sends the chest CT of the samples, and prompts and
follows a structure again and again; it is killed (SIGKILL) at a random moment of that, and the time until its child has
ended is taken.

    python benchmarks/peers/server_child.py                        # 20 kills
    python benchmarks/peers/server_child.py --kills 2 --output /tmp   # to try it

The record is ``server_child.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from server_parts import TUMOUR, series_folder

from oncoseg_benchmarks.record import RESULTS, record, require, spread
from oncoseg_dicom import find_series, read_voxels

PROGRAM = """
import itertools, json, sys, time
import numpy as np
from oncoseg_client import LocalServer, Voxels

start = time.perf_counter()
local = LocalServer()
begun = time.perf_counter() - start
server = local.server
answers = time.perf_counter() - start
image = np.load(sys.argv[1])
session = server.open_volume(Voxels(image["array"], image["affine"], "ct"), "litemedsam")
opened = time.perf_counter() - start
pid = local._process.pid
print(json.dumps({"pid": pid, "call": begun, "answers": answers, "opened": opened}), flush=True)
box = json.loads(sys.argv[2])
for number in itertools.count():
    session.box(f"a{number}", box["slice"], box["box"])
    session.propagate(f"a{number}")
"""


def main() -> None:
    """Measure, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the record")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        volume = read_voxels(find_series(series_folder(folder, "lung2")))
        np.savez(folder / "image.npz", array=volume.voxels[0], affine=volume.geometry.affine)
        dice = random.Random(0)  # noqa: S311 - moments to kill at
        runs = [killed(folder / "image.npz", dice.uniform(0, 4)) for _ in range(arguments.kills)]
    found: dict[str, Any] = {"kills": len(runs), "load": f"{os.getloadavg()[0]:.1f}"}
    names = {
        "call": "seconds of the call that starts it",
        "answers": "seconds until it answers",
        "opened": "seconds until a session on a CT is open",
        "gone": "seconds from the kill of the program to the end of its child",
    }
    for key, name in names.items():
        found[name] = {kind: round(value, 3) for kind, value in spread([run[key] for run in runs]).items()}
    record(
        "server_child",
        f"python benchmarks/peers/{Path(__file__).name} {' '.join(sys.argv[1:])}".strip(),
        found,
        arguments.output,
    )
    print(json.dumps(found, indent=2))


def killed(image: Path, after: float) -> dict[str, float]:
    """One program, killed so many seconds after its session is open."""
    command = [sys.executable, "-P", "-c", PROGRAM, str(image), json.dumps(TUMOUR)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None  # noqa: S101 - it is a pipe
        line = program.stdout.readline()
        require(bool(line), "the program did not get its server")
        answer: dict[str, float] = json.loads(line)
        time.sleep(after)
        require(not ended(int(answer["pid"])), "the child runs")
        program.kill()
        start = time.perf_counter()
        while not ended(int(answer["pid"])):
            require(time.perf_counter() - start < 60, "the child outlived its parent")
            time.sleep(0.002)
        return {**answer, "gone": time.perf_counter() - start}


def ended(pid: int) -> bool:
    """Whether a process is no more, or waits for nobody but who would collect its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


if __name__ == "__main__":
    main()
