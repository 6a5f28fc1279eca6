"""The doors that the settings open: C-STORE, the web side with STOW, a watched folder."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from oncoseg_node.audit.audit import Audit
from oncoseg_node.config.settings import NodeSettings
from oncoseg_node.queue.queue import Queue
from oncoseg_node.receiving.intake import Intake
from oncoseg_node.service.metrics import Metrics
from oncoseg_node.work.retention import Watermark

if TYPE_CHECKING:
    from oncoseg_node.receiving.scp import Service, StoreScp
    from oncoseg_node.service.web import WebServer


class RefusedInstances:
    """Counts instances that were refused, and writes the counts to the audit now and then: a sender that does not stop
    shall not fill it.
    """

    def __init__(self, audit: Audit, metrics: Metrics) -> None:
        self._audit, self._metrics = audit, metrics
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def note(self, _event: str, kind: str, door: str) -> None:
        """One was refused."""
        self._metrics.fault(f"instance {kind}")
        with self._lock:
            self._counts[f"{kind}, {door}"] += 1

    def write(self) -> None:
        """Write those since the last time; what cannot be written is counted on, and written the next time."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if counts:
            try:
                self._audit.write("instances refused", counts=dict(counts))
            except BaseException:
                with self._lock:
                    self._counts += counts
                raise


class Receivers:
    """Opens them, and closes them."""

    def __init__(
        self,
        settings: NodeSettings,
        queue: Queue,
        audit: Audit,
        watermark: Watermark,
        status: Callable[[], Mapping[str, Any]],
        metrics: Metrics,
    ) -> None:
        self._settings, self._status, self._metrics = settings, status, metrics
        self.refused = RefusedInstances(audit, metrics)
        self._intake = Intake(queue, settings, is_full=watermark.is_full, write_event=self.refused.note)
        self._scp: StoreScp | None = None
        self._web: WebServer | None = None
        self._folder: threading.Thread | None = None
        self._closing = threading.Event()

    def start(self) -> None:
        """Open all.

        Raises:
            ConfigError, StorageError: an address cannot be taken, or a certificate or token cannot be used.
        """
        receive = self._settings.receive
        if receive.web is not None:
            from oncoseg_node.service.web import WebServer, create_app

            stow = None
            if receive.web.stow:
                from oncoseg_node.receiving.stow import stow_router

                stow = stow_router(self._intake)
            app = create_app(receive.web, self._status, self._metrics, stow)
            self._web = WebServer(receive.web, app)
            self._web.start()
        if receive.dicom is not None:
            from oncoseg_node.receiving.scp import start_scp

            self._scp = start_scp(receive.dicom, self._intake, self._commitments())
        if receive.folder is not None:
            from oncoseg_node.receiving.folder import FolderWatch

            watch = FolderWatch(receive.folder, self._intake)
            self._folder = threading.Thread(target=watch.run, args=(self._closing,), name="folder", daemon=True)
            self._folder.start()

    def _commitments(self) -> list[Service]:
        """Reports of storage commitment, where a destination gives them; it calls the receiver to do so."""
        destinations = self._settings.destinations.values()
        if not any(one.kind == "dicom" and one.confirm == "commitment" for one in destinations):
            return []
        from oncoseg_node.sending import accept_commitment_reports, commitments_folder

        folder = commitments_folder(self._settings.data)
        return [lambda entity: accept_commitment_reports(entity, folder)]

    def close(self) -> None:
        """Take nothing more; what was answered with success is stored."""
        self._closing.set()
        if self._folder is not None:
            self._folder.join(5)
        if self._scp is not None:
            self._scp.close()
        if self._web is not None:
            self._web.close()

    def problems(self) -> list[str]:
        """Doors that closed by themselves."""
        problems = []
        if self._scp is not None and not self._scp.alive:
            problems.append("the C-STORE receiver no longer runs")
        if self._web is not None and not self._web.alive:
            problems.append("the web side no longer runs")
        if self._folder is not None and not self._folder.is_alive():
            problems.append("the folder is no longer watched")
        return problems

    def lines(self) -> Iterator[str]:
        """Where it listens, for a person."""
        receive = self._settings.receive
        if self._scp is not None and receive.dicom is not None:
            yield f"C-STORE: {receive.dicom.ae_title} at {receive.dicom.host}, port {self._scp.port}"
        if self._web is not None and receive.web is not None:
            scheme = "http" if receive.web.tls is None else "https"
            if receive.web.stow:
                yield f"STOW: {scheme}://{receive.web.host}:{self._web.port}/dicom-web"
            yield f"status: {scheme}://{receive.web.host}:{self._web.port}/"
        if receive.folder is not None:
            yield f"folder: {receive.folder.path}"
