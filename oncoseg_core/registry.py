"""Finding plugins and keeping what they provide.

Loading is explicit and happens once per process, when a command or a program asks for it; nothing is loaded at import.
pluggy does the discovery only. One plugin's failure never stops the host: it is recorded with its cause and raised when
one of its components is asked for, or at once by those who call :meth:`Registry.require_sound`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import pluggy

from oncoseg_core import hookspecs
from oncoseg_core.config import validate
from oncoseg_core.errors import (
    MissingDependencyError,
    OncoSegError,
    PluginConflictError,
    PluginError,
    UnknownComponentError,
    UsageError,
    close_matches,
)
from oncoseg_core.hookspecs import HOOK_RECORDS
from oncoseg_core.interfaces import NoSettings
from oncoseg_core.records import ComponentSpec

ENTRY_POINT_GROUP = "oncoseg"
Spec = TypeVar("Spec", bound=ComponentSpec)


@dataclass(frozen=True)
class Plugin:
    """One distribution that offers an ``oncoseg`` entry point.

    ``status`` is ``ok``, ``broken`` (``cause`` says why), ``disabled`` (by the environment) or ``shadowed`` (another
    version of the same distribution comes first on the path).
    """

    name: str
    version: str
    status: str = "ok"
    cause: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Component:
    """A record and the plugin that provides it."""

    hook: str
    spec: ComponentSpec
    plugin: Plugin


@dataclass
class Registry:
    """What was found: plugins, and components by kind and name. Order never depends on installation order."""

    plugins: list[Plugin] = field(default_factory=list)
    components: list[Component] = field(default_factory=list)

    def specs(self, spec_type: type[Spec]) -> list[Spec]:
        """All records of one kind, sorted by name; contested names are included once per provider."""
        found = [c.spec for c in self.components if isinstance(c.spec, spec_type)]
        return sorted(found, key=lambda spec: spec.component_name)

    def component(self, spec_type: type[Spec], name: str) -> Component:
        """The one component of that kind and name, with its plugin.

        Raises:
            PluginConflictError: two distributions provide it.
            PluginError: nobody does, and a broken plugin might have.
            UnknownComponentError: nobody does; close matches are named.
        """
        providers = [c for c in self.components if isinstance(c.spec, spec_type) and c.spec.component_name == name]
        if len(providers) == 1:
            return providers[0]
        if providers:
            raise PluginConflictError(_conflict_message(providers))
        known = [spec.component_name for spec in self.specs(spec_type)]
        message = f"unknown {spec_type.kind} {name!r}{close_matches(name, known)}"
        broken = [plugin for plugin in self.plugins if plugin.status == "broken"]
        if broken:
            causes = "; ".join(f"{plugin}: {plugin.cause}" for plugin in broken)
            raise PluginError(f"{message}. A plugin that failed to load may provide it: {causes}")
        if not known:
            message += f"; no {spec_type.kind} is installed (oncoseg plugins lists what is)"
        raise UnknownComponentError(message)

    def get(self, spec_type: type[Spec], name: str) -> Spec:
        """The record of that kind and name; raises as :meth:`component` does."""
        return cast("Spec", self.component(spec_type, name).spec)

    def build(
        self, spec_type: type[ComponentSpec], name: str, settings: Mapping[str, Any] | None = None, **context: Any
    ) -> Any:
        """Import a component's behaviour and build it with validated settings.

        Args:
            spec_type: the kind, as its record class.
            name: its name.
            settings: the user's settings, checked against the behaviour's ``Settings`` model.
            context: what its kind gets besides (``modality=`` for a loss, ``run_directory=`` for a tracker).

        Raises:
            ConfigError: a setting is unknown or wrong.
            MissingDependencyError: a library that it needs is not installed.
            PluginError: the behaviour cannot be imported, or is not what its kind must be.
        """
        found = self.component(spec_type, name)
        behaviour = load_factory(found)
        settings_model = getattr(behaviour, "Settings", NoSettings)
        checked = validate(settings_model, settings or {}, f"settings of {spec_type.kind} {name!r}")
        return behaviour(checked, **context)

    def conflicts(self) -> list[str]:
        """One message for every name that two distributions contest."""
        by_name: dict[tuple[str, str], list[Component]] = {}
        for component in self.components:
            by_name.setdefault((component.hook, component.spec.component_name), []).append(component)
        return [_conflict_message(providers) for _, providers in sorted(by_name.items()) if len(providers) > 1]

    def require_sound(self) -> None:
        """Refuse to go on with a broken plugin or a contested name: for training and export, which must be exact.

        Raises:
            PluginConflictError: a name is contested.
            PluginError: a plugin is broken.
        """
        conflicts = self.conflicts()
        if conflicts:
            raise PluginConflictError("; ".join(conflicts))
        broken = [plugin for plugin in self.plugins if plugin.status == "broken"]
        if broken:
            causes = "; ".join(f"{plugin}: {plugin.cause}" for plugin in broken)
            raise PluginError(f"broken plugin: {causes}. Repair or uninstall it, or pass --allow-broken-plugins")

    def versions(self) -> dict[str, str]:
        """Names and versions of the plugins in use, for checkpoints, exports and reports."""
        return {plugin.name: plugin.version for plugin in self.plugins if plugin.status == "ok"}


def _conflict_message(providers: list[Component]) -> str:
    first = providers[0]
    who = " and ".join(str(component.plugin) for component in providers)
    return (
        f"{first.hook}: the {first.spec.kind} {first.spec.component_name!r} is provided by {who}; "
        f"uninstall one, or choose with ONCOSEG_DISABLE_PLUGINS={providers[-1].plugin.name}"
    )


def load_factory(component: Component) -> Any:
    """Import the behaviour behind a record.

    Raises:
        MissingDependencyError: a library is missing; the message names it and the plugin that needs it.
        PluginError: the module fails otherwise, or has no such attribute.
    """
    module_name, _, attribute = component.spec.factory.partition(":")
    what = f"{component.spec.kind} {component.spec.component_name!r} of {component.plugin}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(missing + "."):
            raise PluginError(f"{what}: its factory {component.spec.factory!r} names no module {missing!r}") from error
        raise MissingDependencyError(
            f"{what} needs the library {missing!r}, which is not installed; "
            f"reinstall the plugin with its dependencies: pip install {component.plugin.name}"
        ) from error
    except OncoSegError:
        raise
    except Exception as error:
        raise PluginError(f"{what}: importing {module_name!r} failed: {_one_line(error)}") from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        raise PluginError(
            f"{what}: module {module_name!r} has no {attribute!r}{close_matches(attribute, vars(module))}"
        ) from error


def load_plugins(environment: Mapping[str, str] | None = None) -> Registry:
    """Find and load every installed plugin.

    ``ONCOSEG_PLUGINS=a,b`` loads only those distributions, ``ONCOSEG_DISABLE_PLUGINS=c`` all but those.

    Args:
        environment: where the two variables are looked up; the process's own by default.

    Raises:
        UsageError: one of the variables names a distribution that is no installed plugin.
    """
    environment = os.environ if environment is None else environment
    entry_points, shadowed = _find_entry_points()
    only = _names_in(environment.get("ONCOSEG_PLUGINS", ""))
    without = _names_in(environment.get("ONCOSEG_DISABLE_PLUGINS", ""))
    for variable, names in (("ONCOSEG_PLUGINS", only), ("ONCOSEG_DISABLE_PLUGINS", without)):
        for name in sorted(names - entry_points.keys()):
            raise UsageError(f"{variable}: no plugin {name!r} is installed{close_matches(name, entry_points)}")

    registry = Registry(plugins=list(shadowed))
    for name, (version, found) in sorted(entry_points.items()):
        if name in without or (only and name not in only):
            registry.plugins.append(Plugin(name, version, "disabled", "by the environment"))
            continue
        try:
            records = [pair for entry_point in found for pair in _load_one(entry_point)]
            _refuse_repeats(records)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may fail in any way, and the host goes on
            log.debug("plugin %s %s failed to load", name, version, exc_info=True)
            registry.plugins.append(Plugin(name, version, "broken", _one_line(error)))
            continue
        plugin = Plugin(name, version)
        registry.plugins.append(plugin)
        registry.components.extend(Component(hook, spec, plugin) for hook, spec in records)
    registry.plugins.sort(key=lambda plugin: (plugin.name, plugin.status == "shadowed", plugin.version))
    registry.components.sort(key=lambda c: (c.hook, c.spec.component_name, c.plugin.name))
    return registry


_EntryPoints = dict[str, tuple[str, list[importlib.metadata.EntryPoint]]]


def _find_entry_points() -> tuple[_EntryPoints, list[Plugin]]:
    """Walk the installed distributions once. The first of a name on the path wins, as for imports.

    Only the metadata of plugins is read: parsing that of every installed package would take most of the start-up time.
    """
    found: _EntryPoints = {}
    shadowed: list[Plugin] = []
    for distribution in importlib.metadata.distributions():
        entry_points = _own_entry_points(distribution)
        if not entry_points:
            continue
        name, version = _identity(distribution, entry_points)
        used = found[name][0] if name in found else _first_version(name)
        if used not in (None, version):
            cause = f"version {used} comes first on the path and is used; uninstall one of the two"
            shadowed.append(Plugin(name, version, "shadowed", cause))
        elif name not in found:
            found[name] = (version, entry_points)
    return found, shadowed


def _own_entry_points(distribution: importlib.metadata.Distribution) -> list[importlib.metadata.EntryPoint]:
    """A distribution's entry points in our group, sorted. One whose list cannot be read or parsed offers none."""
    try:
        text = distribution.read_text("entry_points.txt")
        if text is None or f"[{ENTRY_POINT_GROUP}]" not in text:
            return []
        return sorted(e for e in distribution.entry_points if e.group == ENTRY_POINT_GROUP)
    except (ValueError, TypeError):
        return []


