"""The stream of micro-batches: made when asked for, or ahead of time by worker processes. It is the same stream."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Self

import torch

from oncoseg_core import OncoSegError, PluginError, Prompt
from oncoseg_trainer.data.plan import Plan
from oncoseg_trainer.data.samples import Sample, SampleMaker
from oncoseg_trainer.data.sampling import Draw, Sampler
from oncoseg_trainer.data.workers import AHEAD, Workers, require_sendable
from oncoseg_trainer.distributed.interruption import waiting_for

Request = tuple[int, list[Draw]]
"""An epoch, and the samples of one micro-batch."""


@dataclass(frozen=True, eq=False)
class Batch:
    """A micro-batch, put together where it was made.

    ``number`` is that of its first sample within the epoch's sampler; ``pixels`` ``(n, 3, size, size)``, ``target``
    ``(n, size, size)``, and of each the prompt, the modality and weight, how many clicks correct the answer, and the
    name. A slice that a sample goes on to is a row of its own behind it, with an empty prompt.
    """

    number: int
    pixels: torch.Tensor
    prompts: list[Prompt]
    target: torch.Tensor
    kinds: list[tuple[str, float]]
    corrections: list[int]
    names: list[str]

    def pin_memory(self) -> Batch:
        """The same in page-locked memory, from which a GPU fetches while the CPU goes on."""
        return replace(self, pixels=self.pixels.pin_memory(), target=self.target.pin_memory())

    def on(
        self, device: torch.device
    ) -> tuple[torch.Tensor, list[Prompt], torch.Tensor, list[tuple[str, float]], list[int]]:
        """What the model and its loss take, on a device."""
        pixels, target = (tensor.to(device, non_blocking=True) for tensor in (self.pixels, self.target))
        return pixels, self.prompts, target, self.kinds, self.corrections


class BatchStream:
    """The micro-batches of this process, in order, from one step to the end of the run.

    Workers share nothing with this process: what they get is the names of cases, and each reads for itself. At most two
    batches a worker are ready ahead. Use it with ``with``.

    Args:
        maker: makes the samples.
        sampler: says which.
        plan: says which of them are this process's.
        steps: from and to, in optimizer steps.
        workers: how many processes.
        pinned: whether the workers' batches come in page-locked memory, for a GPU.
        warn: takes a line about a sample that is long in coming.

    Attributes:
        waited: seconds that were spent waiting for batches.
    """

    def __init__(
        self,
        maker: SampleMaker,
        sampler: Sampler,
        plan: Plan,
        steps: range,
        workers: int,
        *,
        pinned: bool = False,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._maker = maker
        self._requests = _requests(sampler, plan, steps)
        self._number = workers
        self._pinned = pinned
        self._warn = warn
        self._batches: Iterator[Batch] | None = None
        self._workers: Workers[Request, Batch] | None = None
        self.waited = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """End the workers."""
        self._batches = None
        if self._workers is not None:
            self._workers.close()

    def __next__(self) -> Batch:
        """The next micro-batch.

        Raises:
            OncoSegError: a sample could not be made, wherever that was tried.
            PluginError: a component cannot be sent to a worker.
            RunError: a worker died, or could not hand its batch over.
            AbandonedError: a stop did not wait for it any longer.
        """
        started = time.perf_counter()
        try:
            if self._batches is None:
                self._batches = self._start()
            batch = next(self._batches)
            return batch.pin_memory() if self._pinned and self._workers is not None else batch
        finally:
            self.waited += time.perf_counter() - started

    def _start(self) -> Iterator[Batch]:
        if not self._number:
            return self._made_here()
        work = _Work(self._maker)
        require_sendable(work)
        self._workers = Workers(work, self._requests, self._number, name=self._name, warn=self._warn)
        return iter(self._workers)

    def _made_here(self) -> Iterator[Batch]:
        for request in self._requests:
            with waiting_for(self._name(request), may_be_left=True):
                batch = make_batch(self._maker, *request)
            yield batch

    def _name(self, request: Request) -> str:
        cases = (self._maker.sources[draw.dataset].record(draw.case).case_id for draw in request[1])
        return f"a sample of case {', '.join(map(repr, dict.fromkeys(cases)))}"


def _requests(sampler: Sampler, plan: Plan, steps: range) -> Iterator[Request]:
    """What has to be made, in order."""
    for number in steps:
        step = plan.step(number)
        for batch in step.batches:
            yield step.epoch, [sampler.draw(step.epoch, position) for position in batch]


def batch_bytes(slices: int, size: int) -> int:
    """The tensors of a micro-batch: pixels and target, ``(n, 3, size, size)`` and ``(n, size, size)`` in float32."""
    return slices * 4 * size * size * 4


def most_batches(workers: int) -> int:
    """How many batches a process and its workers hold at most: those ahead, the one in use and the one before."""
    return AHEAD * workers + 2


@dataclass(frozen=True, eq=False)
class _Work:
    """What a worker does with a request. Causes of an error do not travel: they go along as text, for --debug."""

    maker: SampleMaker

    def __call__(self, request: Request) -> Batch:
        try:
            return make_batch(self.maker, *request)
        except OncoSegError as error:
            if error.__cause__ is not None:
                error.add_note("In the worker:\n" + "".join(traceback.format_exception(error.__cause__)))
            raise


def make_batch(maker: SampleMaker, epoch: int, draws: list[Draw]) -> Batch:
    """Make some samples ready, and put them together."""
    samples = [_sample(maker, draw, epoch) for draw in draws]
    rows = [row for sample in samples for row in _rows(sample)]
    return Batch(
        number=draws[0].number,
        pixels=torch.stack([row.pixels for row in rows]),
        prompts=[row.prompt for row in rows],
        target=torch.stack([row.target for row in rows]),
        kinds=[(row.modality, row.weight) for row in rows],
        corrections=[row.corrections for row in rows],
        names=[row.name for row in rows],
    )


def _rows(sample: Sample) -> list[Sample]:
    """A sample, and each slice that it goes on to, which together weigh as much as one."""
    weight = sample.weight / (1 + len(sample.following))
    followed = [
        replace(sample, pixels=each.pixels, target=each.target, prompt=(), weight=weight, corrections=0, following=())
        for each in sample.following
    ]
    return [replace(sample, weight=weight), *followed]


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
