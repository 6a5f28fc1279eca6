"""Keeping pydicom from the terminal: its warnings quote values, a patient's name among them."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from pydicom import config


class _Together:
    """A context of the whole process: entered by the first thread that comes, and left by the last that goes.

    Were each thread to restore what it found, the second would restore what the first had set.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[None]]) -> None:
        self._make, self._lock, self._inside = make, threading.Lock(), 0
        self._context: AbstractContextManager[None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._context is None:
                self._context = self._make()
                self._context.__enter__()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._context is not None:
                context, self._context = self._context, None
                context.__exit__(None, None, None)


@contextmanager
def _no_warnings() -> Iterator[None]:
    logger, mode = logging.getLogger("pydicom"), config.settings.reading_validation_mode
    disabled = logger.disabled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.disabled, config.settings.reading_validation_mode = True, config.IGNORE
        try:
            yield
        finally:
            logger.disabled, config.settings.reading_validation_mode = disabled, mode


_QUIET = _Together(_no_warnings)


def quiet() -> AbstractContextManager[None]:
    """While pydicom reads or converts values: no warnings and no log."""
    return _QUIET
