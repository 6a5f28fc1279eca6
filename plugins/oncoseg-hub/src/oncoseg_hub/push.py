"""Pushing an adapter: what was checked is what is sent, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token

from oncoseg_core import UsageError, WeightsError
from oncoseg_hub.client import LOG_IN, HubError, explained
from oncoseg_hub.local_paths import paths_in_json, paths_in_text
from oncoseg_lora import (
    ADAPTER_FILES,
    CARD_FILE,
    CONFIG_FILE,
    MANIFEST_FILE,
    TRAINED_ON_FILE,
    WEIGHTS_FILE,
    AdapterManifest,
    HubName,
    check_files,
    read_checked,
)


class Pushed(NamedTuple):
    """Where an adapter went: its name there, the commit, and the page."""

    name: HubName
    revision: str
    url: str


def to_send(folder: Path) -> dict[str, bytes]:
    """The files of an adapter that may be published, by name.

    Raises:
        WeightsError: the folder is no sound adapter, has no card, or a text in it holds a path of this machine.
    """
    manifest = check_files(folder)
    contents: dict[str, bytes] = {
        WEIGHTS_FILE: read_checked(folder, WEIGHTS_FILE, manifest),
        CONFIG_FILE: read_checked(folder, CONFIG_FILE, manifest),
    }
    if TRAINED_ON_FILE in manifest.files:
        contents[TRAINED_ON_FILE] = read_checked(folder, TRAINED_ON_FILE, manifest)
    contents[MANIFEST_FILE] = (folder / MANIFEST_FILE).read_bytes()
    if AdapterManifest.model_validate_json(contents[MANIFEST_FILE]) != manifest:
        raise WeightsError(f"{folder / MANIFEST_FILE}: changed while it was read; try again")
    try:
        contents[CARD_FILE] = (folder / CARD_FILE).read_bytes()
        card = contents[CARD_FILE].decode()
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(
            f"{folder / CARD_FILE}: {error}; an adapter is not published without a card that says what it is: write "
            "one, or save the adapter again"
        ) from error
    for file, paths in (
        (CARD_FILE, paths_in_text(card)),
        (MANIFEST_FILE, paths_in_json(contents[MANIFEST_FILE])),
        (CONFIG_FILE, paths_in_json(contents[CONFIG_FILE])),
    ):
        if paths:
            raise WeightsError(
                f"{folder / file}: holds what looks like a path of a machine, {paths[0]!r}; such paths tell of people "
                "and places: remove it before publishing" + (f" (and {len(paths) - 1} more)" if paths[1:] else "")
            )
    return contents


def push(
    api: HfApi,
    contents: Mapping[str, bytes],
    name: HubName,
    *,
    private: bool,
    say: Callable[[str], None],
) -> Pushed:
    """Send an adapter to a repository, which is made when there is none, in one commit.

    Args:
        api: the hub.
        contents: from :func:`to_send`.
        name: where to. Files of an earlier adapter there are replaced, or removed where this one has none.
        private: the repository must be private; a new one is made so.
        say: told what is about to happen.

    Raises:
        UsageError: nobody is logged in.
        HubError: the hub refuses, or ``private`` is asked for and the repository is public.
    """
    repository = name.repository
    if not get_token() and not api.token:
        raise UsageError(f"pushing needs a token that may write to {repository}: {LOG_IN}")
    with explained(api, repository, "making the repository"):
        api.create_repo(repository, private=True if private else None, exist_ok=True)
    with explained(api, repository, "reading"):
        info = api.model_info(repository)
    if private and not info.private:
        raise HubError(f"{repository}: exists and is public, but --private was asked for; nothing was sent")
    prefix = "" if name.subfolder is None else f"{name.subfolder}/"
    there = {sibling.rfilename for sibling in info.siblings or ()}
    old = [file for file in ADAPTER_FILES if file not in contents and f"{prefix}{file}" in there]
    say(f"Sending to {api.endpoint}/{repository} ({'private' if info.private else 'public'})")
    with explained(api, repository, "sending"):
        commit = api.create_commit(
            repository,
            [
                *(CommitOperationAdd(f"{prefix}{file}", content) for file, content in contents.items()),
                *(CommitOperationDelete(f"{prefix}{file}") for file in old),
            ],
            commit_message=f"Adapter {name.name}",
        )
    with explained(api, repository, "checking what arrived"):
        arrived = api.model_info(repository, revision=commit.oid, files_metadata=True)
    sizes = {sibling.rfilename: sibling.size for sibling in arrived.siblings or ()}
    lost = [file for file, content in contents.items() if sizes.get(f"{prefix}{file}") != len(content)]
    if lost:
        raise HubError(
            f"{repository}: {', '.join(lost)} did not arrive whole in commit {commit.oid}; a .gitignore there may "
            "leave them out, remove it and push again"
        )
    return Pushed(name, commit.oid, f"{api.endpoint}/{repository}/tree/{commit.oid}/{prefix}".rstrip("/"))
