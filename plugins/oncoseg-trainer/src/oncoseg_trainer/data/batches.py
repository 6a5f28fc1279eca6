"""The stream of micro-batches: made when asked for, or ahead of time by worker processes. It is the same stream."""

from __future__ import annotations

import pickle
import signal
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, Self, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from oncoseg_core import OncoSegError, PluginError, Prompt, RunError
from oncoseg_trainer.data.plan import Plan
from oncoseg_trainer.data.samples import Sample, SampleMaker
from oncoseg_trainer.data.sampling import Draw, Sampler
from oncoseg_trainer.distributed.interruption import STOP_SIGNALS

T = TypeVar("T")

Request = tuple[int, list[Draw]]
"""An epoch, and the samples of one micro-batch."""


@dataclass(frozen=True, eq=False)
class Batch:
    """A micro-batch, put together where it was made.

    ``number`` is that of its first sample within the epoch's sampler; ``pixels`` ``(n, 3, size, size)``, ``target``
    ``(n, size, size)``, and of each sample the prompt, the modality and weight, and the name.
    """

    number: int
    pixels: torch.Tensor
    prompts: list[Prompt]
    target: torch.Tensor
    kinds: list[tuple[str, float]]
    names: list[str]

    def pin_memory(self) -> Batch:
        """The same in page-locked memory, from which a GPU fetches while the CPU goes on; torch's loader asks."""
        return replace(self, pixels=self.pixels.pin_memory(), target=self.target.pin_memory())

    def on(self, device: torch.device) -> tuple[torch.Tensor, list[Prompt], torch.Tensor, list[tuple[str, float]]]:
        """What the model and its loss take, on a device."""
        pixels, target = (tensor.to(device, non_blocking=True) for tensor in (self.pixels, self.target))
        return pixels, self.prompts, target, self.kinds


class BatchStream:
    """The micro-batches of this process, in order, from one step to the end of the run.

    Workers are started afresh, not forked, so that they share nothing with this process: what they get is the names of
    cases, and each reads for itself. At most two batches a worker are ready ahead. Use it with ``with``.

    Args:
        maker: makes the samples.
        sampler: says which.
        plan: says which of them are this process's.
        steps: from and to, in optimizer steps.
        workers: how many processes.
        pinned: whether the workers' batches come in page-locked memory, for a GPU.

    Attributes:
        waited: seconds that were spent waiting for batches.
    """

    def __init__(
        self, maker: SampleMaker, sampler: Sampler, plan: Plan, steps: range, workers: int, *, pinned: bool = False
    ) -> None:
        self._maker = maker
        self._requests = _Requests(sampler, plan, steps)
        self._workers = workers
        self._pinned = pinned
        self._batches: Iterator[Batch] | None = None
        self._loading: Any = None
        self.waited = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """End the workers.

        Raises:
            RunError: one of them died. The loader says so whatever the process is doing at that moment.
        """
        self._batches = None
        workers: Sequence[BaseProcess] = [] if self._loading is None else self._loading._workers  # noqa: SLF001
        dead = _dead(workers) if _is_worker_death(error, workers) else None
        if self._loading is not None:
            # Not left to the garbage collector: an error's traceback would keep the workers, and the loader's watch
            # over them, which raises wherever it likes.
            self._loading._shutdown_workers()  # noqa: SLF001
            self._loading = None
        if dead is not None:
            raise RunError(f"a data worker died{dead}; go on with --resume, and with fewer training.workers") from error

    def __next__(self) -> Batch:
        """The next micro-batch.

        Raises:
            OncoSegError: a sample could not be made, wherever that was tried.
            PluginError: a component cannot be sent to a worker.
        """
        started = time.perf_counter()
        try:
            if self._batches is None:
                self._batches = self._start()
            return next(self._batches)
        finally:
            self.waited += time.perf_counter() - started

    def _start(self) -> Iterator[Batch]:
        if not self._workers:
            return (_made(self._maker, *request) for request in self._requests)
        loader: DataLoader[Any] = DataLoader(
            _InWorker(self._maker),
            batch_size=None,  # a request is a whole micro-batch
            sampler=self._requests,
            num_workers=self._workers,
            multiprocessing_context="spawn",
            collate_fn=_unchanged,
            pin_memory=self._pinned,
        )
        _require_sendable(self._maker)
        with _signals_blocked():
            self._loading = iter(loader)
        return _raising(self._loading)


