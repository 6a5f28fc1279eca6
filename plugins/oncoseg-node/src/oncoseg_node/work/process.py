"""The node's side of a worker process: start it, give it a job, listen to it, kill it when it is silent."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from oncoseg_core.system import json_text
from oncoseg_node.config.settings import NodeSettings
from oncoseg_node.queue.queue import Flaws
from oncoseg_node.records.job import Job
from oncoseg_node.work.outcome import Fault, StepResult

START_SECONDS = 300.0
"""How long libraries may take to load on a busy machine."""
GRACE_SECONDS = 3.0
CRASHED, SILENT = "crashed", "silent"


class WorkerProcess:
    """One worker at a time, of one name; a new one is started for the next job when it is gone.

    ``command`` starts it in place of the node's own program; for tests.
    """

    def __init__(
        self,
        name: str,
        settings: NodeSettings,
        device: str,
        *,
        command: Sequence[str] | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name, self.device = name, device
        self.starts = 0
        self.last_beat, self.doing = 0.0, ""
        self._settings, self._stopping = settings, stopping
        self._command = list(command or [sys.executable, "-m", "oncoseg_node.work.worker"])
        self._process: subprocess.Popen[str] | None = None
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def run(self, job: Job, flaws: Flaws | None = None) -> StepResult | Fault:
        """Have a step done; a fault where the process died, was silent for too long, or could not start."""
        fault = self._ensure_ready()
        if fault is not None:
            return fault
        request = {"job": job.model_dump(mode="json"), "flaws": None if flaws is None else list(flaws)}
        if not self._write(request):
            return self._died()
        return self._answer(self._settings.work.silent_seconds)

    def kill(self) -> None:
        """End it and what it started: politely, then not."""
        process, self._process = self._process, None
        if process is None:
            return
        for kind, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, GRACE_SECONDS)):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, kind)
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        self.doing = ""

    def _ensure_ready(self) -> Fault | None:
        if self.pid is not None:
            return None
        self.kill()
        self._start()
        device, _ = worker_device(self.device)
        first = {"settings": self._settings.model_dump(mode="json"), "device": device}
        if not self._write(first):
            return self._died()
        answer = self._wait(START_SECONDS)
        if isinstance(answer, Fault):
            return answer
        if "unusable" in answer:
            self.kill()
            fault = Fault.model_validate(answer["unusable"])
            # The installation's fault, and not the job's: tried again, or a day's series would be given up at once.
            message = f"no worker can start on {self.device}: {fault.message}"
            return fault.model_copy(update={"message": message, "permanent": False})
        return None

    def _start(self) -> None:
        self.starts += 1
        self._messages = queue.Queue()
        self._process = subprocess.Popen(
            [*self._command, self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, **worker_device(self.device)[1]},
            start_new_session=True,
        )
        threading.Thread(target=_listen, args=(self._process, self._messages), daemon=True).start()

    def _answer(self, seconds: float) -> StepResult | Fault:
        answer = self._wait(seconds)
        if isinstance(answer, Fault):
            return answer
        self.doing = ""
        return StepResult.model_validate(answer["done"]) if "done" in answer else Fault.model_validate(answer["fault"])

    def _wait(self, seconds: float) -> dict[str, Any] | Fault:
        """The next message that is no beat; between two messages it may be silent for so long."""
        self.last_beat = time.monotonic()
        while True:
            try:
                message = self._messages.get(timeout=0.5)
            except queue.Empty:
                if self._stopping():
                    self.kill()
                    return Fault(kind="stopped", message="the node was ended")
                if time.monotonic() - self.last_beat > seconds:
                    doing = self.doing
                    self.kill()
                    return Fault(
                        kind=SILENT, message=f"the worker was silent for {seconds:g} s ({doing}) and was killed"
                    )
                continue
            if message is None:
                return self._died()
            self.last_beat = time.monotonic()
            if "beat" not in message:
                return message
            self.doing = str(message["beat"])[:200]

    def _died(self) -> Fault:
        process, doing = self._process, self.doing
        status = None if process is None else process.wait()
        self.kill()
        return Fault(kind=CRASHED, message=f"the worker ended with status {status} ({doing or 'at its start'})")

    def _write(self, message: dict[str, Any]) -> bool:
        assert self._process is not None  # noqa: S101 - the caller started it
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        try:
            self._process.stdin.write(json_text(message) + "\n")
            self._process.stdin.flush()
        except OSError:
            return False
        return True


def worker_device(device: str) -> tuple[str, dict[str, str]]:
    """The device by the name that its worker uses, and what the worker's environment has for that.

    A worker of ``cuda:1`` sees that GPU alone: many models know ``cuda`` only, and would all use the first one.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda" or not number:
        return device, {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return kind, {"CUDA_VISIBLE_DEVICES": number}
    names = [name.strip() for name in visible.split(",") if name.strip()]
    return kind, {"CUDA_VISIBLE_DEVICES": names[int(number)] if int(number) < len(names) else ""}


def _listen(process: subprocess.Popen[str], messages: queue.Queue[dict[str, Any] | None]) -> None:
    assert process.stdout is not None  # noqa: S101 - a pipe
    with suppress(ValueError, OSError):
        for line in process.stdout:
            messages.put(json.loads(line))
    messages.put(None)
