"""Whether Weights & Biases can be used online: a key, whose value is not looked at, and a server that answers."""

from __future__ import annotations

import netrc
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

SERVER = "https://api.wandb.ai"


def has_key(environment: Mapping[str, str]) -> bool:
    """Whether the environment (``WANDB_API_KEY``, ``WANDB_IDENTITY_TOKEN_FILE``) or the netrc file has one.

    The places are those where wandb 0.31 looks, with ``WANDB_BASE_URL`` for a server of one's own.
    """
    if environment.get("WANDB_API_KEY") or environment.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(_server(environment)).netloc
    if "NETRC" in environment:
        places = [Path(environment["NETRC"]).expanduser()]
    else:
        places = [Path.home() / ".netrc", Path.home() / "_netrc"]
    for place in places:
        if place.exists():
            try:
                found = netrc.netrc(place).authenticators(host)
            except (netrc.NetrcParseError, OSError):
                return False
            return bool(found and found[2])
    return False


def chosen_mode(wanted: str, environment: Mapping[str, str]) -> str:
    """``online`` or ``offline``, for a wanted ``auto``; an offline ``WANDB_MODE`` holds in any case."""
    if environment.get("WANDB_MODE", "").lower() in {"offline", "disabled", "dryrun"}:
        return "offline"
    if wanted == "auto":
        return "online" if has_key(environment) else "offline"
    return wanted


def answers(environment: Mapping[str, str], timeout_s: float) -> bool:
    """Whether the server says anything at all, through a proxy if one is set; nothing is sent to it."""
    try:
        with urlopen(_server(environment), timeout=timeout_s):  # noqa: S310 - the user's own server
            return True
    except HTTPError:
        return True
    except (OSError, HTTPException, ValueError):
        return False


def _server(environment: Mapping[str, str]) -> str:
    return environment.get("WANDB_BASE_URL") or SERVER
