"""Kill runs with ``kill -9`` at random moments, saves included, and resume them until they end: is anything lost?

After each kill every checkpoint in the folder must be whole. Each run that was killed, perhaps several times, must end
with the weights, the optimizer's state and the metrics of a run that nobody touched, bit for bit. Of two processes one
or both are killed; the other must end by itself.

    python benchmarks/peers/kill_and_resume.py

Processes are forked from this one, which has everything imported, so that a hundred kills take minutes. They meet as
``torchrun``'s would, through the same variables.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401 - so that the forked processes need not import it
import torch
from tiny_run import write_tiny_run

import oncoseg_trainer.distributed.liveness
import oncoseg_trainer.distributed.processes
from oncoseg_benchmarks.record import record, require, spread
from oncoseg_core import load_plugins
from oncoseg_trainer.checkpoints.checkpoint import find_damage, read_checkpoint
from oncoseg_trainer.config.settings import load_settings
from oncoseg_trainer.loop.run import train
from oncoseg_trainer.reporting.jsonl import METRICS_FILE

MOST_SECONDS = 120.0
"""For one attempt: one that takes longer hangs."""

SPARED, EARLY = 0.3, 0.2
"""The shares of attempts that are not killed, and that are killed before anything is written."""

EARLY_SECONDS, LATE_SECONDS = 2.0, 0.1
"""An early kill comes so long after the start at most, a later one after the metrics have grown to a random size."""

# A process whose fellow was killed before they met waits so long; torchrun, which is not here, would end it at once.
oncoseg_trainer.distributed.processes.JOIN_SECONDS = oncoseg_trainer.distributed.liveness.JOIN_SECONDS = 8.0


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="for each number of processes")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--dry", action="store_true", help="record nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)  # forked processes would miss the others
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        site, config = write_tiny_run(Path(folder), {})
        sys.path.insert(0, str(site))
        for processes in options.processes:
            moments = random.Random(f"{options.seed}, {processes}")  # noqa: S311 - not for secrets
            found[f"{processes} processes"] = kill_many(config, processes, options.kills, moments)
            print(found)
    if not options.dry:
        command = f"python benchmarks/peers/{Path(__file__).name} --kills {options.kills} --seed {options.seed}"
        print(record("kill_and_resume", command, found))


def kill_many(config: Path, processes: int, kills: int, moments: random.Random) -> dict[str, Any]:
    """Runs that are killed until they end, until so many kills were made.

    Raises:
        AssertionError: something was lost.
    """
    begun = time.perf_counter()
    whole = config.parent / f"whole-{processes}"
    attempt(config, whole, processes, None, moments)  # warms the disk up
    whole = config.parent / f"whole-{processes}-again"
    attempt(config, whole, processes, None, moments)
    n_bytes = (whole / METRICS_FILE).stat().st_size
    expected = fingerprint(whole)
    done = {"kills": 0, "while_saving": 0, "runs": 0, "most_kills_of_a_run": 0, "before_the_first_checkpoint": 0}
    survived: list[float] = []
    while done["kills"] < kills:
        folder = config.parent / f"killed-{processes}-{done['runs']}"
        own = 0
        while not (folder / "summary.json").exists():
            ended = attempt(config, folder, processes, n_bytes, moments)
            if ended is None:
                continue
            own += 1
            survived.extend(ended)
            checkpoints = folder / "checkpoints"
            done["while_saving"] += bool(list(checkpoints.glob(".partial-*")))
            paths = list(checkpoints.glob("step-*.pt"))
            done["before_the_first_checkpoint"] += not paths
            damaged = {path.name: damage for path in paths if (damage := find_damage(path))}
            require(not damaged, f"{damaged}")
            for path in paths:
                read_checkpoint(path)
        require(fingerprint(folder) == expected, f"{folder} ended otherwise than {whole}")
        shutil.rmtree(folder)
        done["kills"] += own
        done["runs"] += 1
        done["most_kills_of_a_run"] = max(done["most_kills_of_a_run"], own)
    return {
        **done,
        "damaged_checkpoints": 0,
        "runs_that_ended_bit_identical": done["runs"],
        "seconds_until_the_other_process_ended": spread([round(each, 2) for each in survived]) if survived else None,
        "seconds": round(time.perf_counter() - begun),
    }


def attempt(
    config: Path, folder: Path, processes: int, n_bytes: int | None, moments: random.Random
) -> list[float] | None:
    """Start the run, or go on with it, and kill it at some moment, or let it end.

    Args:
        config: of the run.
        folder: of the run.
        processes: how many.
        n_bytes: size of the metrics of a whole run; None lets it end.
        moments: draws what happens when.

    Returns:
        How long each process that was not killed went on; None when all had ended before the kill, or none came.

    Raises:
        AssertionError: a process failed by itself, or hangs.
    """
    is_due = kill_moment(folder / METRICS_FILE, n_bytes, moments)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    children = [fork(config, folder, rank, processes, port) for rank in range(processes)]
    victims = children if moments.random() < 0.5 else [moments.choice(children)]
    ended, killed = watch(children, victims, is_due)
    require(len(ended) == processes, failure_report(folder, f"hangs; {ended} have ended"))
    codes = [ended[child][0] for child in children]
    if killed is None or not any(codes):
        require(not any(codes), failure_report(folder, codes))
        return None
    for child, code in zip(children, codes, strict=True):
        # 0: was done at that moment; 1: was told that the other had died.
        require(code in ({0, -signal.SIGKILL} if child in victims else {0, 1}), failure_report(folder, codes))
    return [ended[child][1] - killed for child in children if child not in victims]


def kill_moment(metrics: Path, n_bytes: int | None, moments: random.Random) -> Callable[[], bool]:
    """A moment that does not depend on how fast the machine is just now."""
    started, delay = time.perf_counter(), moments.uniform(0, 1)
    kind, where = moments.random(), moments.random()
    if n_bytes is None or kind < SPARED:
        return lambda: False
    if kind < SPARED + EARLY:
        return lambda: time.perf_counter() - started > delay * EARLY_SECONDS
    now = size(metrics)
    wanted = now + where * (n_bytes - now)
    reached: list[float] = []

    def is_due() -> bool:
        if not reached and size(metrics) >= wanted and written(metrics) > begun:
            reached.append(time.perf_counter())
        return bool(reached) and time.perf_counter() - reached[0] > delay * LATE_SECONDS

    begun = written(metrics)
    return is_due


def watch(
    children: list[int], victims: list[int], is_due: Callable[[], bool]
) -> tuple[dict[int, tuple[int, float]], float | None]:
    """Wait until all children have ended, and kill the victims when that is due.

    Returns:
        The exit code of each child and when it ended, without those that hang; and when the victims were killed.
    """
    started = time.perf_counter()
    ended: dict[int, tuple[int, float]] = {}
    killed = None
    while len(ended) < len(children):
        now = time.perf_counter()
        for child in set(children) - ended.keys():
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                ended[child] = (os.waitstatus_to_exitcode(status), now)
        if killed is None and is_due():
            killed = now
            kill(set(victims) - ended.keys())
        if now - started > MOST_SECONDS:
            kill(set(children) - ended.keys())
            break
        time.sleep(0.002)
    return ended, killed


def written(path: Path) -> int:
    """When a file was written; 0 when it is not there."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def size(path: Path) -> int:
    """Of a file; 0 when it is not there."""
    return path.stat().st_size if path.exists() else 0


