"""An open line from each process of a run to the first, so that a death is known at once, and by name.

Collectives alone do not tell: gloo says that some connection was closed, NCCL waits for its timeout, and when a machine
is cut off both wait. Nor would heartbeats do, which a long read that holds Python's lock would silence. A TCP line is
kept by the system: it closes when its process ends, however that came, and the system itself asks the other machine
whether it is still there.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from torch.distributed.distributed_c10d import Store

from oncoseg_core import RunError

IDLE_SECONDS, PROBE_SECONDS, PROBES = 10, 5, 3
"""A machine that answers nothing for 10 + 3 x 5 s is lost: as long as torchrun's rendezvous gives a node (3 x 5 s
between keep-alives), and a little more."""

CUT_OFF_SECONDS = IDLE_SECONDS + PROBE_SECONDS * PROBES + 30.0
"""After that a process that was cut off has ended itself, too: when it has heard, and its grace is over."""

GRACE_SECONDS = 10.0
"""What a process gets to end by itself, its checkpoint written, once another is known to be dead."""

WORD_SECONDS = 3.0
"""How long a failed collective waits to hear who died."""

JOIN_SECONDS = 600.0
"""For all to have come: on a slow disk one may import torch minutes before another."""

CONNECT_SECONDS = 60.0
GREETING_SECONDS = 5.0

_HELLO, _ANSWER = "oncoseg/hello", "oncoseg/answer"
ASK_SECONDS = 0.2
_LINE_LIMIT = 8192
_WORDS_LIMIT = 1000


class Lifelines:
    """This process's end of the lines; a thread watches them.

    ``meeting`` names this meeting of the processes and no other. A store may outlive a restart (torchrun's does), and
    keys in it then tell of processes that are gone; counting restarts would not help, since a machine that joins anew
    counts from 0. So each process asks with a word of its own, and only what answers this word is believed.

    Args:
        store: shared by all processes; used only while opening.
        rank: of this process.
        world_size: of all.

    Raises:
        RunError: the first process cannot be reached.
    """

    def __init__(self, store: Store, rank: int, world_size: int) -> None:
        self.rank = rank
        self.lost: str | None = None
        """What became of a process that is gone, once it is known."""
        self._known = threading.Event()
        self._left = threading.Event()
        self._gone: set[int] = set()
        self._lines: dict[int, socket.socket] = {}
        self._hosts: dict[int, str] = {}
        self._lock = threading.Lock()
        self._wake, self._woken = socket.socketpair()
        self.meeting = self._accept_all(store, world_size) if rank == 0 else self._connect(store)
        self._thread = threading.Thread(target=self._watch, name="lifelines", daemon=True)
        self._thread.start()

    def wait_for_word(self) -> str | None:
        """Give the news of a death, which made a collective fail here, a moment to arrive."""
        self._known.wait(WORD_SECONDS)
        return self.lost

    def leave(self, failure: str | None = None) -> None:
        """Say goodbye to the others: done, or why this process fails."""
        if self._left.is_set():
            return
        self._left.set()
        if self.lost is None or self.rank == 0:
            self._broadcast({"rank": self.rank, **({"failed": failure[:_WORDS_LIMIT]} if failure else {"done": True})})
        self._wake.close()
        self._thread.join(timeout=WORD_SECONDS)
        for line in self._lines.values():
            with contextlib.suppress(OSError):
                line.close()

    def _accept_all(self, store: Store, world_size: int) -> str:
        token = secrets.token_hex(16)
        answered: dict[int, bytes] = {}
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        with socket.create_server(("", 0), family=family, dualstack_ipv6=family == socket.AF_INET6) as server:
            where = json.dumps({"port": server.getsockname()[1], "token": token})
            server.settimeout(ASK_SECONDS)
            deadline = time.monotonic() + JOIN_SECONDS
            while missing := sorted(set(range(1, world_size)) - self._lines.keys()):
                for rank in missing:
                    if not store.check([f"{_HELLO}/{rank}"]):
                        continue
                    word = store.get(f"{_HELLO}/{rank}")
                    if answered.get(rank) != word:
                        store.set(f"{_ANSWER}/{rank}/{word.decode()}", where)
                        answered[rank] = word
                try:
                    line, _ = server.accept()
                except TimeoutError as error:
                    if time.monotonic() < deadline:
                        continue
                    raise RunError(
                        f"no sign of process {', '.join(map(str, missing))} in {JOIN_SECONDS:.0f} s; did it start?"
                    ) from error
                greeted, host = _greeted(line, token)
                if greeted is None:
                    line.close()
                    continue
                _keep_alive(line)
                self._lines[greeted], self._hosts[greeted] = line, host
        return token

    def _connect(self, store: Store) -> str:
        address, word = os.environ["MASTER_ADDR"], secrets.token_hex(8)
        store.set(f"{_HELLO}/{self.rank}", word)
        where = json.loads(store.get(f"{_ANSWER}/{self.rank}/{word}"))  # waits as long as the store does
        try:
            line = socket.create_connection((address, where["port"]), timeout=CONNECT_SECONDS)
            _keep_alive(line)
            _send(line, {"rank": self.rank, "host": socket.gethostname(), "token": where["token"]})
        except OSError as error:
            raise RunError(
                f"process {self.rank} cannot reach the first at {address}:{where['port']} "
                f"({error.strerror or error}); may the machines of a run connect to each other?"
            ) from error
        self._lines[0], self._hosts[0] = line, address
        return str(where["token"])

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ, None)
            for rank, line in self._lines.items():
                line.settimeout(None)
                selector.register(line, selectors.EVENT_READ, rank)
            while not self._left.is_set():
                for key, _ in selector.select():
                    if key.data is None:
                        return
                    if not self._hear(key.data):
                        selector.unregister(key.fileobj)
                if self.lost is not None:
                    self._end_soon()
                    return

    def _hear(self, rank: int) -> bool:
        """Take in what came from a process; whether its line is still open."""
        reason = "its process ended without a word: killed, or out of memory"
        try:
            message = _read_line(self._lines[rank])
        except OSError as error:
            message = None
            if not isinstance(error, ConnectionError):
                reason = f"no answer for {IDLE_SECONDS + PROBE_SECONDS * PROBES} s: its machine or the network is down"
        if message is None:
            if rank not in self._gone:
                self._lose(f"process {rank} on {self._hosts[rank]} was lost ({reason})")
            return False
        if "lost" in message:  # the first process tells of another
            self._lose(str(message["lost"]))
        elif "failed" in message:
            self._lose(f"process {rank} on {self._hosts[rank]} failed: {message['failed']}")
        else:
            self._gone.add(rank)
        return True

    def _lose(self, what: str) -> None:
        if self.lost is None:
            self.lost = what
            self._known.set()
            if self.rank == 0:
                self._broadcast({"lost": what})

    def _broadcast(self, message: dict[str, Any]) -> None:
        with self._lock:
            for line in self._lines.values():
                with contextlib.suppress(OSError):  # it may be the dead one's
                    _send(line, message)

    def _end_soon(self) -> None:
        """End this process if it does not end by itself: it may wait in a collective that nothing can interrupt."""
        if not self._left.wait(GRACE_SECONDS):
            sys.stderr.write(f"error: {advice(self.lost)}\n")
            sys.stderr.flush()
            os._exit(1)


def advice(lost: str | None) -> str:
    """What to say of a lost process, and to do."""
    return f"{lost}; the run ends, go on with --resume"


@contextlib.contextmanager
def watched(lines: Lifelines) -> Iterator[None]:
    """While the block runs, others hear how it ends; a failed collective becomes the news of who died.

    Raises:
        RunError: another process died.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, RuntimeError) and lines.wait_for_word():
            lines.leave()
            raise RunError(advice(lines.lost)) from error
        lines.leave(failure=" ".join(str(error).split()) or type(error).__name__)
        raise
    lines.leave()