def _identity(
    distribution: importlib.metadata.Distribution, entry_points: list[importlib.metadata.EntryPoint]
) -> tuple[str, str]:
    """Normalised name and version; of an installation without readable metadata, its entry point's name stands in."""
    ...
def _records_of(hook_name: str, record_type: type[ComponentSpec], function: Any) -> Iterable[tuple[str, ComponentSpec]]:
    yielded = function()
    if isinstance(yielded, ComponentSpec) or not isinstance(yielded, Iterable):
        raise PluginError(f"{hook_name} returned {type(yielded).__name__}; expected it to yield {record_type.__name__}")
    for record in yielded:
        if not isinstance(record, record_type):
            raise PluginError(f"{hook_name} yielded {type(record).__name__}; expected {record_type.__name__}")
        yield hook_name, record


def _check_hook_names(module: Any) -> None:
    """Report a misspelt hook with the nearest name; pluggy alone would ignore a function named otherwise."""
    for name, member in inspect.getmembers(module, inspect.isroutine):
        marked = hasattr(member, f"{hookspecs.PROJECT}_impl")
        if name in HOOK_RECORDS:
            if not marked:
                raise PluginError(f"{name} is not marked as a hook: put @hookimpl above it")
        elif marked:
            raise PluginError(f"there is no hook {name!r}{close_matches(name, HOOK_RECORDS)}")


def _refuse_repeats(records: list[tuple[str, ComponentSpec]]) -> None:
    seen: set[tuple[str, str]] = set()
    for hook, spec in records:
        key = (hook, spec.component_name)
        if key in seen:
            raise PluginError(f"{hook} yields the {spec.kind} {spec.component_name!r} twice")
        seen.add(key)


def _names_in(variable: str) -> set[str]:
    return {_normalised(name) for name in variable.split(",") if name.strip()}


def _normalised(name: str) -> str:
    """A distribution's name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, OncoSegError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
