"""Requests to one DICOMweb origin: its address, credentials and limits, and its failures in words."""

from __future__ import annotations

import json
import os
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx

from oncoseg_core import ConfigError
from oncoseg_core.system import read_regular
from oncoseg_dicomweb.archive import ArchiveError

JSON = "application/dicom+json"


@dataclass(frozen=True)
class Credentials:
    """A bearer token, or a user with a password, each in a variable of the environment or in a file."""

    token_variable: str | None = None
    user_variable: str | None = None
    password_variable: str | None = None
    token_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None

    def header(self) -> str | None:
        """The value of ``Authorization``; None without credentials.

        Raises:
            ConfigError: a variable is not set, a file cannot be read, or the two kinds are mixed.
        """
        has_token = self.token_variable is not None or self.token_file is not None
        has_user = self.user_variable is not None or self.user is not None
        has_password = self.password_variable is not None or self.password_file is not None
        if has_user != has_password or (has_token and has_user):
            raise ConfigError("credentials of a source are a token, or a user with a password: name one of the two")
        if has_token:
            return f"Bearer {_secret(self.token_variable, self.token_file)}"
        if not has_user:
            return None
        user = self.user if self.user_variable is None else _variable(self.user_variable)
        password = _secret(self.password_variable, self.password_file)
        return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def _secret(variable: str | None, file: Path | None) -> str:
    """What a variable holds, or a file; one of them is named."""
    if variable is not None:
        return _variable(variable)
    assert file is not None  # noqa: S101 - the caller saw to it
    try:
        value = read_regular(file).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: the credentials in it cannot be read ({type(error).__name__})") from None
    if not value or not value.isprintable():
        raise ConfigError(f"{file}: expected one line, a token or a password")
    return value


