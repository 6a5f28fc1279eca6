"""The servers of one window: those with an address, and a child process of this computer."""

from __future__ import annotations

import threading

from oncoseg_client.local import LocalServer
from oncoseg_client.server import Server


class Servers:
    """This computer's server begins when it is first needed, and again where it died."""

    def __init__(self) -> None:
        self._local: LocalServer | None = None
        self._lock = threading.Lock()

    def connect(self, address: str | None, token: str | None = None) -> Server:
        """The server at an address, or this computer's where it is None; from any thread but one that draws.

        Raises:
            ServerError: this computer's cannot start.
        """
        if address is not None:
            return Server(address, token=token)
        with self._lock:
            if self._local is None or not self._local.running:
                self._local = LocalServer()
            local = self._local
        return local.server

    def stop(self) -> None:
        """End the child process."""
        with self._lock:
            local, self._local = self._local, None
        if local is not None:
            local.stop()
