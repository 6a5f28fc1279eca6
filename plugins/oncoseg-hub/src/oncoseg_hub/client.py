"""Talking to the hub: its library's errors as one line that says what to do, and never a token in it."""

from __future__ import annotations

import errno
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, constants, get_session, get_token
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils.tqdm import disable_progress_bars

from oncoseg_core import OncoSegError, StorageError
from oncoseg_core.system import write_failure

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES})
"""Errors of the system that are the disk's, not the network's."""

PATIENCE_S = 4
"""So long is waited for the hub's first answer."""
LONGEST = 300
"""Of what the hub or its library says, so many characters are shown."""


class HubError(OncoSegError):
    """The hub could not be reached, refused, or does not have what was asked for."""


def connect() -> HfApi:
    """The hub of ``HF_ENDPOINT``, with the token that the user has stored, if there is one.

    Raises:
        HubError: the library was told to stay offline, or the hub gives no answer in ``PATIENCE_S``.
    """
    if constants.HF_HUB_OFFLINE:
        raise HubError("HF_HUB_OFFLINE is set, so nothing is fetched from or sent to the hub; unset it to do so")
    hub_logging.set_verbosity(logging.ERROR)  # what goes wrong is told once, by the error
    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi()
    if not _answers(api.endpoint):
        raise HubError(f"{api.endpoint} cannot be reached; check the network, the proxy or HF_ENDPOINT, and try again")
    return api


def _answers(endpoint: str) -> bool:
    """Whether the hub says anything in ``PATIENCE_S``, be it no; its library would wait and try for minutes."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            # A proxy in between has answers of its own from 500 on.
            answers.append(get_session().head(endpoint, timeout=PATIENCE_S).status_code < 500)
        except Exception:  # noqa: BLE001 - that it does not answer is all there is to know
            answers.append(False)

    # In a thread, because looking up the hub's name has no time limit.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE_S)
    return answers == [True]


@contextmanager
def explained(api: HfApi, repository: str, doing: str) -> Iterator[None]:
    """Turn whatever the hub's library raises into one line.

    Args:
        api: the hub.
        repository: ``owner/repository``.
        doing: what is being done, for the message: ``reading``.

    Raises:
        HubError: anything but a full or read-only disk.
        StorageError: that.
    """
    try:
        yield
    except OncoSegError:
        raise
    except Exception as error:
        known = _known(error)
        if isinstance(known, OSError) and known.errno in DISK:
            raise StorageError(write_failure(known, Path(known.filename or "what is fetched"))) from error
        raise HubError(f"{repository}: {doing} failed: {_reason(known, api, repository)}") from error


def _known(error: BaseException) -> BaseException:
    """The cause that says most: the library wraps refusals and broken connections in errors of its own."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, HfHubHTTPError | OfflineModeIsEnabled):
            return found
        found = found.__cause__
    if isinstance(error, LocalEntryNotFoundError | RuntimeError) and error.__cause__ is not None:
        return error.__cause__
    return error


def _reason(error: BaseException, api: HfApi, repository: str) -> str:
    url = f"{api.endpoint}/{repository}"
    for kind, reason in (
        (GatedRepoError, f"it is gated; ask for access on {url}, then {LOG_IN}"),  # is a RepositoryNotFoundError too
        (
            RepositoryNotFoundError,
            f"there is no {url}, or it is private; check the name, and {LOG_IN} if you may see it",
        ),
        (RevisionNotFoundError, "it has no such revision; give a branch, tag or commit of it"),
        (EntryNotFoundError, "a file that it lists is not there; try again, or tell its owner"),
        (OfflineModeIsEnabled, "HF_HUB_OFFLINE is set; unset it"),
    ):
        if isinstance(error, kind) and not isinstance(error, LocalEntryNotFoundError):
            return reason
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code if error.response is not None else None
        refused = {401: f"the token is not accepted; {LOG_IN}", 403: "the token does not allow it; use one that does"}
        reason = (
            refused.get(status or 0) or f"{_one_line(error.server_message or 'no reason given', api)}; try again later"
        )
        return f"HTTP {status}: {reason}"
    return f"{type(error).__name__}: {_one_line(str(error), api)}; check the network and try again"


def _one_line(text: str, api: HfApi) -> str:
    """On one line, not longer than ``LONGEST``, and without the token."""
    line = " ".join(text.split())
    for token in (api.token, get_token()):
        if isinstance(token, str) and token:
            line = line.replace(token, "***")
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
