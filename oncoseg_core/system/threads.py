"""Work on the planes of a large volume in several threads: numpy lets go of the interpreter while it computes."""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_LARGE = 1 << 22
_MOST_THREADS = 4
"""More do not help: memory is what is waited for."""
_RUNS = 4
"""Runs of items for each thread: handing them over one by one would cost more than the work."""


def for_each(work: Callable[[Item], Result], items: Sequence[Item], voxels: int) -> list[Result]:
    """The results of ``work`` on each item, in their order; one after the other unless there are many voxels.

    A slice is never worth a thread, so that training's worker processes do not get in each other's way.
    """
    threads = min(_processors(), _MOST_THREADS, len(items)) if voxels >= _LARGE else 1
    if threads == 1:
        return [work(item) for item in items]
    size = math.ceil(len(items) / (threads * _RUNS))
    runs = [items[start : start + size] for start in range(0, len(items), size)]
    with ThreadPoolExecutor(threads) as pool:
        return [result for results in pool.map(lambda run: [work(item) for item in run], runs) for result in results]


def _processors() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
