"""A worker process: reads jobs as lines of JSON from standard input, does their step, and answers in lines.

``python -m oncoseg_node.work.worker NAME``. The first line is the settings and the device. It ends when its input ends,
and is killed by the system when the node is, so that two never work on one job: NAME's lock is held by one at a time.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import logging
import os
import queue
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from oncoseg_core.system import json_text
from oncoseg_node.config.settings import NodeSettings
from oncoseg_node.queue.queue import Flaws
from oncoseg_node.records.job import Job
from oncoseg_node.work.outcome import fault_of, trace_line
from oncoseg_node.work.quiet import quiet_logs
from oncoseg_node.work.steps import Workshop, advance

FOLDER = "workers"
_PR_SET_PDEATHSIG = 1
log = logging.getLogger("oncoseg.node")


class Pipe:
    """Lines out; what libraries print meanwhile goes to standard error."""

    def __init__(self) -> None:
        self._out: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        self._lock = threading.Lock()

    def write(self, **message: Any) -> None:
        """Send a message; a node that is gone ends this process."""
        with self._lock:
            try:
                self._out.write(json_text(message) + "\n")
                self._out.flush()
            except OSError:
                os._exit(1)


def main() -> None:
    """Work until the input ends."""
    _die_with_the_node()
    quiet_logs()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches the whole terminal; the node says when it is time
    pipe, lines = Pipe(), _lines()
    first = lines.get()
    settings = NodeSettings.model_validate(first["settings"])
    held = _lock(settings.data, sys.argv[1], pipe)
    try:
        shop = _workshop(settings, first["device"], pipe)
    except Exception as error:  # noqa: BLE001 - the node says so, and tries again later
        pipe.write(unusable=fault_of(error).model_dump())
        return
    pipe.write(ready=os.getpid())
    with held:
        while True:
            _work(lines.get(), shop, pipe)


def _work(request: dict[str, Any], shop: Workshop, pipe: Pipe) -> None:
    job = Job.model_validate(request["job"])
    flaws = None if request.get("flaws") is None else Flaws(*request["flaws"])
    try:
        result = advance(job, shop, flaws)
    except Exception as error:  # noqa: BLE001 - whatever it is, the job is put off or given up with it
        fault = fault_of(error)
        if fault.kind == "unforeseen":
            log.error("job %d: %s", job.id, trace_line(error))  # noqa: TRY400 - a traceback would hold values
        pipe.write(fault=fault.model_dump())
    else:
        pipe.write(done=result.model_dump(mode="json"))


def _workshop(settings: NodeSettings, device: str, pipe: Pipe) -> Workshop:
    from oncoseg_core import load_plugins
    from oncoseg_node.segmenting import require_device
    from oncoseg_node.work.installed import installed_rooms

    require_device(device)
    return Workshop(settings, load_plugins(), device, installed_rooms(), lambda what: pipe.write(beat=what))


def _lines() -> queue.Queue[dict[str, Any]]:
    """Messages of the node, read in a thread so that its end is seen while a step goes on."""
    messages: queue.Queue[dict[str, Any]] = queue.Queue(maxsize=2)

    def read() -> None:
        with suppress(ValueError, OSError):
            for line in sys.stdin:
                messages.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return messages


def _lock(data: Path, name: str, pipe: Pipe) -> TextIO:
    """Wait until the last worker of this name is gone: it dies with its node, but not before."""
    folder = data / FOLDER
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = (folder / f"{name}.lock").open("w")
    pipe.write(beat="waits for the worker before it")
    fcntl.flock(held, fcntl.LOCK_EX)
    return held


def _die_with_the_node() -> None:
    parent = os.getppid()
    with suppress(OSError, AttributeError):  # Linux; elsewhere the end of the input is seen
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    main()
