"""Finding plugins and keeping what they provide.

Loading is explicit and happens once per process, when a command or a program asks for it; nothing is loaded at import.
pluggy does the discovery only. One plugin's failure never stops the host: it is recorded with its cause and raised when
one of its components is asked for, or at once by those who call :meth:`Registry.require_sound`.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from oncoseg_core.contract import interfaces, records
from oncoseg_core.contract.answers import Provider, naming
from oncoseg_core.contract.errors import (
    MissingDependencyError,
    OncoSegError,
    PluginConflictError,
    PluginError,
    UnknownComponentError,
    UsageError,
    close_matches,
)
from oncoseg_core.contract.records import ComponentSpec
from oncoseg_core.plugins.configuration import validate
from oncoseg_core.plugins.discovery import allows, find_distributions, normalised, read_records
from oncoseg_core.system.output import prints_aside

CORE_VERSION: str = sys.modules["oncoseg_core"].__version__  # the package's own names lie on a higher floor
SLOW_IMPORT = 0.5
"""Seconds: every command waits for every plugin, and help is to be there at once."""
SLOW = f"takes more than {SLOW_IMPORT:g} s to import, in every command; import heavy libraries behind the factory"

log = logging.getLogger(__name__)

Spec = TypeVar("Spec", bound=ComponentSpec)

BEHAVIOURS: dict[type[ComponentSpec], type[interfaces.Component]] = {
    records.NormalizerSpec: interfaces.Normalizer,
    records.DatasetSpec: interfaces.DatasetAdapter,
    records.PromptGeneratorSpec: interfaces.PromptGenerator,
    records.LossSpec: interfaces.SegmentationLoss,
    records.ModelSpec: interfaces.PromptableModel,
    records.AutomaticModelSpec: interfaces.AutomaticModel,
    records.ReaderSpec: interfaces.Reader,
    records.ExporterSpec: interfaces.Exporter,
    records.MetricSpec: interfaces.Metric,
    records.TrackerSpec: interfaces.Tracker,
}
"""What the factory of each kind must be a subclass of; a command's is a ``typer.Typer`` app, which is not built."""


@dataclass(frozen=True)
class Plugin:
    """One distribution that offers an ``oncoseg`` entry point.

    ``status`` is ``ok``, ``broken`` (``cause`` says why), ``incompatible`` (with this core, and not imported),
    ``disabled`` (by the environment) or ``shadowed`` (another version of it comes first on the path). An ``ok`` one has
    a ``cause`` where it slows every command down.
    """

    name: str
    version: str
    status: str = "ok"
    cause: str = ""

    @property
    def failed(self) -> bool:
        """Whether its components are missing though nobody switched it off."""
        return self.status in {"broken", "incompatible"}

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class RegisteredComponent:
    """A record and the plugin that provides it."""

    hook: str
    spec: ComponentSpec
    plugin: Plugin

    @property
    def provider(self) -> Provider:
        """Who answers for it."""
        return Provider(self.spec.kind, self.spec.component_name, self.plugin.name, self.plugin.version)


@dataclass
class Registry:
    """What was found: plugins, and components by kind and name. Order never depends on installation order."""

    plugins: list[Plugin] = field(default_factory=list)
    components: list[RegisteredComponent] = field(default_factory=list)

    def specs(self, spec_type: type[Spec]) -> list[Spec]:
        """All records of one kind, sorted by name; contested names are included once per provider."""
        found = [c.spec for c in self.components if isinstance(c.spec, spec_type)]
        return sorted(found, key=lambda spec: spec.component_name)

    def component(self, spec_type: type[Spec], name: str) -> RegisteredComponent:
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
        if not known:
            message += f"; no {spec_type.kind} is installed (oncoseg plugins lists what is)"
        disabled = [plugin.name for plugin in self.plugins if plugin.status == "disabled"]
        if disabled:
            message += f"; disabled by the environment: {', '.join(disabled)}"
        broken = self._broken()
        if broken:
            raise PluginError(f"{message}. A plugin that failed to load may provide it: {broken}")
        raise UnknownComponentError(message)

    def get(self, spec_type: type[Spec], name: str) -> Spec:
        """The record of that kind and name; raises as :meth:`component` does."""
        return cast("Spec", self.component(spec_type, name).spec)

    def prepare(
        self, spec_type: type[ComponentSpec], name: str, settings: Mapping[str, Any] | None = None
    ) -> Callable[..., Any]:
        """Import a component's behaviour and check its settings: a function of what its kind gets besides, to build it.

        For those who must know early that everything is there, and build late.

        Args:
            spec_type: the kind, as its record class.
            name: its name.
            settings: the user's settings, checked against the behaviour's ``Settings`` model.

        Raises:
            ConfigError: a setting is unknown or wrong.
            MissingDependencyError: a library that it needs is not installed.
            PluginError: the behaviour cannot be imported, or is not what its kind must be.
        """
        found = self.component(spec_type, name)
        behaviour = load_factory(found)
        expected = BEHAVIOURS[spec_type]
        if not (inspect.isclass(behaviour) and issubclass(behaviour, expected)):
            raise PluginError(
                f"{found.provider}: its factory {found.spec.factory!r} is not a class derived from "
                f"oncoseg_core.{expected.__name__}"
            )
        if inspect.isabstract(behaviour):
            missing = ", ".join(sorted(behaviour.__abstractmethods__))
            raise PluginError(f"{found.provider}: its class {behaviour.__name__} does not define {missing}")
        context = {"spec": found.spec} if isinstance(found.spec, records.DatasetSpec) else {}
        checked = validate(behaviour.Settings, settings or {}, f"settings of {spec_type.kind} {name!r}")
        return partial(_build, found.provider, behaviour, checked, **context)

    def build(
        self, spec_type: type[ComponentSpec], name: str, settings: Mapping[str, Any] | None = None, **context: Any
    ) -> Any:
        """Import a component's behaviour and build it with validated settings; raises as :meth:`prepare` does.

        Args:
            spec_type: the kind, as its record class.
            name: its name.
            settings: the user's settings, checked against the behaviour's ``Settings`` model.
            context: what its kind gets besides (``modality=`` for a loss, ``run_directory=`` for a tracker).
        """
        return self.prepare(spec_type, name, settings)(**context)

    def conflicts(self) -> list[str]:
        """One message for every name that two distributions contest."""
        by_name: dict[tuple[str, str], list[RegisteredComponent]] = {}
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
        broken = self._broken()
        if broken:
            raise PluginError(f"broken plugin: {broken}. Repair or uninstall it, or pass --allow-broken-plugins")

    def _broken(self) -> str:
        return "; ".join(f"{plugin}: {plugin.cause}" for plugin in self.plugins if plugin.failed)

    def versions(self) -> dict[str, str]:
        """Names and versions of the plugins in use, for checkpoints, exports and reports."""
        return {plugin.name: plugin.version for plugin in self.plugins if plugin.status == "ok"}


