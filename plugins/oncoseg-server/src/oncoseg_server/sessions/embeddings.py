"""The embeddings of all models and sessions, within one limit of memory, safe for threads.

A key is everything that an embedding depends on: the slice's voxels, how they are normalised and scaled, the window,
the model's weights with its adapter, the precision (:meth:`oncoseg_core.inference.Predictor.embed`), and here the
configured model, since two engines may round differently.
"""

from __future__ import annotations

import hashlib
import threading
import time
from typing import Any

from oncoseg_core.inference import EmbeddingCache


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
    each thread.
    """

    def __init__(self, shared: SharedEmbeddings, model: str) -> None:
        super().__init__(shared.max_bytes)
        self._shared = shared
        self._prefix = hashlib.sha256(model.encode()).hexdigest()
        self._thread = threading.local()

    @property
    def encode_seconds(self) -> float:
        """Seconds that this thread has spent encoding."""
        return float(getattr(self._thread, "seconds", 0.0))

    def get(self, key: str) -> Any | None:
        """The embedding under that key, or None."""
        embedding = self._shared.get(self._prefix + key)
        self._thread.since = time.perf_counter()
        return embedding

    def put(self, key: str, embedding: Any) -> None:
        """Keep an embedding."""
        now = time.perf_counter()
        self._thread.seconds = self.encode_seconds + now - getattr(self._thread, "since", now)
        self._shared.put(self._prefix + key, embedding)

    def clear(self) -> None:
        """Nothing: other sessions use them; the shared limit makes room."""
