"""What became of one object at a destination, before it is a :class:`Delivery`; and failures of the destination."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from oncoseg_core import OncoSegError
from oncoseg_node.records.results import Delivery, WrittenObject


class DestinationError(OncoSegError):
    """A destination does not do what it is for; the message says what to do."""


@dataclass(frozen=True)
class Outcome:
    """As in :class:`Delivery`."""

    status: Literal["stored", "confirmed", "failed"]
    how: str = ""
    message: str = ""

    def delivery(self, one: WrittenObject, destination: str) -> Delivery:
        """Of that object at that destination."""
        return Delivery(
            destination=destination,
            format=one.format,
            sop_uid=one.sop_uid,
            status=self.status,
            how=self.how,
            message=self.message,
        )


def failed(error: object) -> Outcome:
    """A failure, on one line."""
    return Outcome("failed", message=" ".join(str(error).split()))


class Pulse:
    """Passes signs of life on, once a second at most; threads of the network may call it too."""

    def __init__(self, beat: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._beat, self._clock = beat, clock
        self._lock = threading.Lock()
        self._last = float("-inf")
        self._ended = False

    def end(self) -> None:
        """Pass no more on: a thread that ends late shall not speak for what comes next."""
        with self._lock:
            self._ended = True

    def __call__(self, what: str = "sending") -> None:
        """Something moved."""
        with self._lock:
            if not self._ended and self._clock() - self._last >= 1.0:
                self._last = self._clock()
                self._beat(what)
