"""The node's file, read and checked as far as it can be without models, protocols and the network."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from oncoseg_core import ConfigError, close_matches
from oncoseg_core.plugins import read_yaml, validate
from oncoseg_node.config.settings import (
    Condition,
    DicomReceiver,
    NodeSettings,
    ReceiveSettings,
    Requirements,
    RuleSettings,
    WebReceiver,
)
from oncoseg_node.config.tags import compiled, kind_of

_URL = re.compile(r"https?://[^/@\s?#]+(/[^@\s?#]*)?")


def read_settings(path: Path) -> NodeSettings:
    """The settings of a YAML file.

    That the protocols, models and files that it names exist is checked by those who use them.

    Raises:
        ConfigError: naming every key that is unknown or wrong, and what it names that is not there.
    """
    settings = validate(NodeSettings, read_yaml(path), str(path))
    problems = [*_paths(settings), *_receivers(settings.receive), *_rules(settings), *_urls(settings)]
    if problems:
        raise ConfigError(f"{path}: {'; '.join(problems)}")
    return settings


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _paths(settings: NodeSettings) -> Iterator[str]:
    """``~`` is the shell's: as it is, the node would make a folder of that name where it is started."""
    watched = settings.receive.folder
    paths = {"data": settings.data} | ({} if watched is None else {"receive.folder.path": watched.path})
    for key, path in paths.items():
        if path.parts[:1] and path.parts[0].startswith("~"):
            yield f"`{key}` is {path}; write the whole path, since ~ has no meaning here"


def _receivers(receive: ReceiveSettings) -> Iterator[str]:
    if receive.dicom is None and receive.web is None and receive.folder is None:
        yield "`receive` is empty: nothing would ever arrive; give `dicom`, `web` or `folder`"
    if receive.dicom is not None:
        yield from _dicom(receive.dicom)
    if receive.web is not None:
        yield from _web(receive.web)


def _dicom(door: DicomReceiver) -> Iterator[str]:
    if not door.allowed and not is_loopback(door.host):
        yield (
            f"`receive.dicom.host` is {door.host}, and `receive.dicom.allowed` names nobody: only this machine could "
            "send; name those who may"
        )
    for number, peer in enumerate(door.allowed):
        try:
            ipaddress.ip_network(peer.address or "127.0.0.1")
        except ValueError:
            yield (
                f"`receive.dicom.allowed.{number}.address` is {peer.address!r}; expected an address such as 10.1.2.3, "
                "or a network such as 10.1.0.0/16 (names are not looked up)"
            )


def _web(door: WebReceiver) -> Iterator[str]:
    if is_loopback(door.host):
        return
    if door.token_file is None or door.tls is None:
        yield f"`receive.web.host` is {door.host}, beyond this machine: `token_file` and `tls` are needed"


def _rules(settings: NodeSettings) -> Iterator[str]:
    names = Counter(rule.name for rule in settings.rules)
    yield from (f"`rules`: {name!r} is there {count} times" for name, count in names.items() if count > 1)
    for rule in settings.rules:
        at = f"rule {rule.name!r}"
        yield from _unknown(rule.models, settings.models, f"{at}: `models`", "model")
        yield from _unknown(rule.destinations, settings.destinations, f"{at}: `destinations`", "destination")
        yield from _conditions(rule, at)
        yield from _ranges(rule.require, f"{at}: `require")


def _urls(settings: NodeSettings) -> Iterator[str]:
    for name, destination in settings.destinations.items():
        if destination.kind == "dicomweb" and not _URL.fullmatch(destination.url):
            # It is not repeated: it may hold a password.
            yield (
                f"`destinations.{name}.url`: expected http:// or https:// with a host and a path, without a user or a "
                "query; give `user` and `password_file`, or `token_file`"
            )


def _unknown(names: Iterable[str], known: Iterable[str], at: str, what: str) -> Iterator[str]:
    for name in names:
        if name not in known:
            yield f"{at} names {name!r}, and there is no such {what}{close_matches(name, known)}"


def _conditions(rule: RuleSettings, at: str) -> Iterator[str]:
    for keyword, condition in rule.when.items():
        try:
            yield from _condition(kind_of(keyword), condition, f"{at}: `when.{keyword}`")
        except ConfigError as error:
            yield f"{at}: `when`: {error}"
    for field, required in (("kernel", rule.require.kernel), ("body_part", rule.require.body_part)):
        if required is not None:
            yield from _condition("text", required, f"{at}: `require.{field}`")


def _condition(kind: str, condition: Condition, at: str) -> Iterator[str]:
    """What is wrong with a condition on numbers or on text."""
    exact = (condition.equals, *(condition.any_of or ()))
    if kind == "number":
        wrong = [value for value in exact if isinstance(value, str)]
        if wrong:
            yield f"{at} is a number and compared with {wrong[0]!r}; write the number without quotes"
        if condition.matches is not None:
            yield f"{at} is a number; `matches` is for text: use `at_least`, `at_most` or `any_of`"
    else:
        wrong_numbers = [value for value in exact if isinstance(value, float)]
        if wrong_numbers:
            yield f"{at} is text and compared with the number {wrong_numbers[0]:g}; put it in quotes"
        if condition.at_least is not None or condition.at_most is not None:
            yield f"{at} is text; `at_least` and `at_most` are for numbers"
    if condition.any_of == ():
        yield f"{at}: `any_of` is empty, so that nothing fits"
    yield from _order(condition.at_least, condition.at_most, at)
    if condition.absent and len(condition.model_fields_set) > 1:
        yield f"{at}: what is absent has no value; `absent: true` stands alone"
    if condition.matches is not None:
        try:
            compiled(condition.matches)
        except ConfigError as error:
            yield f"{at}: `matches` {error}"


def _ranges(require: Requirements, at: str) -> Iterator[str]:
    yield from _order(*require.slices, f"{at}.slices`")
    yield from _order(*require.spacing_mm, f"{at}.spacing_mm`")


def _order(least: float | None, most: float | None, at: str) -> Iterator[str]:
    if least is not None and most is not None and least > most:
        yield f"{at}: the least, {least:g}, is more than the most, {most:g}"
