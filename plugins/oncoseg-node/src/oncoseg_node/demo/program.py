"""The node of the demonstration: the real program in a process of its own, with a file of settings that can be kept."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from oncoseg_core.system import atomic_write, json_text
from oncoseg_node.demo.archive import AE_TITLE as ARCHIVE_TITLE
from oncoseg_node.demo.scanner import DemonstrationError

NODE_TITLE = "ONCOSEG"
STRUCTURES = ("External", "Lung_L", "Lung_R")

START_SECONDS = 120.0
END_SECONDS = 20.0

_PROGRAM = "from oncoseg_core.cli import run_app; from oncoseg_node.cli.commands import app; run_app(app)"

_HEAD = """\
# Settings of the demonstration, made by `oncoseg node demo`. To go on from here: `oncoseg node run` with this file,
# once `destinations` name an archive that listens.
"""


def demo_settings(data: Path, node_port: int, archive_port: int, *, pdf: bool = True) -> dict[str, Any]:
    """Settings of a node on loopback that contours chest CTs without any weights, and sends to one archive."""
    return {
        "data": str(data),
        "receive": {"dicom": {"ae_title": NODE_TITLE, "host": "127.0.0.1", "port": node_port}},
        "quiet_seconds": 1.0,
        "rules": [
            {
                "name": "chest-ct",
                "when": {"Modality": {"equals": "CT"}, "BodyPartExamined": {"matches": "^(CHEST|THORAX)$"}},
                "protocol": "thorax",
                "structures": list(STRUCTURES),
                "models": ["thresholds"],
                "destinations": ["archive"],
            }
        ],
        "models": {"thresholds": {"kind": "automatic", "model": "ct-thresholds"}},
        "destinations": {
            "archive": {
                "kind": "dicom",
                "host": "127.0.0.1",
                "port": archive_port,
                "ae_title": ARCHIVE_TITLE,
                "formats": ["rtstruct", "seg", *(["pdf"] if pdf else [])],
            }
        },
        "report": {"pdf": pdf},
    }


def write_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Write settings as YAML.

    Raises:
        StorageError: they cannot be written.
    """
    # JSON is YAML, and one key a line is readable.
    atomic_write(path, _HEAD + json_text(settings, indent=2) + "\n")


def free_port() -> int:
    """A port of loopback at which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_node(settings: Path, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``oncoseg node run`` with these settings, once it listens; ended at the end.

    Args:
        settings: its YAML file.
        port: it will listen on.
        log: the file that takes what it prints.

    Raises:
        DemonstrationError: it ended, or does not listen.
    """
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, "run", str(settings)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_it_listens(process, port, log)
            yield process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
            process.kill()
            process.wait()


def require_running(process: subprocess.Popen[bytes], log: Path) -> None:
    """Raise what a node that ended printed last.

    Raises:
        DemonstrationError: it ended.
    """
    if process.poll() is None:
        return
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = f": {lines[-1]}" if lines else ""
    raise DemonstrationError(f"the node ended with exit code {process.returncode}{last} ({log})")


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        require_running(process, log)
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise DemonstrationError(f"the node does not listen on port {port} after {START_SECONDS:g} s ({log})")
