"""Finding installed plugins, and reading what their hooks yield. Used by :mod:`oncoseg_core.plugins.registry` alone.

pluggy alone would pass over a function whose name is misspelt or that lacks its mark; both are errors here.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import re
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import pluggy
from pydantic import ValidationError

from oncoseg_core.contract import hookspecs, records
from oncoseg_core.contract.errors import PluginError
from oncoseg_core.contract.hookspecs import HOOK_RECORDS
from oncoseg_core.contract.records import ComponentSpec
from oncoseg_core.plugins.configuration import validation_message

ENTRY_POINT_GROUP = "oncoseg"
UNKNOWN_VERSION = "unknown"
_CORE_REQUIREMENT = re.compile(
    r"^Requires-Dist:[ \t]*oncoseg[-_.]core(?![\w.-])[ \t]*(?:\[[^]]*\])?([^;\n]*)(?:;(?!.*\bextra\b).*)?$",
    re.MULTILINE | re.IGNORECASE,
)
_CLAUSE = re.compile(r"(===?|[<>!~]=|[<>])\s*([\d.]*\d)(\.\*)?")


class Found(NamedTuple):
    """An installed distribution with a plugin; ``shadowed_by`` is the version that comes before it on the path."""

    name: str
    version: str
    distribution: importlib.metadata.Distribution
    shadowed_by: str | None
    requires: str
    """What it requires of the core's version, such as ``>=0.1,<0.2``."""


def find_distributions() -> list[Found]:
    """Walk the installed distributions once, sorted by name. The first of a name on the path wins, as for imports.

    Only plugins have their metadata read: that of every installed package would take most of the start-up time.
    """
    found: dict[tuple[str, str], Found] = {}
    for distribution in importlib.metadata.distributions():
        declared = _read(distribution, "entry_points.txt").partition(f"[{ENTRY_POINT_GROUP}]")[2]
        if not declared:
            continue
        header = _header(distribution)
        # An installation that lost its metadata still says its name in its entry point.
        name = normalised(header.get("Name") or declared.partition("=")[0])
        version = header.get("Version", UNKNOWN_VERSION)
        first = _first_version(name)
        shadowed_by = None if first in {None, version} else first
        found.setdefault((name, version), Found(name, version, distribution, shadowed_by, header.get("core", "")))
    return [found[key] for key in sorted(found)]


def _first_version(name: str) -> str | None:
    """Version of the first distribution of that name on the path; an earlier one need not be a plugin yet."""
    first = next(iter(importlib.metadata.distributions(name=name)), None)
    return None if first is None else _header(first).get("Version", UNKNOWN_VERSION)


def _header(distribution: importlib.metadata.Distribution) -> dict[str, str]:
    """``Name``, ``Version`` and ``core`` (the required one) from the head of its metadata, as far as it has them."""
    head = (_read(distribution, "METADATA") or _read(distribution, "PKG-INFO")).partition("\n\n")[0]
    core = ",".join(_CORE_REQUIREMENT.findall(head))
    return {"core": core, **dict(re.findall(r"^(Name|Version):[ \t]*(\S+)", head, re.MULTILINE))}


def allows(specifier: str, version: str) -> bool:
    """Whether a requirement such as ``>=0.1,<0.2`` admits a version, by release numbers; lighter than packaging."""
    ours = _release(version)
    for operator, text, wild in _CLAUSE.findall(specifier):
        theirs, length = _release(text), text.count(".") + 1 - (operator == "~=")
        same = ours[:length] == theirs[:length] if wild or operator == "~=" else ours == theirs
        holds = {"<": ours < theirs, ">": ours > theirs, "<=": ours <= theirs, ">=": ours >= theirs}
        if not {**holds, "==": same, "!=": not same, "~=": same and ours >= theirs}[operator[:2]]:
            return False
    return True


def _release(version: str) -> list[int]:
    """The release numbers, six of them: ``0.1`` is ``0.1.0``."""
    return [*(int(number) for number in re.findall(r"\d+(?=[\d.]*)", re.split(r"[^\d.]", version)[0])), *[0] * 6][:6]


def _read(distribution: importlib.metadata.Distribution, file_name: str) -> str:
    try:
        return distribution.read_text(file_name) or ""
    except UnicodeDecodeError:  # a damaged package of whoever: not a reason for us to stop
        return ""


def read_records(distribution: importlib.metadata.Distribution) -> list[tuple[str, ComponentSpec]]:
    """Import a distribution's plugin modules and call their hooks: ``(hook, record)`` pairs."""
    found: list[tuple[str, ComponentSpec]] = []
    seen: set[tuple[str, str]] = set()
    for entry_point in distribution.entry_points.select(group=ENTRY_POINT_GROUP):
        for hook, spec in _records_in(entry_point):
            if (hook, spec.component_name) in seen:
                raise PluginError(f"{hook} yields the {spec.kind} {spec.component_name!r} twice")
            if isinstance(spec, records.CommandSpec) and spec.name in hookspecs.CORE_COMMANDS:
                raise PluginError(f"{hook}: the command {spec.name!r} is the core's own; choose another name")
            seen.add((hook, spec.component_name))
            found.append((hook, spec))
    return found


def _records_in(entry_point: importlib.metadata.EntryPoint) -> Iterator[tuple[str, ComponentSpec]]:
    module = entry_point.load()
    if not isinstance(module, ModuleType):
        raise PluginError(f"the entry point {entry_point.value!r} is a {type(module).__name__}; expected a module")
    # A manager for each plugin: one that fails leaves nothing behind, and two may share a module.
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    for name, member in sorted(vars(module).items()):
        looks_like_hook = name.startswith(f"{hookspecs.PROJECT}_") and callable(member)
        if looks_like_hook and manager.parse_hookimpl_opts(module, name) is None:
            raise PluginError(f"{name} is not marked as a hook: put @hookimpl above it{_nearest_hook(name)}")
    try:
        manager.register(module)
    except pluggy.PluginValidationError as error:
        hook = next((h for h in HOOK_RECORDS if h in str(error)), "a hook")
        raise PluginError(f"{hook} is declared with arguments; hooks take none: def {hook}()") from error
    for caller in sorted(manager.get_hookcallers(module) or [], key=lambda caller: caller.name):
        if not caller.has_spec():
            raise PluginError(f"there is no hook {caller.name!r}{_nearest_hook(caller.name)}")
        for implementation in caller.get_hookimpls():
            yield from _records_of(caller.name, implementation.function)


def _nearest_hook(name: str) -> str:
    """The one nearest: all hooks begin alike, so most would pass for close."""
    if name in HOOK_RECORDS:
        return ""
    return f"; did you mean {difflib.get_close_matches(name, HOOK_RECORDS, n=1, cutoff=0)[0]!r}?"


def _records_of(hook: str, function: Callable[[], Any]) -> Iterator[tuple[str, ComponentSpec]]:
    record_type = HOOK_RECORDS[hook]
    try:
        yielded = function()
        if isinstance(yielded, ComponentSpec) or not isinstance(yielded, Iterable):
            raise PluginError(f"{hook} returned {type(yielded).__name__}; expected it to yield {record_type.__name__}")
        for record in yielded:
            if not isinstance(record, record_type):
                raise PluginError(f"{hook} yielded {type(record).__name__}; expected {record_type.__name__}")
            yield hook, record
    except ValidationError as error:
        wrong = getattr(records, error.title, record_type)
        raise PluginError(f"{hook}: {error.title}: {validation_message(wrong, error)}") from error


def normalised(name: str) -> str:
    """A distribution's name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
