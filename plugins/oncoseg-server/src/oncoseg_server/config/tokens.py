"""Bearer tokens: read from the environment, kept as hashes, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from oncoseg_core import ConfigError
from oncoseg_server.config.settings import ServerSettings

SHORTEST = 16
"""Characters of a token: shorter ones can be guessed."""


class Tokens:
    """Who may use the server; without tokens, everyone who reaches it."""

    def __init__(self, by_user: Mapping[str, str]) -> None:
        self._hashes = {user: _hash(token) for user, token in by_user.items()}

    @property
    def required(self) -> bool:
        """Whether a request needs one."""
        return bool(self._hashes)

    def user_of(self, authorization: str | None) -> str | None:
        """The user whose token an ``Authorization`` header carries; None for nobody's. All are compared."""
        if not self._hashes:
            return "local"
        scheme, _, token = (authorization or "").partition(" ")
        given = _hash(token.strip()) if scheme.lower() == "bearer" else b""
        matches = [user for user, known in self._hashes.items() if hmac.compare_digest(known, given)]
        return matches[0] if matches else None


def tokens_of(settings: ServerSettings, environment: Mapping[str, str]) -> Tokens:
    """The tokens that the settings name.

    Raises:
        ConfigError: one is needed and none is named, a variable is not set, or its value is too short.
    """
    if not settings.tokens_required:
        return Tokens({})
    if settings.token_env is None:
        raise ConfigError(
            f"`host` {settings.host}: others than this machine can reach it, so a bearer token is required; name the "
            "environment variable that holds it in `token_env`, or bind to 127.0.0.1 without `origins`"
        )
    named = {"user": settings.token_env} if isinstance(settings.token_env, str) else settings.token_env
    if not named:
        raise ConfigError("`token_env` names no variable; give one, or one for each user")
    tokens = {}
    for user, variable in named.items():
        token = environment.get(variable, "")
        if len(token) < SHORTEST or not token.isascii() or any(character.isspace() for character in token):
            raise ConfigError(
                f"`token_env`: the environment variable {variable} must hold at least {SHORTEST} ASCII characters "
                f"without spaces, found {len(token)}; make one with: python -c 'import secrets; "
                "print(secrets.token_urlsafe(32))'"
            )
        tokens[user] = token
    if len(set(tokens.values())) < len(tokens):
        raise ConfigError("`token_env`: two users have the same token; give each one")
    return Tokens(tokens)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
