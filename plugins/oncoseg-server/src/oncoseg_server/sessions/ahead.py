"""Slices are encoded before they are prompted: first the one under the mouse, then the shown one, then its neighbours.

Whole slices are encoded. A prompt that the model is shown a zoomed window for (a small box) needs that window's own
embedding, which nobody can know before the prompt.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from oncoseg_segment.api import DeviceLock, yield_to_others
from oncoseg_server.sessions.session import Work, WorkSession

log = logging.getLogger("oncoseg.server")

RECENT = 64
"""Slices of a session that are not looked at again: to find out that an embedding is there takes 20 ms of hashing, and
every prompt is a view of 17 slices. Of more slices, the first may have made room for others."""


def encoding_order(shown: int, hover: int | None, slices: int, neighbours: int) -> list[int]:
    """Which slices to encode, the most urgent first.

    Args:
        shown: the slice that is shown.
        hover: the slice under the mouse, where there is one.
        slices: how many the series has; others are left out.
        neighbours: how many to each side of the shown one.
    """
    outwards = (shown + sign * step for step in range(1, neighbours + 1) for sign in (1, -1))
    wanted = itertools.chain([] if hover is None else [hover], [shown], outwards)
    return [index for index in dict.fromkeys(wanted) if 0 <= index < slices]


@dataclass(eq=False)
class _Plan:
    """What is left to encode for one session; a later view is a new plan."""

    session: WorkSession
    slices: Iterator[tuple[int, int]]
    view: int
    work: Work
    next: tuple[int, int] | None = None

    def advance(self) -> None:
        """Go on to the next slice, with its place in the order."""
        self.next = next(self.slices, None)


class EncodeAhead:
    """One thread per device that encodes what sessions look at, while no prompt waits.

    Args:
        neighbours: to each side of the shown slice.
        encoded: called after each slice that was not encoded yet.
    """

    def __init__(self, neighbours: int, encoded: Callable[[], None]) -> None:
        self._neighbours = neighbours
        self._encoded = encoded
        self._changed = threading.Condition()
        self._recent: dict[str, deque[int]] = {}
        self._plans: dict[DeviceLock, dict[str, _Plan]] = {}
        self._threads: list[threading.Thread] = []
        self._views = itertools.count()
        self._closing = False

    @property
    def waiting(self) -> int:
        """How many sessions have slices to encode."""
        with self._changed:
            return sum(plan.next is not None for plans in self._plans.values() for plan in plans.values())

    def view(self, session: WorkSession, shown: int, hover: int | None = None) -> None:
        """Encode what a session looks at now, in the place of what it looked at before."""
        with self._changed:
            recent = self._recent.setdefault(session.id, deque(maxlen=RECENT))
            order = [
                index for index in encoding_order(shown, hover, session.depth, self._neighbours) if index not in recent
            ]
        plan = _Plan(session, iter(list(enumerate(order))), next(self._views), Work())
        plan.advance()
        with self._changed:
            if self._closing or session.closed:
                return
            plans = self._plans.get(session.model.device)
            if plans is None:
                plans = self._plans[session.model.device] = {}
                self._start(session.model.device)
            plans[session.id] = plan
            self._changed.notify_all()

    def end(self, session: WorkSession) -> None:
        """Encode nothing more for a session."""
        with self._changed:
            plan = self._plans.get(session.model.device, {}).pop(session.id, None)
            self._recent.pop(session.id, None)
        if plan is not None:
            plan.work.stop.set()

    def close(self) -> None:
        """Stop, after the slice that is being encoded."""
        with self._changed:
            self._closing = True
            for plans in self._plans.values():
                plans.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _start(self, device: DeviceLock) -> None:
        thread = threading.Thread(target=self._encode_all, args=(device,), name="oncoseg-ahead", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _encode_all(self, device: DeviceLock) -> None:
        yield_to_others()
        while (plan := self._take(device)) is not None:
            assert plan.next is not None  # noqa: S101 - only such are taken
            try:
                if plan.session.encode(plan.next[1], plan.work):
                    self._encoded()
                with self._changed:
                    if plan.session.id in self._recent and not plan.work.stop.is_set():
                        self._recent[plan.session.id].append(plan.next[1])
            except Exception as error:  # noqa: BLE001 - the prompt itself will tell its user
                log.warning("a slice was not encoded ahead: %s", type(error).__name__)
                self.end(plan.session)
            with self._changed:
                plan.advance()

    def _take(self, device: DeviceLock) -> _Plan | None:
        """The plan whose next slice is most urgent, of equals that of the latest view; None at the end."""
        with self._changed:
            while not self._closing:
                ready = [plan for plan in self._plans[device].values() if plan.next is not None]
                if ready:
                    return min(ready, key=lambda plan: (plan.next and plan.next[0], -plan.view))
                self._changed.wait()
            return None
