"""A server on this computer, for the program that starts it and nobody else."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any, Self

from oncoseg_client.errors import ServerError
from oncoseg_client.server import Server

_CODE = "from oncoseg_core.cli.app import main; main()"
_ABSENT = ("No module named", "No such command", "is not installed: pip install")
_OF_THIS_PYTHON = {"PYTHONHOME", "PYTHONPATH"}
_GOODBYE = 5.0
"""Seconds until a server that does not end by itself is killed."""


class LocalServer:
    """``oncoseg serve --child`` as a child process: any free port of 127.0.0.1, a token that nobody else has.

    It begins at once; :attr:`server` waits until it answers, which takes seconds (torch is loaded), so ask for it in a
    thread. The child ends with :meth:`stop`, and with this process, however that ends.

    Args:
        python: the interpreter whose environment has the engine.
        adapters: folders or names of adapters to serve beside those that were pulled.
        timeout: seconds that it may take to begin.
        command: what to start instead, for tests.
    """

    def __init__(
        self,
        python: str = sys.executable,
        *,
        adapters: Sequence[str] = (),
        timeout: float = 120.0,
        command: Sequence[str] | None = None,
    ) -> None:
        options = [part for adapter in adapters for part in ("--adapter", str(adapter))]
        # -P: modules of the working folder are no part of the environment.
        self._command = list(command or (python, "-P", "-c", _CODE, "serve", "--child", *options))
        self._timeout = timeout
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._errors: deque[str] = deque(maxlen=20)
        self._waiting = threading.Lock()
        self._server: Server | None = None
        self._process = self._start()

    @property
    def server(self) -> Server:
        """The server, once it answers.

        Raises:
            ServerError: ``cannot_start``, with the reason in one sentence.
        """
        with self._waiting:
            if self._server is None:
                self._server = self._connected()
            return self._server

    @property
    def running(self) -> bool:
        """Whether the process is alive; one that died is replaced by a new :class:`LocalServer`."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End the server and wait for it."""
        if self._server is not None:
            self._server.close()
        with suppress(OSError):
            _pipe(self._process.stdin).close()
        try:
            self._process.wait(_GOODBYE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=1.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        environment = None
        if self._command[0] != sys.executable:  # paths of this interpreter are not another one's
            environment = {name: value for name, value in os.environ.items() if name not in _OF_THIS_PYTHON}
        # A session of its own: Ctrl+C in the terminal of the parent is the parent's. On Windows no console opens.
        flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
        try:
            process = subprocess.Popen(
                self._command,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                env=environment,
                start_new_session=True,
                creationflags=flags,
            )
        except OSError as error:
            raise _cannot(f"{self._command[0]} cannot be run ({error.strerror or error})") from None
        reads = ((self._read_answer, process.stdout), (self._read_errors, process.stderr))
        threads = [threading.Thread(target=read, args=(_pipe(stream),), daemon=True) for read, stream in reads]
        for thread in threads:
            thread.start()
        self._reader = threads[1]
        return process

    def _read_answer(self, stream: IO[bytes]) -> None:
        """The first line; what comes after it is nobody's, and the pipe must not fill."""
        with stream:
            self._lines.put(stream.readline())
            while stream.read(65_536):
                pass

    def _read_errors(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                if text := line.decode(errors="replace").strip():
                    self._errors.append(text)

    def _connected(self) -> Server:
        try:
            line = self._lines.get(timeout=self._timeout)
        except queue.Empty:
            self.stop()
            raise _cannot(f"it did not answer within {self._timeout:g} s") from None
        self._lines.put(line)  # for who asks again
        try:
            answer: dict[str, Any] = json.loads(line)
            return Server(answer["url"], token=answer["token"])
        except (ValueError, TypeError, KeyError):
            self.stop()
            raise _cannot(self._reason()) from None

    def _reason(self) -> str:
        """Why it ended: the last line of its standard error, or what to install."""
        if not self._errors:
            return f"it ended with status {self._process.returncode} and no reason"
        last = self._errors[-1].removeprefix("error: ").removesuffix("(--help shows how)").strip(" .")
        if any(sign in line for sign in _ABSENT for line in self._errors):
            return f"the engine is not installed here ({last}); install oncoseg-napari[local], or name a server"
        return last


def _cannot(reason: str) -> ServerError:
    return ServerError("cannot_start", f"the server of this computer cannot start: {reason}")


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # noqa: S101 - all three are pipes
    return stream
