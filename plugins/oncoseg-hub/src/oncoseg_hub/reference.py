"""From what a user writes to a repository on the hub."""

from __future__ import annotations

import os

from pydantic import ValidationError

from oncoseg_core import UsageError, close_matches
from oncoseg_lora import ALIASES, REPOSITORY_VARIABLE, HubName

FORMS = "OWNER/REPOSITORY, OWNER/REPOSITORY/FOLDER, or one of " + ", ".join(ALIASES)


def parse_reference(text: str) -> tuple[HubName, str | None]:
    """The adapter that a reference names, and the alias where it is one.

    Raises:
        UsageError: it has none of the forms, or is an alias and no repository is set for these.
    """
    if text in ALIASES:
        repository = os.environ.get(REPOSITORY_VARIABLE)
        if not repository:
            raise UsageError(
                f"{text}: {REPOSITORY_VARIABLE} is not set, and no repository is known that holds the paper's "
                f"checkpoints as OncoSeg adapters; set it to the OWNER/REPOSITORY that has a folder {text}/, or give "
                f"OWNER/REPOSITORY/{text}"
            )
        try:
            return HubName(repository=repository, subfolder=text), text
        except ValidationError:
            raise UsageError(f"{REPOSITORY_VARIABLE}={repository}: expected OWNER/REPOSITORY") from None
    owner, _, rest = text.partition("/")
    repository, _, subfolder = rest.partition("/")
    try:
        return HubName(repository=f"{owner}/{repository}", subfolder=subfolder or None), None
    except ValidationError:
        near = close_matches(text, ALIASES) if "/" not in text else ""
        raise UsageError(f"{text}: is no adapter's name; expected {FORMS}{near}") from None


def parse_target(repository: str, subfolder: str | None) -> HubName:
    """Where to push to.

    Raises:
        UsageError: the names are none that the hub takes.
    """
    try:
        return HubName(repository=repository, subfolder=subfolder)
    except ValidationError:
        told = repository if subfolder is None else f"{repository}, --name {subfolder}"
        raise UsageError(f"{told}: expected OWNER/REPOSITORY, and a plain name for a folder in it") from None
