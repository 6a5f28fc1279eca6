"""``oncoseg serve --child``: a server for the one program that started it, on this computer, and gone with it."""

from __future__ import annotations

import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn

from oncoseg_core import ConfigError, ModelSpec, Registry, WeightsError
from oncoseg_core.cli import reserved_stdout
from oncoseg_core.system import image_bytes_limit, json_text
from oncoseg_lora import adapter_folder, pulled_adapters, read_manifest
from oncoseg_segment.api import SegmentSettings
from oncoseg_server.config.settings import MEGABYTE, Limits, ServerSettings
from oncoseg_server.web.run import serve_forever

log = logging.getLogger("oncoseg.server")
DEFAULT = "litemedsam"
"""Goes first where it is installed: its weights come with it, and it needs no GPU."""

VARIABLE = "ONCOSEG_CHILD_TOKEN"
"""What the token is called in the settings; no variable of that name is read or set."""

GOODBYE = 0.3
"""Seconds that open requests have, once the parent has gone."""

_DAY = 86_400.0


def serve_parent(registry: Registry, adapters: Sequence[str] = ()) -> None:
    """Serve until standard input ends; the first line on standard output is ``{"url": …, "token": …}``.

    Args:
        registry: the plugins.
        adapters: folders and names of adapters, beside those that were pulled.

    Raises:
        ConfigError: no promptable model is installed.
        WeightsError: an adapter is none.
    """
    parent = _Parent()
    answer = os.dup(1)
    with reserved_stdout():
        token = secrets.token_urlsafe(32)
        settings = child_settings(registry, adapters)

        def listens(url: str, server: uvicorn.Server) -> None:
            os.write(answer, (json_text({"url": url, "token": token}) + "\n").encode())
            os.close(answer)
            parent.ends(server)

        serve_forever(settings, registry, lambda *_: None, listens, environment={VARIABLE: token})


def child_settings(registry: Registry, adapters: Sequence[str] = ()) -> ServerSettings:
    """Every promptable model and every adapter of one, loaded when first used; half of the memory is for images.

    Raises:
        ConfigError: no promptable model is installed.
        WeightsError: one of ``adapters`` is none, or is of a model that is not installed.
    """
    names = sorted((spec.name for spec in registry.specs(ModelSpec)), key=lambda name: (name != DEFAULT, name))
    if not names:
        raise ConfigError("no promptable model is installed; install one, such as oncoseg-litemedsam")
    models = {_key(name): SegmentSettings(model=name) for name in names}
    for name, folder in _adapters(adapters):
        try:
            model = _model_of(name, folder, names)
        except WeightsError as error:
            if name in adapters:
                raise
            log.warning("the adapter %r is left out: %s", name, error)
            continue
        models[_free(_key(name), models)] = SegmentSettings(model=model, adapter=str(folder))
    # One user with one window: nobody takes another one's place, and a window that is left alone is no lost client.
    limits = Limits(
        sessions=1_024,
        sessions_per_owner=1_024,
        volumes_per_owner=1_024,
        lease_seconds=_DAY,
        volumes_mb=max(1, 4 * image_bytes_limit() // MEGABYTE),
        body_mb=256,
    )
    return ServerSettings(port=0, token_env=VARIABLE, models=models, limits=limits, preload=False)


def _adapters(named: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Those that were pulled, by alias or name, then those that were named."""
    for folder, origin in pulled_adapters():
        yield (folder.name if origin is None else origin.alias or origin.name), folder
    for reference in named:
        yield reference, adapter_folder(reference)


def _model_of(name: str, folder: Path, installed: Sequence[str]) -> str:
    model = read_manifest(folder).model
    if model not in installed:
        raise WeightsError(f"the adapter {name!r} is of the model {model!r}, which is not installed")
    return model


def _key(name: str) -> str:
    """A name as clients choose it: the last part of a folder, else ``owner-repository``."""
    last = Path(name).name if Path(name).exists() else name
    return re.sub(r"[^a-z0-9_.-]+", "-", last.lower()).strip("-._")[:60] or "adapter"


def _free(key: str, taken: dict[str, SegmentSettings]) -> str:
    numbers = (f"{key}-{number}" for number in range(2, len(taken) + 3))
    return next(one for one in (key, *numbers) if one not in taken)


class _Parent:
    """The program at the other end of standard input; when that ends, so does this one, whatever it is at."""

    def __init__(self) -> None:
        self._server: uvicorn.Server | None = None
        threading.Thread(target=self._watch, name="oncoseg-parent", daemon=True).start()

    def ends(self, server: uvicorn.Server) -> None:
        """The server that is told."""
        self._server = server

    def _watch(self) -> None:
        try:
            while os.read(0, 1024):
                pass
        except OSError:
            pass
        if self._server is not None:
            self._server.should_exit = True
            time.sleep(GOODBYE)
        os._exit(0)
