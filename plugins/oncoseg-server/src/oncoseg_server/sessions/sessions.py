"""All sessions: leases, heartbeats, limits, and an end for those that nobody keeps alive."""

from __future__ import annotations

import hmac
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from oncoseg_server.config.settings import Limits
from oncoseg_server.sessions.refusal import Refusal
from oncoseg_server.sessions.session import WorkSession

REMEMBERED = 4_096
"""Ended sessions that are still known by name, so that their clients learn why."""


@dataclass(eq=False)
class _Held:
    session: WorkSession
    seen: float


class Sessions:
    """The sessions by their ids. ``ended`` is called with each one that ends, however it does."""

    def __init__(
        self,
        limits: Limits,
        ended: Callable[[WorkSession], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._ended = ended
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._opening: dict[str, int] = {}
        self._expired: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        with self._lock:
            return len(self._held)

    def open(self, owner: str, make: Callable[[], WorkSession]) -> WorkSession:
        """A new session of that owner; a place is kept for it while ``make`` reads the series.

        Raises:
            Refusal: there are as many as there may be, in all or of this owner.
        """
        with self._lock:
            opening = sum(self._opening.values())
            if len(self._held) + opening >= self._limits.sessions:
                raise Refusal(
                    "too_many_sessions",
                    f"this server has {self._limits.sessions} sessions open, as many as it may; try again later, or "
                    "raise `limits.sessions`",
                )
            theirs = sum(held.session.owner == owner for held in self._held.values()) + self._opening.get(owner, 0)
            if theirs >= self._limits.sessions_per_owner:
                raise Refusal(
                    "too_many_sessions",
                    f"you have {theirs} sessions open, as many as one client may; close one, or raise "
                    "`limits.sessions_per_owner`",
                )
            self._opening[owner] = self._opening.get(owner, 0) + 1
        try:
            session = make()
            with self._lock:
                self._held[session.id] = _Held(session, self._clock())
            return session
        finally:
            with self._lock:
                self._opening[owner] -= 1
                if not self._opening[owner]:
                    del self._opening[owner]

    def use(self, session_id: str, owner: str, lease: str | None) -> WorkSession:
        """The session, for a client that has its lease; that counts as a heartbeat.

        Raises:
            Refusal: there is none, it has ended, or the lease is another client's.
        """
        with self._lock:
            held = self._held.get(session_id)
            if held is None:
                if session_id in self._expired:
                    raise Refusal(
                        "lease_expired",
                        f"this session ended after {self._limits.lease_seconds:g} s without a heartbeat; open the "
                        "series again with its steps",
                    )
                raise Refusal("unknown_session", "no such session; open the series again with its steps")
            right = hmac.compare_digest(held.session.lease.encode(), (lease or "").encode())
            if not right or held.session.owner != owner:
                raise Refusal(
                    "lease_taken",
                    "this session belongs to another client, or the header X-OncoSeg-Lease is missing; open a session "
                    "of your own",
                )
            held.seen = self._clock()
            return held.session

    def end(self, session: WorkSession) -> None:
        """End a session; nothing where it has ended."""
        with self._lock:
            held = self._held.pop(session.id, None)
        if held is not None:
            self._ended(session)

    def reap(self) -> int:
        """End those whose lease has run out; how many."""
        now = self._clock()
        with self._lock:
            late = [
                held.session
                for held in self._held.values()
                if now - held.seen > self._limits.lease_seconds and not held.session.working
            ]
            for session in late:
                del self._held[session.id]
                self._expired[session.id] = None
            while len(self._expired) > REMEMBERED:
                self._expired.popitem(last=False)
        for session in late:
            self._ended(session)
        return len(late)

    def end_all(self) -> None:
        """The server ends."""
        with self._lock:
            held, self._held = list(self._held.values()), {}
        for one in held:
            self._ended(one.session)
