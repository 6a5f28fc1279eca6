"""One server: its settings, sources, models and sessions, and the threads that work for it."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from oncoseg_core import OncoSegError, Registry, load_plugins
from oncoseg_dicomweb import Archive
from oncoseg_server.archives.uploads import UploadArchive
from oncoseg_server.config.settings import MEGABYTE, ServerSettings
from oncoseg_server.config.tokens import tokens_of
from oncoseg_server.saving.save import save
from oncoseg_server.sessions.ahead import EncodeAhead
from oncoseg_server.sessions.embeddings import SharedEmbeddings
from oncoseg_server.sessions.models import Models
from oncoseg_server.sessions.refusal import Refusal
from oncoseg_server.sessions.session import Work, WorkSession
from oncoseg_server.sessions.sessions import Sessions
from oncoseg_server.sessions.volumes import SENT, OpenedSeries, Volumes
from oncoseg_server.web.metrics import Metrics
from oncoseg_server.web.sources import Sources
from oncoseg_server.wire import Answer, OpenRequest, Saved, SaveRequest

log = logging.getLogger("oncoseg.server")
T = TypeVar("T")
WORKERS = 16
"""Threads for short requests, and as many for long ones, so that no prompt waits for a thread that follows a structure.

The model answers one of them at a time."""


class Server:
    """Everything that requests share; :meth:`close` ends it.

    Args:
        settings: the file's.
        sources: the archives, opened.
        registry: the plugins; those installed when omitted.
        environment: where the tokens are.
    """

    def __init__(
        self,
        settings: ServerSettings,
        sources: Sources,
        registry: Registry | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self.limits = settings.limits
        self.tokens = tokens_of(settings, os.environ if environment is None else environment)
        self.archives, self.private = sources.archives, sources.private
        self.registry = load_plugins() if registry is None else registry
        self.metrics = Metrics()
        self.embeddings = SharedEmbeddings(self.limits.embeddings_mb * MEGABYTE)
        self.models = Models(settings.models, self.registry, self.embeddings)
        self.models.infos()  # a name that no plugin provides is refused now
        self.volumes = Volumes(
            self.limits.volumes_mb * MEGABYTE,
            self.limits.volume_idle_seconds,
            len(settings.models),
            sent_per_owner=self.limits.volumes_per_owner,
        )
        self.sessions = Sessions(self.limits, self._ended)
        self.ahead = EncodeAhead(settings.encode_ahead.neighbours, self.metrics.encoded)
        self._short = ThreadPoolExecutor(WORKERS, "oncoseg-short")
        self._long = ThreadPoolExecutor(WORKERS, "oncoseg-long")
        self._pending = 0
        self._closing = threading.Event()
        self._reaper = threading.Thread(target=self._reap, name="oncoseg-reaper", daemon=True)
        self._gauges()

    def start(self) -> None:
        """Begin to reap sessions, and load the first model before it is needed."""
        self._reaper.start()
        if self.settings.preload:
            self._long.submit(self._load_first)

    def close(self) -> None:
        """End all sessions and threads."""
        self._closing.set()
        self.sessions.end_all()
        self.ahead.close()
        for pool in (self._short, self._long):
            pool.shutdown(wait=True, cancel_futures=True)
        self.volumes.close_all()

    def archive(self, name: str) -> Archive:
        """A source.

        Raises:
            Refusal: there is none of that name.
        """
        if name not in self.archives:
            known = ", ".join(self.archives) or "none"
            raise Refusal("unknown_source", f"no source {name[:64]!r} is served here; known: {known}")
        return self.archives[name]

    def open(self, request: OpenRequest, owner: str, work: Work) -> WorkSession:
        """A new session on a series; the caller replays the steps of an earlier one.

        Raises:
            Refusal: a limit is reached, or there is no such source or model.
            ArchiveError, ImageReadError, GeometryError: the series cannot be read.
        """
        model = self.models.get(request.model)

        def make() -> WorkSession:
            opened = self._image(request, owner, work)
            try:
                return WorkSession(owner, model, opened, self.limits)
            except BaseException:
                self.volumes.close(opened)
                raise

        return self.sessions.open(owner, make)

    def _image(self, request: OpenRequest, owner: str, work: Work) -> OpenedSeries:
        if request.volume is not None:
            return self.volumes.open_sent(owner, request.volume)
        assert request.source and request.study_uid and request.series_uid  # noqa: S101, PT018 - the request saw to it
        archive = self.archive(request.source)
        return self.volumes.open(archive, request.study_uid, request.series_uid, work.stop.is_set)

    def save(self, session: WorkSession, request: SaveRequest, work: Work) -> Saved:
        """Write a session's result to where its series came from, and read it back.

        Raises:
            PromptError: there is nothing to save.
            ArchiveError, StorageError, QualityError, DataError: as for :func:`oncoseg_server.saving.save.save`.
        """
        source, study_uid, series_uid = session.opened.key
        if source == SENT:
            raise Refusal(
                "bad_request", "this image was sent as voxels: no series is there to save to; export it instead"
            )
        objects = save(self.archive(source), session.result(), study_uid, series_uid, request, self.private)
        return Saved(objects=objects, timing_ms={"total": round(1000 * (time.perf_counter() - work.since), 2)})

    def timed(self, answer: Answer, work: Work) -> Answer:
        """An answer with its total time, which the metrics get as well."""
        timing = {**answer.timing_ms, "total": round(1000 * (time.perf_counter() - work.since), 2)}
        self.metrics.stages(timing)
        return answer.model_copy(update={"timing_ms": timing})

    def view(self, session: WorkSession, shown: int, hover: int | None = None) -> None:
        """Encode ahead what a session looks at."""
        if self.settings.encode_ahead.enabled:
            self.ahead.view(session, shown, hover)

    async def work(self, call: Callable[[], T], stop: Callable[[], object] | None = None, *, long: bool = False) -> T:
        """Run what takes time in a thread; the event loop goes on.

        Args:
            call: what to run.
            stop: asks ``call`` to end, when the client is gone or the time is over.
            long: it may take ``long_seconds`` and not only ``request_seconds``.

        Raises:
            Refusal: too much is waiting already, or the time is over.
        """
        if self._pending >= self.limits.waiting:
            raise Refusal("busy", "too many requests wait for the server; try again in a moment")
        self._pending += 1
        seconds = self.limits.long_seconds if long else self.limits.request_seconds
        future = asyncio.get_running_loop().run_in_executor(self._long if long else self._short, call)
        future.add_done_callback(lambda _: self._done(future))
        try:
            return await asyncio.wait_for(asyncio.shield(future), seconds)
        except TimeoutError:
            if future.done():
                raise
            if stop is not None:
                stop()
            raise Refusal(
                "timed_out", f"this took longer than {seconds:g} s and was stopped; try again, or do less at once"
            ) from None
        except asyncio.CancelledError:
            if stop is not None:
                stop()
            raise

    def _done(self, future: asyncio.Future[T]) -> None:
        self._pending -= 1
        if not future.cancelled():
            future.exception()  # nobody may wait for it any more

    def _ended(self, session: WorkSession) -> None:
        session.leave()
        self.ahead.end(session)
        session.close()
        self.volumes.close(session.opened)
        self.metrics.ended()

    def warm_up_soon(self) -> None:
        """:meth:`warm_up`, in a thread that :meth:`close` waits for: engines cannot be left in the middle."""
        self._long.submit(self.warm_up)

    def warm_up(self) -> None:
        """Let the first model answer once, so that the first user does not wait for engines to be made."""
        try:
            engine = self.models.get(None).warm_up()
            log.info("model %s is ready%s", self.models.names[0], f": {engine}" if engine else "")
        except OncoSegError as error:
            log.error("%s", error)  # noqa: TRY400 - one line; clients get it too

    def _load_first(self) -> None:
        try:
            self.models.get(None)
        except Refusal as error:
            log.error("%s", error)  # noqa: TRY400 - one line; clients get it too

    def _reap(self) -> None:
        while not self._closing.wait(min(5.0, self.limits.lease_seconds / 4)):
            try:
                self.sessions.reap()
                self.volumes.reap()
            except Exception as error:  # noqa: BLE001 - the next round goes on
                log.error("reaping failed: %s", type(error).__name__)  # noqa: TRY400
            for archive in self.archives.values():
                if isinstance(archive, UploadArchive):
                    archive.reap()

    def _gauges(self) -> None:
        gauge, started = self.metrics.gauge, time.time()
        gauge("oncoseg_sessions", "Open sessions", lambda: len(self.sessions))
        gauge("oncoseg_waiting", "Requests that wait for a thread or work in one", lambda: self._pending)
        gauge("oncoseg_device_waiting", "Threads that wait for a device", lambda: self.models.waiting)
        gauge("oncoseg_ahead_waiting", "Sessions with slices to encode ahead", lambda: self.ahead.waiting)
        gauge("oncoseg_embedding_bytes", "Memory of embeddings", lambda: self.embeddings.bytes)
        gauge("oncoseg_embedding_misses", "Embeddings that had to be made", lambda: self.embeddings.misses)
        gauge("oncoseg_series_bytes", "Memory of opened series", lambda: self.volumes.bytes)
        gauge("oncoseg_start_time_seconds", "When this server started", lambda: started)
