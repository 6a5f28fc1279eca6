"""Calls to the server: JSON there and back, its errors as exceptions, its streams as events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import httpx

from oncoseg_client.errors import ServerError

API = 1
"""The number of the interface that this client speaks."""

LONG_SECONDS = 900.0
"""What a server gives to opening, undoing and saving: masks of all steps may have to be made again."""

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
"""No proxy of the environment gets what is meant for this computer."""


class Transport:
    """One server's ``/api/v1``; safe to use from several threads.

    Args:
        url: of the server, such as ``http://127.0.0.1:8765``.
        token: where the server asks for one.
        timeout: seconds until an answer has to begin.
        verify: False, or a file of certificates, for a server with a certificate of its own.
        transport: another way to the server, for tests.

    Raises:
        ServerError: the address is none.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = 120.0,
        verify: bool | str = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"X-OncoSeg-Api": str(API)}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self.url = url.rstrip("/")
        self._long = httpx.Timeout(timeout, read=max(timeout, LONG_SECONDS))
        try:
            self._http = httpx.Client(
                base_url=f"{self.url}/api/v1",
                headers=headers,
                timeout=timeout,
                verify=verify,
                transport=transport,
                trust_env=httpx.URL(self.url).host not in LOOPBACK,
            )
        except httpx.InvalidURL as error:
            raise self._no_address(str(error)) from None

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        long: bool = False,
    ) -> Any:
        """The JSON of an answer; None where there is no content. ``long`` work may take ``LONG_SECONDS``.

        Raises:
            ServerError: the server refused, or did not answer.
        """
        try:
            reply = self._http.request(
                method, path, json=body, headers=headers, timeout=self._long if long else httpx.USE_CLIENT_DEFAULT
            )
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if reply.is_error:
            raise _failure(reply.status_code, reply.content)
        return reply.json() if reply.content else None

    def events(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The events of a stream, each with its name; closing the iterator hangs up, which cancels the work.

        Raises:
            ServerError: the server refused, or the stream broke off.
        """
        try:
            with self._http.stream("POST", path, json=body, headers=headers) as reply:
                if reply.is_error:
                    raise _failure(reply.status_code, reply.read())
                name = "message"
                for line in reply.iter_lines():
                    if line.startswith("event:"):
                        name = line.removeprefix("event:").strip()
                    elif line.startswith("data:"):
                        yield name, json.loads(line.removeprefix("data:"))
                        name = "message"
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def upload(self, path: str, files: list[tuple[str, tuple[str, bytes, str]]]) -> Any:
        """Send files.

        Raises:
            ServerError: the server refused, or did not answer.
        """
        try:
            reply = self._http.post(path, files=files)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if reply.is_error:
            raise _failure(reply.status_code, reply.content)
        return reply.json()

    def send(self, path: str, parts: Iterable[bytes]) -> Any:
        """Send a body in parts, as they are made.

        Raises:
            ServerError: the server refused, or did not answer.
        """
        try:
            reply = self._http.post(path, content=parts, headers={"Content-Type": "application/octet-stream"})
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if reply.is_error:
            raise _failure(reply.status_code, reply.content)
        return reply.json()

    def fetch(self, path: str, headers: Mapping[str, str]) -> tuple[dict[str, Any], bytearray]:
        """The line of JSON that an answer begins with, and the bytes behind it.

        Raises:
            ServerError: the server refused, or the answer broke off.
        """
        try:
            with self._http.stream("GET", path, headers=headers) as reply:
                if reply.is_error:
                    raise _failure(reply.status_code, reply.read())
                data, header = bytearray(), None
                for chunk in reply.iter_bytes():
                    data += chunk
                    if header is None and b"\n" in data:
                        line, _, rest = data.partition(b"\n")
                        header, data = json.loads(line), rest
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if header is None:
            raise ServerError("no_reason", f"the server {self.url} answered without voxels; is it an OncoSeg server?")
        return header, data

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _unreachable(self, error: httpx.HTTPError) -> ServerError:
        if isinstance(error, httpx.UnsupportedProtocol):
            return self._no_address("it has no http:// or https://")
        # The system's cause: refused, no such name, a certificate that is not trusted.
        cause = f" ({error})" if str(error) else ""
        why = "did not answer in time" if isinstance(error, httpx.TimeoutException) else f"cannot be reached{cause}"
        return ServerError("unreachable", f"the server {self.url} {why}; is it running (oncoseg serve), on that port?")

    def _no_address(self, why: str) -> ServerError:
        return ServerError(
            "unreachable", f"{self.url!r} is no address of a server: {why}; expected one such as http://127.0.0.1:8765"
        )


def _failure(status: int, content: bytes) -> ServerError:
    try:
        told = json.loads(content)
        return ServerError(str(told["code"]), str(told["message"]), status)
    except (ValueError, TypeError, KeyError):
        what = f"answered with status {status} and no reason; is it an OncoSeg server?"
        return ServerError("no_reason", f"the server {what}", status)
