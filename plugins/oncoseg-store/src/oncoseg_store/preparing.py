"""Making a prepared store: every case of a dataset read once, by several processes, in any number of attempts.

A case's file is named by a hash of all that it is made from (record, state of the source files, settings, versions) and
appears whole or not at all, so whatever is there is right and is kept. The index is written last: until then the store
is what it was before. Files that no case needs any more go after that.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from oncoseg_core import DataError, Progress, Registry, RunError, StorageError
from oncoseg_core.system import write_failure
from oncoseg_store.case_file import SUFFIX
from oncoseg_store.index import CASES, INDEX, IndexRow, case_path, read_index, write_index
from oncoseg_store.one_case import CasePreparer, Done, PreparationJob, Skipped

LOCK = ".lock"
_OURS = re.compile(rf"(\.partial-)?[0-9a-f]{{32}}{re.escape(SUFFIX)}$")

AHEAD = 4
"""Cases handed out per process, so that none waits and few are lost when a run ends early."""


@dataclass
class PreparationReport:
    """What a run did. ``across`` are the ids of cases whose through-plane axis is not the one they are cut along."""

    folder: Path
    prepared: int = 0
    kept: int = 0
    bytes: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    across: list[str] = field(default_factory=list)


def prepare_dataset(
    registry: Registry, job: PreparationJob, root: Path, workers: int, progress: Progress = lambda *_: None
) -> PreparationReport:
    """Prepare all cases of a dataset. A run that ended early is taken up where it stopped.

    Args:
        registry: what is installed; other processes find the same for themselves.
        job: the dataset, the store's folder and the settings.
        root: the folder of the dataset, as it was downloaded.
        workers: processes; 1 works in this one. A program of one's own that asks for more needs
            ``if __name__ == "__main__":`` around what it does.
        progress: called as ``progress("cases", done, total)``.

    Returns:
        the counts, and the cases that could not be read; the store holds the others.

    Raises:
        DataError: the folder holds no case, or none that can be read; two cases have one id; the store is of another
            dataset or folder.
        StorageError: the store cannot be written. What is finished stays.
        RunError: another run is writing there, or a worker process died.
    """
    preparer = CasePreparer(job, registry)
    root = root.absolute()
    _require_same_source(job.folder, job.dataset, root)
    records = _records(preparer, root)
    with _alone(job.folder):
        _remove(job.folder, lambda name: name.startswith(".partial-"))
        report = PreparationReport(job.folder)
        rows: list[IndexRow | None] = [None] * len(records)
        progress("cases", 0, len(records))
        for done, (number, outcome) in enumerate(_outcomes(preparer, job, records, workers), start=1):
            if isinstance(outcome, Skipped):
                report.skipped.append(outcome)
            else:
                rows[number] = outcome.row
                report.kept += outcome.kept
                report.prepared += not outcome.kept
                if outcome.across:
                    report.across.append(json.loads(outcome.row.record)["case_id"])
            progress("cases", done, len(records))
        finished = [row for row in rows if row is not None]
        report.skipped.sort()
        report.across.sort()
        if not finished:
            raise DataError(
                f"{root}: none of {len(records)} cases could be read; the first: {report.skipped[0].reason}"
            )
        modalities = sorted({json.loads(row.record)["modality"] for row in finished})
        facts = {
            "dataset": job.dataset,
            "root": str(root),
            "settings": preparer.settings,
            "normalizations": {name: preparer.normalization(name).identity for name in modalities},
            "skipped": [list(skipped) for skipped in report.skipped],
        }
        write_index(job.folder, facts, finished)
        needed = {f"{row.key}{SUFFIX}" for row in finished}
        _remove(job.folder, lambda name: name not in needed)
        report.bytes = (job.folder / INDEX).stat().st_size + sum(
            case_path(job.folder, row.key).stat().st_size for row in finished
        )
    return report


def _records(preparer: CasePreparer, root: Path) -> list[bytes]:
    """The cases' records as JSON, which takes a fifth of the memory."""
    ids: Counter[str] = Counter()
    records = []
    for case in preparer.adapter.discover(root):
        ids[case.case_id] += 1
        records.append(case.model_dump_json(exclude_defaults=True).encode())
    if not records:
        raise DataError(f"{root}: holds no case of this dataset")
    if repeated := [case_id for case_id, count in ids.items() if count > 1]:
        raise DataError(f"{root}: more than one case has the id {', '.join(sorted(repeated)[:5])}; ids must differ")
    return records


def _outcomes(
    preparer: CasePreparer, job: PreparationJob, records: Sequence[bytes], workers: int
) -> Iterator[tuple[int, Done | Skipped]]:
    """The cases' numbers and outcomes, as they come."""
    if workers == 1:
        for number, record in enumerate(records):
            yield number, preparer.prepare(record)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(records)), context, _start, (job,))
    try:
        waiting: dict[Future[Done | Skipped], int] = {}
        following = iter(enumerate(records))
        while True:
            while len(waiting) < AHEAD * workers and (task := next(following, None)) is not None:
                waiting[pool.submit(_prepare, task[1])] = task[0]
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), future.result()
    except BrokenProcessPool as error:
        raise RunError(
            "a worker process died (out of memory?); run again with fewer --workers: finished cases are kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_preparers: list[CasePreparer] = []
"""In a worker process: its preparer."""


def _start(job: PreparationJob) -> None:
    """Begin a worker process: it leaves Ctrl-C to its parent, and does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _preparers.append(CasePreparer(job))


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _prepare(record: bytes) -> Done | Skipped:
    return _preparers[0].prepare(record)


def _require_same_source(folder: Path, dataset: str, root: Path) -> None:
    """Refuse to replace the store of another dataset or folder."""
    try:
        facts = read_index(folder).facts
    except DataError:  # none, an unfinished one, one of another version: made anew
        return
    if (facts["dataset"], facts["root"]) != (dataset, str(root)):
        raise DataError(
            f"{folder}: is the prepared store of {facts['dataset']!r} from {facts['root']}; choose another --dest, or "
            "delete it first"
        )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the store's lock, which ends with the process however that ends; no lock where the system has none.

    Raises:
        RunError: another run holds it.
        StorageError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StorageError(write_failure(error, folder)) from error
    try:
        with contextlib.suppress(ImportError):  # Windows
            import fcntl

            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(f"{folder}: another oncoseg datasets prepare is writing there; wait for it") from error
            except OSError:  # a network disk that cannot lock
                pass
        yield
    finally:
        os.close(handle)


def _remove(folder: Path, unneeded: Callable[[str], bool]) -> None:
    """Remove files of cases by name; whatever else lies there is not touched."""
    with contextlib.suppress(FileNotFoundError):
        for group in (entry for entry in os.scandir(folder / CASES) if entry.is_dir()):
            for entry in os.scandir(group.path):
                if _OURS.match(entry.name) and unneeded(entry.name):
                    with contextlib.suppress(OSError):
                        Path(entry.path).unlink()
