"""The running node: what receives, what works, what shows it; started together, and ended in order."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from oncoseg_core import OncoSegError, __version__
from oncoseg_core.system import atomic_write, json_text
from oncoseg_node.audit.audit import FOLDER as AUDIT_FOLDER
from oncoseg_node.audit.audit import Audit
from oncoseg_node.audit.chain import read_head
from oncoseg_node.config.salt import read_salt
from oncoseg_node.config.settings import NodeSettings
from oncoseg_node.queue.queue import Queue
from oncoseg_node.service.lock import sole_node
from oncoseg_node.service.metrics import Metrics
from oncoseg_node.service.receivers import Receivers
from oncoseg_node.service.status import lane_status, queue_status
from oncoseg_node.work.retention import Watermark, clean
from oncoseg_node.work.supervisor import Supervisor

HEARTBEAT = "heartbeat"
HEARTBEAT_SECONDS = 5.0
CLEAN_SECONDS = 60.0
log = logging.getLogger("oncoseg.node")


class Node:
    """All parts of a node on its folder. The caller holds the folder's lock."""

    def __init__(self, settings: NodeSettings, clock: Callable[[], float] = time.time) -> None:
        self.settings, self._clock = settings, clock
        self._started = clock()
        self.queue = Queue(settings.data, again=settings.again, most_instances=settings.receive.most_instances)
        self.audit = Audit(settings.data / AUDIT_FOLDER, read_salt(settings.data))
        self.watermark = Watermark(settings.data, settings.keep.free_bytes)
        self.metrics = Metrics(self.queue, self.watermark.is_full, clock)
        self.supervisor = Supervisor(settings, self.queue, self.audit, self.metrics, clock)
        self.receivers = Receivers(settings, self.queue, self.audit, self.watermark, self.status, self.metrics)

    def start(self) -> None:
        """Free what the last node held, then receive, then work.

        Raises:
            ConfigError, StorageError: a port, a folder or the audit cannot be used.
        """
        swept, freed = self.queue.sweep(), self.queue.release()
        self.audit.write("started", version=__version__, process=os.getpid(), jobs_freed=freed, files_swept=swept)
        self.receivers.start()
        self.supervisor.start()

    def stop(self) -> None:
        """Receive nothing more, end the workers, write it down. What was not finished is begun again at the start."""
        self.receivers.close()
        self.supervisor.stop()
        try:
            self.receivers.refused.write()
            self.audit.write("ended", version=__version__, process=os.getpid())
            self.beat("ended")
        except OncoSegError as error:
            log.error("%s", error)  # noqa: TRY400 - one line
        self.queue.close()

    def tend(self) -> None:
        """Write down what was refused, and delete what need not be kept."""
        self.receivers.refused.write()
        clean(self.settings.data, self.settings.keep, self.queue, self.audit, self._clock())

    def problems(self) -> list[str]:
        """What keeps the node from its work, a sentence each."""
        problems = [f"worker {lane.worker.name} no longer runs" for lane in self.supervisor.lanes if not lane.alive]
        problems += [f"worker {lane.worker.name}: {lane.error}" for lane in self.supervisor.lanes if lane.error]
        problems += self.receivers.problems()
        if self.watermark.is_full():
            problems.append("the disk is nearly full: nothing is received")
        return problems

    def status(self) -> dict[str, Any]:
        """What the page shows."""
        now, problems = self._clock(), self.problems()
        return {
            "state": "failing" if problems else "running",
            "problems": problems,
            "version": __version__,
            "running seconds": round(now - self._started, 1),
            "free bytes": shutil.disk_usage(self.settings.data).free,
            "audit line": read_head(self.settings.data / AUDIT_FOLDER).n,
            "workers": lane_status(self.supervisor.lanes),
            **queue_status(self.queue, now),
        }

    def beat(self, state: str | None = None) -> None:
        """Write the heartbeat file."""
        problems = self.problems() if state is None else []
        content = {
            "at": datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds"),
            "state": state or ("failing" if problems else "running"),
            "problems": problems,
            "process": os.getpid(),
        }
        atomic_write(self.settings.data / HEARTBEAT, json_text(content) + "\n")


def run(settings: NodeSettings, say: Callable[[str], None], stop: threading.Event | None = None) -> None:
    """Run a node until SIGTERM, Ctrl+C, or ``stop``.

    Raises:
        ConfigError, StorageError, DataError: it cannot begin; the message names the setting.
    """
    ended = stop or threading.Event()
    with ExitStack() as stack:
        stack.enter_context(sole_node(settings.data))
        if threading.current_thread() is threading.main_thread():
            for kind in (signal.SIGTERM, signal.SIGINT):
                stack.callback(signal.signal, kind, signal.signal(kind, lambda *_: ended.set()))
        node = Node(settings)
        try:
            node.start()
            for line in node.receivers.lines():
                say(line)
            _tend(node, ended)
        finally:
            node.stop()


def _tend(node: Node, ended: threading.Event) -> None:
    next_beat = next_clean = 0.0
    while not ended.is_set():
        now = time.monotonic()
        try:
            if now >= next_beat:
                next_beat = now + HEARTBEAT_SECONDS
                node.beat()
            if now >= next_clean:
                next_clean = now + CLEAN_SECONDS
                node.tend()
        except (OncoSegError, OSError) as error:  # a full disk, say: it may pass
            log.error("%s", error)  # noqa: TRY400 - one line
        ended.wait(0.5)
