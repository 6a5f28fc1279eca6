"""Pulling an adapter: only its own files, checked against its manifest, into the store whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from huggingface_hub import HfApi
from pydantic import ValidationError

from oncoseg_core import StorageError, UsageError, WeightsError
from oncoseg_core.system import write_failure
from oncoseg_hub.client import HubError, explained
from oncoseg_lora import (
    ADAPTER_FILES,
    CARD_FILE,
    CONFIG_FILE,
    MANIFEST_FILE,
    ORIGIN_FILE,
    TRAINED_ON_FILE,
    WEIGHTS_FILE,
    AdapterManifest,
    HubName,
    Origin,
    check_files,
    read_trained_on,
)

MEBIBYTE = 1024 * 1024
LARGEST = {
    WEIGHTS_FILE: 4096 * MEBIBYTE,
    CONFIG_FILE: MEBIBYTE,
    MANIFEST_FILE: 4 * MEBIBYTE,
    TRAINED_ON_FILE: 256 * MEBIBYTE,
    CARD_FILE: 4 * MEBIBYTE,
}
"""Bytes. SAM3's largest policy takes 175 MB in float32; a case trained on takes 65 bytes."""

UNWANTED = frozenset(
    {".bin", ".ckpt", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}  # pickled
    | {".bat", ".dll", ".dylib", ".exe", ".ipynb", ".js", ".ps1", ".py", ".pyc", ".sh", ".so"}  # code
)
"""Suffixes of what has no place beside an adapter: it is data, and needs no code and no pickle."""

ANSWER_S = 10
"""So long is waited for the list of a repository's files."""
PARTIAL = ".pull-"
STALE_SECONDS = 24 * 3600


class Pulled(NamedTuple):
    """An adapter in its folder, where it came from, and whether it had been there already."""

    folder: Path
    origin: Origin
    manifest: AdapterManifest
    was_there: bool


def pull(
    api: HfApi, name: HubName, *, alias: str | None = None, revision: str | None = None, into: Path | None = None
) -> Pulled:
    """Fetch an adapter. The commit is looked up once, and every file is that commit's.

    Args:
        api: the hub.
        name: which adapter.
        alias: what it was asked for by, to be found by it later.
        revision: a branch, tag or commit; the default branch when omitted.
        into: a folder of the user's own, new or empty; the store when omitted, where another commit is replaced.

    Raises:
        HubError: the hub does not give it.
        WeightsError: what it gives is no sound adapter.
        UsageError: ``into`` holds something already.
        StorageError: the place cannot be written. In all cases the place is then as it was before.
    """
    if into is not None and into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise UsageError(f"--into {into}: exists and is not empty; give a new folder")
    with explained(api, name.repository, "reading"):
        info = api.model_info(name.repository, revision=revision, files_metadata=True, timeout=ANSWER_S)
    try:
        origin = Origin(repository=name.repository, subfolder=name.subfolder, revision=info.sha or "", alias=alias)
    except ValidationError:
        raise HubError(f"{name.repository}: the hub names no commit ({str(info.sha)[:50]!r}); try again") from None
    sizes = _chosen(name, {sibling.rfilename: sibling.size for sibling in info.siblings or ()})
    target = into if into is not None else origin.folder
    there = None if into is not None else _already_there(origin)
    if there is not None:
        return Pulled(target, origin, there, was_there=True)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=target.parent, ignore_cleanup_errors=True) as work:
            manifest = _fetch(api, origin, sizes, Path(work))
            _replace_folder(Path(work) / "adapter", target, Path(work) / "replaced")
    except OSError as error:
        raise StorageError(write_failure(error, target)) from error
    return Pulled(target, origin, manifest, was_there=False)


def _chosen(name: HubName, offered: Mapping[str, int | None]) -> dict[str, int]:
    """The adapter's files and their sizes, of all that the repository lists.

    Raises:
        WeightsError: one is missing or too large, or something is there that is no part of an adapter.
    """
    prefix = "" if name.subfolder is None else f"{name.subfolder}/"
    here = {path.removeprefix(prefix): size for path, size in offered.items() if path.startswith(prefix)}
    here = {path: size for path, size in here.items() if "/" not in path}
    missing = [file for file in (MANIFEST_FILE, CONFIG_FILE, WEIGHTS_FILE) if file not in here]
    if missing:
        holders = sorted(str(PurePosixPath(path).parent) for path in offered if path.endswith(f"/{MANIFEST_FILE}"))
        advice = f"; adapters are in its folders {', '.join(holders[:8])}" if holders else ""
        raise WeightsError(
            f"{name.name}: is no OncoSeg adapter, or not a whole one: it has no {', '.join(missing)}{advice}"
        )
    unwanted = sorted(path for path in here if PurePosixPath(path).suffix.lower() in UNWANTED)
    if unwanted:
        raise WeightsError(
            f"{name.name}: holds {', '.join(unwanted[:5])}: an adapter is data alone, with no code and no pickle; "
            "nothing was fetched"
        )
    sizes: dict[str, int] = {}
    for file in ADAPTER_FILES:
        if file in here:
            size = here[file]
            if size is None or not 0 <= size <= LARGEST[file]:
                raise WeightsError(
                    f"{name.name}: {file} has {size} bytes, expected at most {LARGEST[file]}; nothing was fetched"
                )
            sizes[file] = size
    return sizes


def _already_there(origin: Origin) -> AdapterManifest | None:
    """The manifest, if the store has this very commit, sound, under the same alias."""
    try:
        found = Origin.model_validate_json((origin.folder / ORIGIN_FILE).read_bytes())
        return check_files(origin.folder) if found == origin else None
    except (OSError, ValidationError, WeightsError):
        return None


def _fetch(api: HfApi, origin: Origin, sizes: Mapping[str, int], work: Path) -> AdapterManifest:
    """Bring the files to ``work/adapter``, and check them there."""
    adapter = work / "adapter"
    adapter.mkdir()
    for file, size in sizes.items():
        path = file if origin.subfolder is None else f"{origin.subfolder}/{file}"
        with explained(api, origin.repository, f"fetching {path}"):
            fetched = Path(
                api.hf_hub_download(origin.repository, path, revision=origin.revision, local_dir=work / "download")
            )
        if fetched.is_symlink() or not fetched.is_file() or fetched.stat().st_size != size:
            raise WeightsError(f"{origin.name}: {file} is not the file of {size} bytes that the hub lists; try again")
        fetched.rename(adapter / file)
    try:
        manifest = check_files(adapter)
        read_trained_on(adapter)
    except WeightsError as error:
        raise WeightsError(f"{origin.name}: {str(error).replace(f'{adapter}{os.sep}', '')}") from error
    (adapter / ORIGIN_FILE).write_text(origin.model_dump_json(indent=2), encoding="utf-8")
    return manifest


def _replace_folder(new: Path, target: Path, aside: Path) -> None:
    """Rename the folder to its place; what was there goes aside, and comes back if that fails."""
    if target.exists():
        target.rename(aside)
    try:
        new.rename(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise


def _sweep(folder: Path) -> None:
    """Remove what a pull left that was killed outright."""
    for left in folder.glob(f"{PARTIAL}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(left)
