"""``oncoseg serve --check``: what the server needs, tried one by one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from oncoseg_core import OncoSegError, Registry
from oncoseg_core.system import atomic_write, cache_directory
from oncoseg_dicomweb import Archive
from oncoseg_server.config.settings import ServerSettings
from oncoseg_server.config.tokens import tokens_of
from oncoseg_server.sessions.embeddings import SharedEmbeddings
from oncoseg_server.sessions.models import Models
from oncoseg_server.web.sources import Sources

LEAST_FREE = 1_000_000_000
"""Bytes that should be free: copies of series and results pass through the disk."""


@dataclass(frozen=True)
class Line:
    """What was tried, and how it went."""

    what: str
    ok: bool
    message: str

    def __str__(self) -> str:
        return f"{'ok' if self.ok else 'FAILED'}: {self.what}: {self.message}"


def lines_of(settings: ServerSettings, sources: Sources, registry: Registry) -> Iterator[Line]:
    """Try everything; what fails does not keep the rest from being tried."""
    models = Models(settings.models, registry, SharedEmbeddings(0))
    for name in models.names:
        yield _tried(f"model {name}", lambda name=name: _loaded(models, name))  # type: ignore[misc]
    if not sources.archives:
        yield Line("sources", ok=False, message="there is none; add one under `sources`, or use --folder or --demo")
    for name, archive in sources.archives.items():
        yield _tried(f"source {name}", lambda archive=archive: _answers(archive))  # type: ignore[misc]
    yield _tried("cache folder", _cache_is_writable)
    yield _disk()
    yield _tried("access", lambda: _access(settings))
    if settings.tls is not None:
        yield _tried("TLS", lambda: _tls(settings))
    if settings.viewer:
        from oncoseg_server.viewer import installed_viewer

        there = installed_viewer() is not None
        message = "in the cache" if there else "not fetched yet; oncoseg serve --viewer does, with npm"
        yield Line("viewer", ok=there, message=message)


def _tried(what: str, attempt: Callable[[], str]) -> Line:
    try:
        return Line(what, ok=True, message=attempt())
    except (OncoSegError, OSError) as error:
        return Line(what, ok=False, message=" ".join(str(error).split()))


def _loaded(models: Models, name: str) -> str:
    served = models.get(name)
    info, engine = served.info, served.warm_up()
    adapter = f", adapter {info.adapter}" if info.adapter else ""
    computes = engine or f"{info.engine} {info.precision}"
    return f"{info.model} answers{adapter}, computed by {computes}; takes {', '.join(info.prompts)}"


def _answers(archive: Archive) -> str:
    archive.check()
    return f"{archive.kind} answers"


def _cache_is_writable() -> str:
    folder = cache_directory()
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".oncoseg-serve-check"
    atomic_write(probe, b"")
    probe.unlink()
    return "can be written"


def _disk() -> Line:
    folder = cache_directory()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    message = f"{free / 1e9:.1f} GB free" + ("" if free >= LEAST_FREE else "; free at least 1 GB")
    return Line("disk", ok=free >= LEAST_FREE, message=message)


def _access(settings: ServerSettings) -> str:
    required = tokens_of(settings, os.environ).required
    return "a bearer token is required" if required else f"no token: only this computer reaches {settings.host}"


def _tls(settings: ServerSettings) -> str:
    import ssl

    assert settings.tls is not None  # noqa: S101 - the caller looks
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls.certificate, settings.tls.key)
    except (ssl.SSLError, OSError) as error:
        raise OSError(f"certificate or key cannot be used: {error}") from error
    return "certificate and key fit"
