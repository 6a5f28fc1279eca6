"""A server that speaks ``/api/v1``: what it has, and sessions on its series."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from oncoseg_client.errors import ServerError
from oncoseg_client.session import RemoteSession
from oncoseg_client.transport import API, Transport
from oncoseg_client.voxels import Voxels


class Server:
    """An OncoSeg server.

    Args:
        url: such as ``http://127.0.0.1:8765``.
        token: where the server asks for one.
        timeout: seconds until an answer has to begin; opening, undoing and saving may take a quarter of an hour.
        verify: False, or a file of certificates, for a server with a certificate of its own.
        transport: another way to the server, for tests.
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
        self._transport = Transport(url, token=token, timeout=timeout, verify=verify, transport=transport)

    def info(self) -> dict[str, Any]:
        """Its version, models with the prompts that they take, sources and limits.

        Raises:
            ServerError: it does not answer, or speaks another version of the interface.
        """
        info: dict[str, Any] = self._transport.call("GET", "/server")
        if info.get("api") != API:
            raise ServerError(
                "version_mismatch",
                f"the server speaks interface {info.get('api')}, this client {API}; install versions that match",
            )
        return info

    def series(self, source: str, study_uid: str | None = None) -> list[dict[str, Any]]:
        """The series of a source, or of one of its studies."""
        query = "" if study_uid is None else f"?study={study_uid}"
        listed: list[dict[str, Any]] = self._transport.call("GET", f"/sources/{source}/series{query}")
        return listed

    def all_series(self) -> list[dict[str, Any]]:
        """The series of all its sources, each with its ``source``."""
        sources = [source["name"] for source in self.info()["sources"]]
        return [{"source": source, **one} for source in sources for one in self.series(source)]

    def upload(self, source: str, files: Sequence[Path]) -> list[dict[str, Any]]:
        """Send DICOM files or a zip of them to a source of uploads; returns the series that are there now.

        Raises:
            ServerError: it refuses them, for their size for example.
        """
        parts = [
            ("files", (f"{number}.dcm", path.read_bytes(), "application/octet-stream"))
            for number, path in enumerate(files)
        ]
        listed: list[dict[str, Any]] = self._transport.upload(f"/sources/{source}/uploads", parts)
        return listed

    def open(
        self,
        source: str,
        study_uid: str,
        series_uid: str,
        model: str | None = None,
        steps: Sequence[dict[str, Any]] = (),
        undone: Sequence[dict[str, Any]] = (),
    ) -> RemoteSession:
        """A session on a series; ``steps`` and ``undone`` resume an earlier one.

        Raises:
            ServerError: the series cannot be had or read, or there are too many sessions.
        """
        series = {"source": source, "study_uid": study_uid, "series_uid": series_uid}
        return RemoteSession(self._transport, lambda _: series, model, steps, undone)

    def open_volume(
        self,
        image: Voxels,
        model: str | None = None,
        steps: Sequence[dict[str, Any]] = (),
        undone: Sequence[dict[str, Any]] = (),
    ) -> RemoteSession:
        """A session on an image that the server does not have: it is sent, and sent again where the server lost it.

        Raises:
            ServerError: the image is refused, or there is no room for it.
        """
        taken: dict[str, Any] = {}

        def sent(again: bool) -> dict[str, Any]:
            if again or not taken:
                taken.update(self._send(image))
            return {"volume": taken["volume"]}

        return RemoteSession(self._transport, sent, model, steps, undone)

    def _send(self, image: Voxels) -> dict[str, Any]:
        try:
            parts = image.parts()
            first = next(parts)
        except ValueError as error:
            raise ServerError("bad_request", f"the image cannot be sent: {error}") from None
        taken: dict[str, Any] = self._transport.send("/volumes", itertools.chain((first,), parts))
        return taken

    def close(self) -> None:
        """Close the connections; sessions end when nobody is heard of."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
