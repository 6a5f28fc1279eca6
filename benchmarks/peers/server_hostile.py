"""Hostile requests against a server on a real socket: no 5xx, nobody else's session changes, no file outside the roots.

schemathesis makes them from the server's own OpenAPI description, half of them right by it and half of them wrong; of
each, session and lease are those of this client, of another one, expired or made up. Between them come bodies that are
too large, paths that lead out, and series of other studies. The model is the toy of the tests, the series a generated
one: what is tried is the server.

Needs what no distribution of OncoSeg needs: ``pip install schemathesis``.

    python benchmarks/peers/server_hostile.py --requests 10000
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom
import uvicorn
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode, openapi

from oncoseg_benchmarks.record import RESULTS, record, require
from oncoseg_dicom import write_series
from oncoseg_dicomweb import PrivateFolders
from oncoseg_segment.api import SegmentSettings
from oncoseg_server.archives.folder import FolderArchive
from oncoseg_server.config.settings import ServerSettings
from oncoseg_server.web.app import create_app
from oncoseg_server.web.sources import Sources

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "shared"))

from toy_engine import registry_of  # noqa: E402

EXPECTED = {503: {"busy", "timed_out"}}
"""Codes of refusals that are no faults of the server: too much at once."""
PLACES = [
    "%2e%2e",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%252e%252e",
    "....//",
    "%00",
    "~root",
    "\\..\\",
    "C:%5c",
    "%c0%ae%c0%ae",
]
PATHS = ["/dicom-web/scans/{}", "/dicom-web/scans/studies/{}/metadata", "/dicom-web/{}/studies",
         "/api/v1/sources/{}/series", "/api/v1/sessions/{}", "/viewer/{}", "/extension/{}", "/{}"]  # fmt: skip


def main() -> None:
    """Send them, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the record")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = Attack(Path(scratch), arguments.seed).run(arguments.requests)
    record(
        "server_hostile",
        f"python benchmarks/peers/{Path(__file__).name} --requests {arguments.requests} --seed {arguments.seed}",
        found,
        arguments.output,
    )
    print(json.dumps(found, indent=2))
    require(not found["faults"], "the server failed; see `faults`")


