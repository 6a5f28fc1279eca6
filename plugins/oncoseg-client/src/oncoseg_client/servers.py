"""The servers of one window: those with an address, and a child process of this computer."""

from __future__ import annotations

import threading

from oncoseg_client.local import LocalServer
from oncoseg_client.server import Server


class Servers:
    """This computer's server begins when it is first needed, and again where it died.

    As long as a server is the same, so is the object that :meth:`connect` returns.
    """

    def __init__(self) -> None:
        self._local: LocalServer | None = None
        self._named: dict[tuple[str, str | None], Server] = {}
        self._lock = threading.Lock()

    def connect(self, address: str | None, token: str | None = None) -> Server:
        """The server at an address, or this computer's where it is None; from any thread but one that draws.

        Raises:
            ServerError: this computer's cannot start.
        """
        with self._lock:
            if address is not None:
                if (address, token) not in self._named:
                    self._named[address, token] = Server(address, token=token)
                return self._named[address, token]
            if self._local is None or not self._local.running:
                self._local = LocalServer()
            local = self._local
        return local.server

    def stop(self) -> None:
        """End the child process, and the connections."""
        with self._lock:
            local, self._local = self._local, None
            named, self._named = self._named, {}
        for server in named.values():
            server.close()
        if local is not None:
            local.stop()
