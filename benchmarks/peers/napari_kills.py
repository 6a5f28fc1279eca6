"""Kill a napari window again and again while somebody works in it; what was asked for must be there at the next start.

A real napari window on a display of its own (Xvfb), the demonstration's chest CT, LiteMedSAM on a server that all
windows share. A script works in the window: boxes and clicks, strokes of napari's brush, undo, redo, prompts that are
not sent yet; after each it notes outside of the window what the session was asked for. At a random moment the process
gets kill -9. The next start offers the session; "Restore" is pressed. Lost is what was noted more than a second before
the kill and is not there again, bit for bit: steps with their points and painted masks, and what can be redone.

    python benchmarks/peers/napari_kills.py
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from napari_window import display, press
from server_parts import TUMOUR

from oncoseg_benchmarks.record import record, require
from oncoseg_client import decode_mask
from oncoseg_core import load_plugins


def main() -> None:
    """Kill and record, or be the window."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--dry", action="store_true", help="two kills, and recorded nowhere: does it run?")
    parser.add_argument("--window", choices=["work", "restore"], help=argparse.SUPPRESS)
    parser.add_argument("--notes", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.window is not None:
        Window(arguments.notes).run(arguments.window)
        return
    kills = 2 if arguments.dry else arguments.kills
    with display(), tempfile.TemporaryDirectory() as folder, server() as (url, token):
        own = {"ONCOSEG_TOKEN": token, "ONCOSEG_KILLS_SERVER": url, "ONCOSEG_CACHE": folder, "NAPARI_CONFIG": ""}
        environment = {**os.environ, **own}
        rows = [one_kill(Path(folder) / f"notes-{number}", environment, number) for number in range(kills)]
    found = {
        "kills": len(rows),
        "all there": sum(row["lost"] == 0 for row in rows),
        "steps at the kill": [row["steps"] for row in rows],
        "painted masks compared": sum(row["painted"] for row in rows),
        "lost that were younger than a second": sum(row["young"] for row in rows),
        "seconds to the window with all of it": sorted(row["seconds"] for row in rows)[len(rows) // 2],
    }
    require(all(row["lost"] == 0 for row in rows), f"something was lost: {rows}")
    if arguments.dry:
        print(json.dumps({**found, "rows": rows}, indent=2))
    else:
        print(record("napari_kills", f"python benchmarks/peers/{Path(__file__).name}", found).read_text())


@contextmanager
def server() -> Iterator[tuple[str, str]]:
    """A server for all windows: its address and token."""
    code = "from oncoseg_core.cli.app import main; main()"
    command = [sys.executable, "-P", "-c", code, "serve", "--child"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin is not None  # noqa: S101
    assert process.stdout is not None  # noqa: S101
    answer = json.loads(process.stdout.readline())
    yield answer["url"], answer["token"]
    process.stdin.close()
    process.wait()


def one_kill(notes: Path, environment: dict[str, str], seed: int) -> dict[str, Any]:
    """Work, kill, restore, compare."""
    chance = random.Random(seed)  # noqa: S311 - any moment will do
    command = [sys.executable, __file__, "--notes", str(notes), "--window"]
    working = subprocess.Popen([*command, "work"], env=environment, stderr=subprocess.DEVNULL)
    while not noted(notes):
        require(working.poll() is None, "the window ended by itself")
        time.sleep(0.05)
    time.sleep(chance.uniform(1.0, 8.0))
    killed = time.time()
    os.kill(working.pid, signal.SIGKILL)
    working.wait()
    before = noted(notes)
    begun = time.perf_counter()
    subprocess.run([*command, "restore"], env=environment, stderr=subprocess.DEVNULL, check=True, timeout=300)
    seconds = round(time.perf_counter() - begun, 1)
    now = json.loads(notes.with_suffix(".restored").read_text())
    old = [one for one in before if one["at"] < killed - 1.0]
    states = [[one["steps"], one["undone"], one["unsent"]] for one in before]
    state = [now["steps"], now["undone"], now["unsent"]]
    # The newest state that was noted, or a later one that could not be noted any more.
    at = max((number for number, one in enumerate(states) if one == state), default=None)
    later = at is None and len(now["steps"]) + len(now["undone"]) >= len(before[-1]["steps"])
    lost = 0 if later or (at is not None and at >= len(old) - 1) else 1
    painted = [part for step in now["steps"] if step["step"] == "edit" for part in (step, *step["more"])]
    for part in painted:
        decode_mask(part["mask"])
    require(now["as_asked"], "a painted slice is not on the layer as it was painted")
    young = 0 if later or at is None else len(states) - 1 - at
    return {"lost": lost, "young": young, "steps": len(now["steps"]), "painted": len(painted), "seconds": seconds}


def noted(notes: Path) -> list[dict[str, Any]]:
    """What the window was asked for, as its script noted it."""
    if not notes.exists():
        return []
    return [json.loads(line) for line in notes.read_text().split("\n")[:-1]]


class Window:
    """A window, and what the script in it does."""

    def __init__(self, notes: Path) -> None:
        import napari
        from qtpy.QtWidgets import QApplication

        self.process_events = QApplication.processEvents
        self.notes = notes
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.add_plugin_dock_widget("oncoseg-napari", "OncoSeg")
        self.widget = next(one for one in QApplication.allWidgets() if type(one).__name__ == "OncoSegWidget")
        self.widget.where.setCurrentIndex(1)
        self.widget.address.setText(os.environ["ONCOSEG_KILLS_SERVER"])

    def run(self, what: str) -> None:
        """Work until killed, or restore and write what is there."""
        if what == "work":
            self.work()
        else:
            self.restore()

    def until(self, holds: Callable[[], Any], seconds: float = 120) -> None:
        """Let the window live until this holds."""
        end = time.perf_counter() + seconds
        while not holds():
            self.process_events()
            time.sleep(0.001)
            require(time.perf_counter() < end, "the window did not get there in time")

    def work(self) -> None:
        """Do this and that, for ever."""
        from oncoseg_dicom import demonstration_series

        folder = demonstration_series(load_plugins(), lambda *_: None, Path.home() / ".cache" / "oncoseg" / "demo")
        (layer,) = self.viewer.open(str(folder), plugin="oncoseg-napari")
        self.widget.reset_choices()
        press(self.widget, "Start")
        parts = self.widget.opened[layer]
        self.until(lambda: parts.session.models)
        chance, index, (x, y) = random.Random(), TUMOUR["slice"], TUMOUR["centre"]  # noqa: S311 - a script's whims
        name = self.widget.table.active
        labels = parts.masks.layer_of(name)
        while True:
            what = chance.choice(["box", "click", "paint", "paint", "undo", "redo", "unsent"])
            at = index + chance.randint(-2, 2)
            place = parts.session.axes.places(at, (x + chance.uniform(-20, 20), y + chance.uniform(-20, 20)))
            if what == "paint":
                labels = parts.masks.layer_of(name)
                labels.brush_size = chance.randint(3, 20)
                labels.paint(tuple(np.rint(place[0]).astype(int)), chance.randint(0, 1))
                parts.masks.flush()
            elif what == "unsent":
                parts.prompts.live = False
                parts.prompts.points.add(place)
            elif what == "box":
                size = chance.uniform(10, 40)
                corners = [[x - size, y - size], [x + size, y + size]]
                parts.session.prompt(name, at, [{"kind": "box", "points": corners, "positive": True}], replace=True)
            elif what == "click":
                parts.prompts.live = True
                parts.prompts.points.add(place)
            else:
                getattr(parts.session, what)()
            self.note(parts)
            until = time.perf_counter() + chance.uniform(0, 0.4)
            while time.perf_counter() < until:
                self.process_events()
                time.sleep(0.001)
            self.note(parts)

    def note(self, parts: Any) -> None:
        """Write down, outside of the window, what the session was asked for."""
        state = {"steps": parts.session.steps, "undone": parts.session.undone, "unsent": parts.prompts.unsent}
        with self.notes.open("a") as file:
            file.write(json.dumps({"at": time.time(), **state}) + "\n")

    def restore(self) -> None:
        """Press the button, wait for all of it, and write it down."""
        press(self.widget, "Restore")
        self.until(lambda: self.widget.opened)
        (parts,) = self.widget.opened.values()
        session = parts.session
        self.until(lambda: session.prompt_kinds and not session._pending)  # noqa: SLF001 - nothing says so outside
        for _ in range(200):
            self.process_events()
            time.sleep(0.002)
        found = {"steps": session.steps, "undone": session.undone, "unsent": parts.prompts.unsent}
        self.notes.with_suffix(".restored").write_text(json.dumps({**found, "as_asked": as_asked(parts)}))
        os._exit(0)


def as_asked(parts: Any) -> bool:
    """Whether each slice whose last request was a stroke is on its layer as the stroke left it."""
    last: dict[tuple[str, int], Any] = {}
    for step in parts.session.steps:
        for one in (step, *step.get("more", ())):
            if step["step"] in {"prompt", "edit"}:
                last[step["structure"], one["slice"]] = one.get("mask")
    for (name, index), part in last.items():
        if part is None:
            continue
        mask = np.zeros(parts.session.axes.shape[1:], dtype=bool)
        x, y = part["x"], part["y"]
        mask[y : y + part["height"], x : x + part["width"]] = decode_mask(part)
        layer = parts.masks.known(name)
        shown = mask & False if layer is None else parts.session.axes.to_session(np.asarray(layer.data))[index] != 0
        if not np.array_equal(shown, mask):
            return False
    return True


if __name__ == "__main__":
    main()
