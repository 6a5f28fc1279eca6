"""Work on atlases some at a time, so that whoever watches hears of it, and so that it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import NamedTuple, TypeVar

from oncoseg_core import Progress

BEAT_SECONDS = 2.0
"""However long an atlas takes."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Watch(NamedTuple):
    """How work is watched: ``progress`` is called every few seconds; once ``late`` says yes, nothing new is begun."""

    progress: Progress
    late: Callable[[], bool]
    threads: int


def in_turn(what: str, items: Iterable[Item], total: int, work: Callable[[Item], Result], watch: Watch) -> list[Result]:
    """The results in the order of the items. The first item is always worked on, those not begun in time are not."""
    queue = iter(items)
    results: dict[int, Result] = {}
    running: dict[Future[Result], int] = {}
    begun = 0
    with ThreadPoolExecutor(watch.threads) as pool:
        while True:
            while len(running) < watch.threads and not (begun and watch.late()):
                item = next(queue, None)
                if item is None:
                    break
                running[pool.submit(work, item)] = begun
                begun += 1
            if not running:
                return [results[number] for number in sorted(results)]
            done, _ = wait(running, timeout=BEAT_SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                results[running.pop(future)] = future.result()
            watch.progress(what, len(results), max(total, len(results)))
