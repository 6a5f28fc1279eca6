"""``oncoseg node check``: what the node needs, tried one by one, without a series."""

from __future__ import annotations

import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from oncoseg_core import ConfigError, OncoSegError, Registry, StorageError
from oncoseg_core.system import printable, write_failure
from oncoseg_node.audit.audit import FOLDER
from oncoseg_node.audit.chain import verify
from oncoseg_node.config.settings import NodeSettings, RuleSettings, TlsSettings
from oncoseg_node.queue.queue import open_queue
from oncoseg_node.reports import find_browser
from oncoseg_node.service.access import read_token
from oncoseg_node.service.lock import is_running


@dataclass(frozen=True)
class Line:
    """What was tried, and how it went."""

    what: str
    ok: bool
    message: str

    def __str__(self) -> str:
        return printable(f"{'ok' if self.ok else 'FAILED'}: {self.what}: {self.message}")


def lines_of(settings: NodeSettings, registry: Registry, *, destinations: bool = True) -> Iterator[Line]:
    """Try everything; what fails does not keep the rest from being tried.

    Args:
        settings: of the node.
        registry: of the installed components.
        destinations: whether those are asked too.
    """
    yield _tried("folder", partial(_folder, settings))
    yield _tried("disk", partial(_disk, settings))
    yield from (_tried(f"{what} port", attempt) for what, attempt in _ports(settings))
    if settings.receive.folder is not None:
        yield _tried("watched folder", partial(_watched, settings.receive.folder.path))
    for device in dict.fromkeys(one for one in settings.work.devices if one != "cpu"):
        yield _tried(f"device {device}", partial(_device, device))
    for rule in settings.rules:
        yield _tried(f"rule {rule.name}", partial(_rule, settings, rule, registry))
    for name in _text_models(settings):
        yield _tried(f"model {name}", partial(_text_model, settings, name, registry))
    if any("pdf" in one.formats for one in settings.destinations.values()):
        yield _tried("report as PDF", partial(_pdf, settings))
    for name in settings.destinations if destinations else ():
        yield _tried(f"destination {name}", partial(_destination, settings, name))


def _tried(what: str, attempt: Callable[[], str]) -> Line:
    try:
        return Line(what, ok=True, message=attempt())
    except (OncoSegError, OSError) as error:
        return Line(what, ok=False, message=" ".join(str(error).split()))


def _pdf(settings: NodeSettings) -> str:
    browser = find_browser()
    if not settings.report.pdf:
        raise ConfigError("a destination takes `pdf`, and `report.pdf` is false; change one of them")
    if browser is None:
        raise ConfigError("a destination takes `pdf`, and no Chromium is installed to print it; install one")
    return f"printed by {browser}"


def _folder(settings: NodeSettings) -> str:
    if not (settings.data / FOLDER).exists():
        try:
            settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StorageError(write_failure(error, settings.data)) from error
        return f"{settings.data} is there, and no node has run in it yet"
    verified = verify(settings.data / FOLDER)
    if not verified.intact:
        raise StorageError(f"the audit is broken: {verified.message}")
    queue = open_queue(settings.data)
    count = sum(queue.counts().values())
    queue.close()
    return f"queue of {count} series; audit of {verified.message}"


def _disk(settings: NodeSettings) -> str:
    free, least = shutil.disk_usage(settings.data).free, settings.keep.free_bytes
    if free < least:
        raise StorageError(
            f"{free / 1e9:.1f} GB free; below {least / 1e9:.1f} GB (`keep.free_bytes`) nothing is received"
        )
    return f"{free / 1e9:.1f} GB free"


def _ports(settings: NodeSettings) -> Iterator[tuple[str, Callable[[], str]]]:
    running = is_running(settings.data)
    dicom, web = settings.receive.dicom, settings.receive.web
    if dicom is not None:
        yield "C-STORE", partial(_port, dicom.host, dicom.port, dicom.tls, running)
    if web is not None:
        yield "web", partial(_port, web.host, web.port, web.tls, running, web.token_file)


def _port(host: str, port: int, tls: TlsSettings | None, running: bool, token_file: Path | None = None) -> str:
    words = []
    if running:
        words.append("the node runs, and has it")
    else:
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            socket.create_server((host.strip("[]"), port), family=family).close()
        except OSError as error:
            raise ConfigError(f"{host}, port {port} cannot be taken: {error.strerror or error}") from error
        words.append(f"{host}, port {port} is free")
    if tls is not None:
        _certificate(tls)
        words.append("certificate and key fit")
    if token_file is not None:
        read_token(token_file)
        words.append("the token can be read")
    return ", ".join(words)


def _certificate(tls: TlsSettings) -> None:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.authorities is not None:
            context.load_verify_locations(tls.authorities)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"certificate, key or authorities cannot be used: {error}") from error


def _watched(path: Path) -> str:
    if not path.is_dir():
        raise ConfigError(f"{path} is no folder; make it, or correct `receive.folder.path`")
    return f"{path} is there"


def _device(device: str) -> str:
    from oncoseg_node.segmenting import require_device

    return require_device(device)


def _rule(settings: NodeSettings, rule: RuleSettings, registry: Registry) -> str:
    from oncoseg_node.segmenting import plan

    protocol, chosen, missing = plan(settings, rule, registry, settings.work.devices[0])
    if missing:
        raise ConfigError(
            f"no model of {', '.join(rule.models)} makes {', '.join(missing)}; name one that does in `models`, or list "
            "the others in `structures`"
        )
    made = ", ".join(f"{len(sources)} by {key}" for key, sources in chosen.items())
    where = f"goes to {', '.join(rule.destinations)}" if rule.destinations else "is sent nowhere"
    return f"protocol {protocol.name}: {made}; {where}"


def _text_models(settings: NodeSettings) -> list[str]:
    used = {key for rule in settings.rules for key in rule.models}
    return [name for name, model in settings.models.items() if model.kind == "text" and name in used]


def _text_model(settings: NodeSettings, name: str, registry: Registry) -> str:
    from oncoseg_node.segmenting.models import text_model

    text_model(settings.models[name], registry, settings.work.devices[0])
    return "can be loaded"


def _destination(settings: NodeSettings, name: str) -> str:
    from oncoseg_node.sending.probe import probe

    return probe(name, settings.destinations[name])
