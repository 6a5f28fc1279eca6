"""The embeddings of all models and sessions, within one limit of memory, safe for threads.

A key is everything that an embedding depends on: the slice's voxels, how they are normalised and scaled, the window,
the model's weights with its adapter, the precision (:meth:`oncoseg_core.inference.Predictor.embed`), and here the
configured model, since two engines may round differently.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from oncoseg_core.inference import EmbeddingCache

LONGEST_WAIT = 10.0
"""Seconds after which a thread rather encodes a slice itself than wait for another one."""


class SharedEmbeddings(EmbeddingCache):
    """An :class:`EmbeddingCache` that several threads use at once."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._lock = threading.RLock()

    @property
    def bytes(self) -> int:
        """How much is held."""
        with self._lock:
            return self._bytes

    def get(self, key: str) -> Any | None:
        """The embedding under that key, or None."""
        with self._lock:
            return super().get(key)

    def put(self, key: str, embedding: Any) -> None:
        """Keep an embedding."""
        with self._lock:
            super().put(key, embedding)

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            super().clear()


class ModelEmbeddings(EmbeddingCache):
    """One model's part of the shared embeddings: no other model's key can be equal to one of its own.

    From a miss until the embedding is handed in, the calling thread encodes: :attr:`encode_seconds` adds that up for
    each thread. What one thread encodes ahead (:meth:`ahead`), others wait for and do not encode as well.
    """

    def __init__(self, shared: SharedEmbeddings, model: str) -> None:
        super().__init__(shared.max_bytes)
        self._shared = shared
        self._prefix = hashlib.sha256(model.encode()).hexdigest()
        self._thread = threading.local()
        self._on_the_way: dict[str, threading.Event] = {}

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """What this thread encodes meanwhile is on its way for the others, until it is there or has failed."""
        self._thread.announces = True
        try:
            yield
        finally:
            self._thread.announces = False
            self._arrived(getattr(self._thread, "announced", ""))

    @property
    def encode_seconds(self) -> float:
        """Seconds that this thread has spent encoding, or waiting for another one that did."""
        return float(getattr(self._thread, "seconds", 0.0))

    def get(self, key: str) -> Any | None:
        """The embedding under that key, or None."""
        embedding = self._shared.get(self._prefix + key)
        if embedding is None and (coming := self._on_the_way.get(key)) is not None:
            start = time.perf_counter()
            coming.wait(LONGEST_WAIT)
            self._thread.seconds = self.encode_seconds + time.perf_counter() - start
            embedding = self._shared.get(self._prefix + key)
        if embedding is None and getattr(self._thread, "announces", False):
            self._thread.announced = key
            self._on_the_way[key] = threading.Event()
        self._thread.since = time.perf_counter()
        return embedding

    def put(self, key: str, embedding: Any) -> None:
        """Keep an embedding."""
        now = time.perf_counter()
        self._thread.seconds = self.encode_seconds + now - getattr(self._thread, "since", now)
        self._shared.put(self._prefix + key, embedding)
        self._arrived(key)

    def _arrived(self, key: str) -> None:
        coming = self._on_the_way.pop(key, None)
        if coming is not None:
            coming.set()

    def clear(self) -> None:
        """Nothing: other sessions use them; the shared limit makes room."""
