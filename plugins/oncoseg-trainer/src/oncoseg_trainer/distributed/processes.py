"""The processes of a run: one alone, or those that ``torchrun`` started."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from oncoseg_core import RunError, UsageError
from oncoseg_trainer.distributed.interruption import waiting_for
from oncoseg_trainer.distributed.liveness import JOIN_SECONDS, Lifelines, watched

T = TypeVar("T")

_LAUNCHED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun tells each process besides WORLD_SIZE."""


COLLECTIVE_TIMEOUT = timedelta(hours=1)
"""A process that lives may keep the others waiting while it fetches a dataset, or scores its share of large cases. One
that died is found out by its lifeline long before."""


@dataclass(frozen=True)
class Processes:
    """This process's ``rank`` among ``world_size``, and the device it computes on."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and talks to the terminal."""
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Element-wise sum over all processes."""
        if self.world_size > 1:
            with _others():
                dist.all_reduce(values)
        return values

    def gather(self, value: T) -> list[T]:
        """Every process's value, in order of rank, on every process."""
        if self.world_size == 1:
            return [value]
        gathered: list[Any] = [None] * self.world_size
        with _others():
            dist.all_gather_object(gathered, value)
        return gathered

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any process."""
        return self.any_of(flag)[0]

    def any_of(self, *flags: bool) -> list[bool]:
        """Of each flag, whether it is set on any process; in one exchange."""
        set_on: list[bool] = self.sum(torch.tensor(flags, dtype=torch.float32, device=self.device)).bool().tolist()
        return set_on

    def on_first(self, work: Callable[[], T]) -> T:
        """Do something on the first process while the others wait; its result, or its error, on all."""
        outcome: list[tuple[T | None, Exception | None]] = [(None, None)]
        if self.is_first:
            try:
                outcome = [(work(), None)]
            except Exception as error:  # noqa: BLE001 - raised again below, on every process
                outcome = [(None, error)]
        if self.world_size > 1:
            with _others():
                dist.broadcast_object_list(outcome, src=0)
        result, failure = outcome[0]
        if failure is not None:
            raise failure
        return cast("T", result)

    def barrier(self) -> None:
        """Wait for the other processes."""
        self.on_first(lambda: None)


def _others() -> AbstractContextManager[None]:
    return waiting_for("the other processes of the run")


@contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """Join the process group that ``torchrun`` describes in the environment, or stay alone.

    Args:
        device: ``auto`` (CUDA where there is one), ``cpu`` or ``cuda``.

    Raises:
        RunError: ``cuda`` is asked for and there is none; the others cannot be joined; or one of them died meanwhile.
    """
    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise RunError("training.device is 'cuda', but torch finds no CUDA device; use 'auto' or 'cpu'")
    use_cuda = cuda and device != "cpu"
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = torch.device("cuda", local_rank) if use_cuda else torch.device("cpu")
    if use_cuda:
        torch.cuda.set_device(chosen)
    missing = [name for name in _LAUNCHED if name not in os.environ] if "WORLD_SIZE" in os.environ else []
    if missing:
        raise UsageError(f"WORLD_SIZE is set but not {', '.join(missing)}: start several processes with torchrun")
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield Processes(0, 1, chosen)
        return
    try:
        store, rank, world_size = next(rendezvous("env://", timeout=timedelta(seconds=JOIN_SECONDS)))
        lines = Lifelines(store, rank, world_size)
        # torchrun's store may outlive a restart, and what the processes before said in it.
        store = PrefixStore(f"oncoseg/{lines.meeting}", store)
    except dist.DistError as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"process {os.environ['RANK']} cannot join the others: {reason}") from error
    with watched(lines):
        dist.init_process_group(
            "nccl" if use_cuda else "gloo",
            store=store, rank=rank, world_size=world_size, timeout=COLLECTIVE_TIMEOUT,
        )  # fmt: skip
        yield Processes(rank, world_size, chosen)
        dist.destroy_process_group()  # after an error it could wait for the dead
