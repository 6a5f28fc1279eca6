"""The trackers of a run as one: each is told what happens, and one that fails is dropped, never the run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oncoseg_core import OncoSegError, Registry, Tracker, TrackerSpec
from oncoseg_trainer.config.prompt_settings import ComponentChoice


class Trackers:
    """Builds, starts and tells the trackers that a configuration names, in their order.

    A wrong name or setting and a missing library are found here, before anything is loaded. From :meth:`start` on no
    tracker can stop the run: one that raises is reported once, and told nothing more.

    Args:
        registry: where they are found.
        choices: which, with their settings.
        warn: called with the one line that is said of a tracker that failed.

    Raises:
        OncoSegError: no such tracker, a setting that it does not have, or a library that is not installed.
    """

    def __init__(self, registry: Registry, choices: Sequence[ComponentChoice], warn: Callable[[str], None]) -> None:
        self._factories = {
            choice.name: registry.prepare(TrackerSpec, choice.name, choice.settings) for choice in choices
        }
        self._running: dict[str, Tracker] = {}
        self._warn = warn

    def start(self, folder: Path, config: Mapping[str, Any], resumed_step: int | None) -> None:
        """Build and start each: a run begins in this folder, afresh (None) or after that many finished steps.

        Without it, as on all processes but the first, nobody listens.
        """
        for name, build in self._factories.items():
            with self._guarded(name, "could not start"):
                self._running[name] = build(run_directory=folder)
                self._running[name].start(copy.deepcopy(dict(config)), resumed_step)

    def metrics(self, step: int, values: Mapping[str, Any]) -> None:
        """Numbers at a step; ``values["event"]`` says which."""
        self._dispatch(f"failed at step {step}", lambda tracker: tracker.metrics(step, dict(values)))

    def image(self, name: str, png: bytes, caption: str) -> None:
        """A picture, as PNG bytes."""
        self._dispatch("failed on a picture", lambda tracker: tracker.image(name, png, caption))

    def checkpoint(self, step: int, path: Path) -> None:
        """A checkpoint was written."""
        self._dispatch(f"failed at the checkpoint of step {step}", lambda tracker: tracker.checkpoint(step, path))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """The run ended with this summary."""
        self._dispatch("failed at the end", lambda tracker: tracker.finish(copy.deepcopy(dict(summary))))

    def _dispatch(self, failed: str, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._running.items()):
            with self._guarded(name, failed):
                call(tracker)

    @contextmanager
    def _guarded(self, name: str, failed: str) -> Iterator[None]:
        try:
            yield
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a tracker may fail in any way, and the run goes on
            self._running.pop(name, None)
            reason = " ".join(str(error).split())
            if not isinstance(error, OncoSegError):
                reason = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
            self._warn(f"tracker {name!r} {failed} and is told nothing more; the run goes on ({reason})")