def kill(children: set[int]) -> None:
    """With ``kill -9``."""
    for child in children:
        os.kill(child, signal.SIGKILL)


def fork(config: Path, folder: Path, rank: int, processes: int, port: int) -> int:
    """Start one process of a run; its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        faulthandler.dump_traceback_later(MOST_SECONDS - 10, file=2)
        if processes > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        begun = any((folder / "checkpoints").glob("step-*.pt"))
        settings = load_settings(str(config), [f"output={folder}"])
        train(settings, load_plugins(), resume=begun)
        code = 0
    except BaseException as error:  # noqa: BLE001 - whatever it is, it ends here and is told
        print(f"process {rank}: {type(error).__name__}: {error}", flush=True)
    finally:
        os._exit(code)


def failure_report(folder: Path, what: object) -> str:
    """An attempt's failure, with what its processes wrote."""
    log = Path(f"{folder}.log")  # not there yet where all were killed at once
    return f"{folder.name}: {what}\n{log.read_text() if log.exists() else ''}"


def fingerprint(folder: Path) -> str:
    """Of the weights, the optimizer's state, the adapter and the metrics at the end of a run.

    A run that was killed after its summary was written and before its last but one checkpoint was removed has two.
    """
    checkpoint = read_checkpoint(max((folder / "checkpoints").glob("step-*.pt")))
    found = hashlib.sha256()
    for name, tensor in sorted(checkpoint.trainable.items()):
        found.update(name.encode() + tensor.numpy().tobytes())
    for number, values in sorted(checkpoint.parts["optimizer"]["state"].items()):
        for name, tensor in sorted(values.items()):
            found.update(f"{number} {name}".encode() + torch.as_tensor(tensor).numpy().tobytes())
    found.update((folder / "adapter" / "adapter_model.safetensors").read_bytes())
    found.update((folder / METRICS_FILE).read_bytes())
    return found.hexdigest()


if __name__ == "__main__":
    main()