def _conflict_message(providers: list[RegisteredComponent]) -> str:
    first = providers[0]
    who = " and ".join(str(component.plugin) for component in providers)
    return (
        f"{first.hook}: the {first.spec.kind} {first.spec.component_name!r} is provided by {who}; "
        f"uninstall one, or choose with ONCOSEG_DISABLE_PLUGINS={providers[-1].plugin.name}"
    )


def _build(provider: Provider, behaviour: type[interfaces.Component], settings: BaseModel, **context: Any) -> Any:
    with naming(provider, "its construction"):
        component = behaviour(settings, **context)
    component.provider = provider
    return component


def load_factory(component: RegisteredComponent) -> Any:
    """Import the behaviour behind a record.

    Raises:
        MissingDependencyError: a library is missing; the message names it and the plugin that needs it.
        PluginError: the module fails otherwise, or has no such attribute.
    """
    module_name, _, attribute = component.spec.factory.partition(":")
    what = component.provider
    try:
        with prints_aside(f"plugin {component.plugin}"):
            module = importlib.import_module(module_name)
    except OncoSegError:
        raise
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if missing.partition(".")[0] == module_name.partition(".")[0]:
            raise PluginError(
                f"{what}: its factory {component.spec.factory!r} needs {missing!r}: no such module"
            ) from error
        raise MissingDependencyError(
            f"{what} needs the library {missing!r}, which is not installed; "
            f"reinstall the plugin with its dependencies: pip install {component.plugin.name}"
        ) from error
    except (Exception, SystemExit) as error:
        raise PluginError(f"{what}: importing {module_name!r} failed: {_one_line(error)}") from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        public = [name for name in vars(module) if not name.startswith("_")]
        raise PluginError(
            f"{what}: module {module_name!r} has no {attribute!r}{close_matches(attribute, public)}"
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
    installed = find_distributions()
    names = {found.name for found in installed if found.shadowed_by is None}
    only = _names_in(environment.get("ONCOSEG_PLUGINS", ""))
    without = _names_in(environment.get("ONCOSEG_DISABLE_PLUGINS", ""))
    for variable, wanted in (("ONCOSEG_PLUGINS", only), ("ONCOSEG_DISABLE_PLUGINS", without)):
        for name in sorted(wanted - names):
            raise UsageError(f"{variable}: no plugin {name!r} is installed{close_matches(name, names)}")

    registry = Registry()
    for found in installed:
        name, version = found.name, found.version
        if found.shadowed_by is not None:
            cause = f"version {found.shadowed_by} comes first on the path and is used; uninstall one of the two"
            registry.plugins.append(Plugin(name, version, "shadowed", cause))
            continue
        if name in without or (only and name not in only):
            registry.plugins.append(Plugin(name, version, "disabled", "by the environment"))
            continue
        if not allows(found.requires, CORE_VERSION):
            cause = f"requires oncoseg-core{found.requires}, this is {CORE_VERSION}; install its version for this core"
            registry.plugins.append(Plugin(name, version, "incompatible", cause))
            continue
        started = time.perf_counter()
        try:
            with prints_aside(f"plugin {name} {version}"):
                records_found = read_records(found.distribution)
        except (Exception, SystemExit) as error:  # a plugin may fail in any way, and the host goes on
            log.debug("plugin %s %s failed to load", name, version, exc_info=True)
            registry.plugins.append(Plugin(name, version, "broken", _one_line(error)))
            continue
        slow = time.perf_counter() - started > SLOW_IMPORT
        plugin = Plugin(name, version, cause=SLOW * slow)
        registry.plugins.append(plugin)
        registry.components.extend(RegisteredComponent(hook, spec, plugin) for hook, spec in records_found)
    registry.plugins.sort(key=lambda plugin: (plugin.name, plugin.status == "shadowed"))
    registry.components.sort(key=lambda c: (c.hook, c.spec.component_name, c.plugin.name))
    return registry


def _names_in(variable: str) -> set[str]:
    return {normalised(name) for name in variable.split(",") if name.strip()}


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, OncoSegError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