@dataclass(frozen=True, eq=False)
class _Requests(Iterable[Request]):
    """What has to be made, in order."""

    sampler: Sampler
    plan: Plan
    steps: range

    def __iter__(self) -> Iterator[Request]:
        for number in self.steps:
            step = self.plan.step(number)
            for batch in step.batches:
                yield step.epoch, [self.sampler.draw(step.epoch, position) for position in batch]


class _InWorker(Dataset[Any]):
    """What a worker does with a request. Our own errors come back as values, to be raised in one line."""

    def __init__(self, maker: SampleMaker) -> None:
        self._maker = maker

    def __getitem__(self, request: Any) -> Batch | OncoSegError:
        try:
            return _made(self._maker, *request)
        except OncoSegError as error:
            if error.__cause__ is not None:  # which does not travel; --debug shows it all the same
                error.add_note("In the worker:\n" + "".join(traceback.format_exception(error.__cause__)))
            return error


def _made(maker: SampleMaker, epoch: int, draws: list[Draw]) -> Batch:
    samples = [_sample(maker, draw, epoch) for draw in draws]
    return Batch(
        number=draws[0].number,
        pixels=torch.stack([sample.pixels for sample in samples]),
        prompts=[sample.prompt for sample in samples],
        target=torch.stack([sample.target for sample in samples]),
        kinds=[(sample.modality, sample.weight) for sample in samples],
        names=[sample.name for sample in samples],
    )


def _sample(maker: SampleMaker, draw: Draw, epoch: int) -> Sample:
    """A sample; what a component raises that is none of our own errors, is named with the sample.

    Raises:
        OncoSegError: the sample could not be made.
    """
    try:
        return maker.make(draw, epoch)
    except PluginError as error:
        raise PluginError(_unmade(maker, draw, str(error))) from error
    except (OncoSegError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginError(_unmade(maker, draw, f"{reason}; --debug shows where")) from error


def _unmade(maker: SampleMaker, draw: Draw, reason: str) -> str:
    case = maker.sources[draw.dataset].record(draw.case)
    return f"a sample of case {case.case_id!r} ({case.dataset}, {draw.target}) could not be made: {reason}"


def _raising(batches: Iterator[Any]) -> Iterator[Batch]:
    for batch in batches:
        if isinstance(batch, OncoSegError):
            raise batch
        yield batch


def _require_sendable(maker: SampleMaker) -> None:
    """Find out before the first worker is started, which could not be ended tidily."""
    try:
        pickle.dumps(maker)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise PluginError(
            f"a dataset, normalizer or prompt generator cannot be sent to a worker process ({reason}): set "
            "training.workers to 0, or have its plugin keep nothing that cannot be pickled"
        ) from error


def _is_worker_death(error: BaseException | None, workers: Sequence[BaseProcess]) -> bool:
    """Whether an error is the death of a worker: torch's own word, or a broken connection to one that is gone."""
    torchs_word = _is_torchs_word(error)
    if not torchs_word and not isinstance(error, ConnectionError | EOFError | FileNotFoundError):
        return False
    for worker in workers:
        try:
            worker.join(timeout=1 / len(workers))  # it may be about to go
        except RuntimeError as word:  # torch speaks up in a signal handler, wherever the program is just then
            if not _is_torchs_word(word):
                raise
            torchs_word = True
    return torchs_word or not all(worker.is_alive() for worker in workers)


def _is_torchs_word(error: BaseException | None) -> bool:
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid")


def _dead(workers: Sequence[BaseProcess]) -> str:
    """Which workers have died, and of what, as far as the system tells."""
    deaths = []
    for number, worker in enumerate(workers):
        code = worker.exitcode
        if code is not None and code < 0:
            memory = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
            deaths.append(f"number {number} by {signal.Signals(-code).name}{memory}")
        elif code:
            deaths.append(f"number {number} with exit code {code}")
    return f" ({'; '.join(deaths)})" if deaths else ""


def _unchanged(value: T) -> T:
    return value


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Processes started meanwhile never see what asks the run to stop: it finishes its step and ends them itself."""
    resource_tracker.ensure_running()  # started later, it would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