class Attack:
    """A server, its clients, and what became of the requests."""

    def __init__(self, scratch: Path, number: int) -> None:
        self.scratch, self.number, self.random = scratch, number, random.Random(number)  # noqa: S311
        self.study, self.series = _scan(scratch / "scans" / "one")
        self.private = PrivateFolders(scratch / "private")
        self.statuses: Counter[str] = Counter()
        self.faults: list[str] = []

    def run(self, requests: int) -> dict[str, Any]:
        """Send so many requests."""
        sources = Sources({"scans": FolderArchive("scans", self.scratch / "scans", self.private)}, self.private)
        toy = SegmentSettings(model="brighter", modality="unit", model_settings={"weights": "abc"}, zoom=None)
        limits = {"sessions": 32, "sessions_per_owner": 32, "lease_seconds": 3_600, "body_mb": 1}
        app = create_app(ServerSettings(models={"toy": toy}, limits=limits), sources, registry=registry_of())
        with _listening(app) as address, httpx.Client(base_url=address, timeout=60) as self.http:
            self.own, self.victim, self.expired = self._session(), self._session(), self._session()
            self._expire(app.state.server.sessions)
            box = {"kind": "box", "points": [[38, 28], [50, 52]]}
            step = {"step": "prompt", "structure": "kept", "slice": 3, "hints": [box]}
            self.http.post(self._path(self.victim) + "/steps", json=step, headers=_lease(self.victim))
            before, files = self._state(self.victim), self._files()
            start = time.perf_counter()
            self._by_hand()
            description = openapi.from_url(f"{address}/api/v1/openapi.json")
            operations = [operation.ok() for operation in description.get_all_operations()]
            rounds = max(1, requests // (2 * len(operations)) + 1)
            for operation in operations:
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                    self._generated(operation, mode, rounds)
            seconds = time.perf_counter() - start
            if self._state(self.victim) != before:
                self.faults.append("another client's session was changed")
            if self._files() != files:
                self.faults.append("files outside the server's own folder came or went")
            alive = self.http.get("/healthz").status_code
            if alive != 200:
                self.faults.append(f"/healthz answers {alive} at the end")
        self.private.close()
        return {
            "requests": sum(self.statuses.values()),
            "seconds": round(seconds, 1),
            "operations": len(operations),
            "statuses": dict(sorted(self.statuses.items())),
            "faults": self.faults[:20],
        }

    def _generated(self, operation: Any, mode: Any, count: int) -> None:
        @seed(self.number)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode))
        def send(case: Any) -> None:
            self._aimed(case)
            self._judge(lambda: case.call(timeout=60), f"{operation.method} {operation.path} {mode.value}")

        with suppress(Unsatisfiable):  # nothing of that operation can be wrong
            send()

    def _aimed(self, case: Any) -> None:
        """Give a request a session and a lease, most often those that go together."""
        if "session" in (case.path_parameters or {}) and self.random.random() < 0.8:
            chosen = self.random.choice([self.own] * 4 + [self.victim, self.expired])
            leases = [self.own["lease"], self.expired["lease"], "x", ""]
            lease = self.own["lease"] if self.random.random() < 0.8 else self.random.choice(leases)
            case.path_parameters["session"] = chosen["session"]
            case.headers = {**(case.headers or {}), "X-OncoSeg-Lease": lease}
        if case.operation.path.endswith("/sessions") and isinstance(case.body, dict) and self.random.random() < 0.5:
            series = {"source": "scans", "study_uid": self.study, "series_uid": self.series, "model": None}
            case.body = {**case.body, **series}
        if "source" in (case.path_parameters or {}) and self.random.random() < 0.7:
            case.path_parameters["source"] = "scans"
        if isinstance(case.body, dict) and self.random.random() < 0.7:
            case.body = _within(case.body)

    def _judge(self, send: Callable[[], Any], what: str) -> None:
        try:
            reply = send()
        except Exception as error:  # noqa: BLE001 - what the client itself refuses to send
            self.statuses[f"not sent: {type(error).__name__}"] += 1
            if type(error).__name__ in {"ConnectionError", "ReadTimeout", "ConnectTimeout"}:
                self.faults.append(f"{what}: {type(error).__name__}")
            return
        status, text = reply.status_code, reply.text
        self.statuses[str(status)] += 1
        if status == 404 and "sessions/{session}" in what and self._gone():
            self.own = self._session()
        if status >= 500 and not any(f'"{code}"' in text for code in EXPECTED.get(status, ())):
            self.faults.append(f"{what}: {status} {text[:300]}")
        if "Traceback" in text or str(self.scratch) in text or "root:" in text:
            self.faults.append(f"{what}: tells of the server's inside: {text[:300]}")
        if status == 201 and '"lease"' in text:
            opened = reply.json()
            self.http.delete(self._path(opened), headers=_lease(opened))

    def _by_hand(self) -> None:
        """What no description leads to."""
        for path in PATHS:
            for place in PLACES:
                self._judge(partial(self.http.get, path.format(place)), path)
        huge = b" " * 3_000_000
        for path in ("/api/v1/sessions", self._path(self.own) + "/steps", "/nothing"):
            self._judge(partial(self.http.post, path, content=huge), "a huge body")
            self._judge(partial(self.http.post, path, content=iter([huge])), "a huge body without a length")
        for change in ({"series_uid": self.study}, {"study_uid": self.series}, {"series_uid": self.series[:-1]}):
            body = {"source": "scans", "study_uid": self.study, "series_uid": self.series, **change}
            self._judge(partial(self.http.post, "/api/v1/sessions", json=body), "another series")

    def _expire(self, sessions: Any) -> None:
        """Let a lease run out."""
        sessions._held[self.expired["session"]].seen = -1e9  # noqa: SLF001 - sooner than it would
        require(sessions.reap() == 1, "the lease did not run out")

    def _session(self) -> dict[str, Any]:
        body = {"source": "scans", "study_uid": self.study, "series_uid": self.series}
        opened: dict[str, Any] = self.http.post("/api/v1/sessions", json=body).raise_for_status().json()
        return opened

    def _gone(self) -> bool:
        return self.http.get(self._path(self.own), headers=_lease(self.own)).status_code in {404, 410}

    def _path(self, opened: dict[str, Any]) -> str:
        return f"/api/v1/sessions/{opened['session']}"

    def _state(self, opened: dict[str, Any]) -> Any:
        """A session's masks and structures; asking keeps it alive."""
        state = self.http.get(self._path(opened), headers=_lease(opened)).raise_for_status().json()
        return [state[key] for key in ("steps", "undone", "structures", "changes")]

    def _files(self) -> list[Path]:
        """All but the server's own copies of series, and what was saved by right."""
        apart = {self.scratch / "private", self.scratch / "scans" / "oncoseg"}
        return sorted(path for path in self.scratch.rglob("*") if not apart & {path, *path.parents})


def _within(body: dict[str, Any]) -> dict[str, Any]:
    """The same with slices and points that the series has, where they are numbers at all: it gets to the engine."""
    moved = dict(body)
    if isinstance(moved.get("slice"), int):
        moved["slice"] %= 8
    hints = moved.get("hints")
    if isinstance(hints, list):
        moved["hints"] = [{**one, "points": _points(one["points"])} if _is_hint(one) else one for one in hints]
    return moved


def _is_hint(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("points"), list)


def _points(points: list[Any]) -> list[Any]:
    return [[x % 128 if isinstance(x, (int, float)) else x for x in p] if isinstance(p, list) else p for p in points]


def _lease(opened: dict[str, Any]) -> dict[str, str]:
    return {"X-OncoSeg-Lease": opened["lease"]}


def _scan(folder: Path) -> tuple[str, str]:
    """A series of eight slices with a bright square; its study and series UID."""
    voxels = np.random.default_rng(0).integers(-50, 0, (8, 128, 128)).astype(np.int16)
    voxels[2:6, 30:50, 40:60] = 100
    files = write_series(folder, voxels, [(0, 0, 2.5 * index) for index in range(8)], pixel_spacing=(0.5, 0.5))
    header = pydicom.dcmread(files[0], stop_before_pixels=True)
    return str(header.StudyInstanceUID), str(header.SeriesInstanceUID)


class _listening:  # noqa: N801 - used as a function
    """An app on a socket of this computer, in a thread."""

    def __init__(self, app: Any) -> None:
        self._server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> str:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()


if __name__ == "__main__":
    main()