def _greeted(line: socket.socket, token: str) -> tuple[int | None, str]:
    """The rank and host that a new line gives; no rank for a stranger, who does not know the token."""
    line.settimeout(GREETING_SECONDS)
    try:
        hello = _read_line(line)
    except OSError:
        return None, ""
    if hello is None or not hmac.compare_digest(str(hello.get("token")), token):
        return None, ""
    return int(hello["rank"]), str(hello["host"])


def _keep_alive(line: socket.socket) -> None:
    """Have the system ask the other side whether it is there; what a system does not offer is left at its default."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    milliseconds = 1000 * (IDLE_SECONDS + PROBE_SECONDS * PROBES)
    for name, value in (
        ("TCP_KEEPIDLE", IDLE_SECONDS),
        ("TCP_KEEPINTVL", PROBE_SECONDS),
        ("TCP_KEEPCNT", PROBES),
        ("TCP_USER_TIMEOUT", milliseconds),
        ("TCP_NODELAY", 1),
    ):
        if hasattr(socket, name):
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _send(line: socket.socket, message: dict[str, Any]) -> None:
    line.sendall(json.dumps(message).encode() + b"\n")


def _read_line(line: socket.socket) -> dict[str, Any] | None:
    """The next message; None when the line was closed, or speaks another language."""
    content = b""
    while not content.endswith(b"\n"):
        piece = line.recv(1)
        if not piece or len(content) > _LINE_LIMIT:
            return None
        content += piece
    try:
        message = json.loads(content)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