def _variable(name: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value or not value.isprintable():
        raise ConfigError(f"the environment variable {name} is not set; the configuration takes credentials from it")
    return value


@dataclass(frozen=True)
class OriginLimits:
    """Bounds: requests at once, seconds without a byte and of a whole answer, bytes of a list and of a series."""

    connections: int = 32
    silent_seconds: float = 30.0
    answer_seconds: float = 600.0
    list_bytes: int = 64 * 2**20
    series_bytes: int = 4 * 2**30


class Origin:
    """A DICOMweb origin below one root address; no redirect is followed, no setting of the environment is used."""

    def __init__(
        self,
        name: str,
        url: str,
        credentials: Credentials | None = None,
        limits: OriginLimits | None = None,
        certificates: str | None = None,
    ) -> None:
        """``certificates`` is a file of authorities that are trusted instead of the usual ones.

        Raises:
            ConfigError: the address is not that of a DICOMweb root, or a variable with credentials is not set.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(f"source {name!r}: `url` is an address such as https://pacs.hospital/dicom-web")
        if parts.username or parts.password:
            raise ConfigError(f"source {name!r}: `url` holds credentials; name environment variables with them instead")
        self.name, self.root = name, url.rstrip("/")
        self.limits = limits or OriginLimits()
        authorization = (credentials or Credentials()).header()
        self._client = httpx.Client(
            headers={"Accept-Encoding": "identity", "User-Agent": "oncoseg"}
            | ({} if authorization is None else {"Authorization": authorization}),
            timeout=httpx.Timeout(self.limits.silent_seconds),
            limits=httpx.Limits(max_connections=self.limits.connections),
            follow_redirects=False,
            trust_env=False,
            verify=_context(certificates),
        )

    def close(self) -> None:
        """End its connections."""
        self._client.close()

    def failure(self, problem: Any, reason: str) -> ArchiveError:
        """An error of this source."""
        return ArchiveError(problem, f"source {self.name!r}: {reason}")

    @contextmanager
    def request(
        self,
        method: str,
        path: str,
        accept: str,
        *,
        parameters: Iterable[tuple[str, str]] = (),
        content: Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        also: tuple[int, ...] = (),
    ) -> Iterator[httpx.Response]:
        """Send a request to ``path`` below the root; the answer's body is still to be read (:meth:`body`).

        ``also`` are statuses beside 2xx that the caller deals with.

        Raises:
            ArchiveError: no answer, or one that is none of these.
        """
        query = urlencode(list(parameters), safe="*^,")  # Orthanc 1.10 does not decode these in a wild card
        with self.spoken():
            request = self._client.build_request(
                method,
                f"{self.root}/{path}" + (f"?{query}" if query else ""),
                content=content,
                headers={"Accept": accept} | dict(headers or {}),
            )
            answer = self._client.send(request, stream=True)
        try:
            if answer.status_code not in also:
                self._require_success(answer)
            if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise self.failure("damaged", "it compresses its answers though told not to; turn that off there")
            yield answer
        finally:
            answer.close()

    def body(self, answer: httpx.Response, most: int, should_stop: Callable[[], bool] | None = None) -> Iterator[bytes]:
        """The answer's bytes in pieces.

        Raises:
            ArchiveError: it is cut short, has more than ``most`` bytes, or takes too long; ``cancelled`` where
                ``should_stop`` said so.
        """
        total, end = 0, time.monotonic() + self.limits.answer_seconds
        with self.spoken():
            for chunk in answer.iter_raw():
                total += len(chunk)
                if total > most:
                    raise self.failure(
                        "too_large", f"its answer is larger than the limit of {most} bytes; raise the limit"
                    )
                if time.monotonic() > end:
                    raise self.failure(
                        "unreachable", f"its answer took more than {self.limits.answer_seconds:g} s; try again later"
                    )
                if should_stop is not None and should_stop():
                    raise ArchiveError("cancelled", "the retrieval of the series was cancelled")
                yield chunk

    def search(self, path: str, parameters: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
        """The results of a search.

        Raises:
            ArchiveError: there is no answer, or none that is DICOM's JSON.
        """
        with self.request("GET", path, JSON, parameters=parameters) as answer:
            if answer.status_code == 204:
                return []
            content = b"".join(self.body(answer, self.limits.list_bytes))
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise self.failure("damaged", "its list is not DICOM JSON; is `url` the root of its DICOMweb service?")
        return found

    @contextmanager
    def spoken(self) -> Iterator[None]:
        """Say in words what fails on the way."""
        try:
            yield
        except httpx.ConnectError as error:
            if "CERTIFICATE" in str(error) or "SSL" in str(error):
                raise self.failure(
                    "refused", "its certificate is not trusted, or it speaks no TLS; see `url` and `certificates`"
                ) from None
            raise self.failure("unreachable", "nothing answers at its address; start it, or correct `url`") from None
        except httpx.TimeoutException:
            raise self.failure(
                "unreachable", f"no answer for {self.limits.silent_seconds:g} s; look after it, or try again later"
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            kind = type(error).__name__
            raise self.failure("unreachable", f"the connection broke ({kind}); try again") from None

    def _require_success(self, answer: httpx.Response) -> None:
        status = answer.status_code
        if 200 <= status < 300:
            return
        if status in {401, 403}:
            raise self.failure("refused", f"it refuses the credentials (HTTP {status}); correct them there or here")
        if 300 <= status < 400:
            raise self.failure("refused", "it sends to another address, which is not followed; name that one in `url`")
        if status in {404, 410}:
            raise self.failure("not_found", "it does not have that any more; reload the list of series")
        if status == 413:
            raise self.failure("too_large", "it says that the request is too large (HTTP 413); raise its limit")
        if status == 406:
            raise self.failure("refused", "it has no such representation (HTTP 406)")
        if status >= 500 or status == 429:
            raise self.failure("unreachable", f"it failed (HTTP {status}); look into its log, or try again later")
        raise self.failure(
            "refused", f"it refused the request (HTTP {status}); is `url` the root of its DICOMweb service?"
        )


def _context(certificates: str | None) -> ssl.SSLContext:
    """What certificates are checked against: a file of authorities, or those that this system trusts."""
    try:
        return ssl.create_default_context(cafile=certificates)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"`certificates`: {certificates} cannot be read as certificates: {error}") from None
