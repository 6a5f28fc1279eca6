"""``pytest --oncoseg DISTRIBUTION``: one test per component of an installed plugin.

Every pytest run loads this module where the kit is installed, so it imports next to nothing until the option is given.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from oncoseg_core import Registry
    from oncoseg_core.plugins import Plugin, RegisteredComponent

NEED_TORCH = ("loss", "model")
"""Kinds whose checks compute with torch, which a continuous integration may do without."""

ExceptionInfo: TypeAlias = pytest.ExceptionInfo[BaseException]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options."""
    group = parser.getgroup("oncoseg", "checks of OncoSeg plugins (oncoseg_testing)")
    group.addoption(
        "--oncoseg",
        action="append",
        default=[],
        metavar="DISTRIBUTION",
        help="check every component of this installed plugin; may be repeated",
    )
    group.addoption(
        "--oncoseg-data",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="check the dataset NAME in this folder (without it, it is skipped), or the reader NAME on this image; "
        "may be repeated",
    )


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the tests of the distributions that were named.

    Raises:
        pytest.UsageError: one of them is no installed plugin, or an option is malformed.
    """
    wanted: list[str] = config.getoption("oncoseg")
    roots = _roots(config.getoption("oncoseg_data"))
    if not wanted:
        if roots:
            raise pytest.UsageError(
                "--oncoseg-data is for the datasets and readers of a plugin: name it with --oncoseg"
            )
        return
    from oncoseg_core import OncoSegError, load_plugins
    from oncoseg_core.plugins import normalised

    try:
        registry = load_plugins()
    except OncoSegError as error:
        raise pytest.UsageError(str(error)) from error
    for name in dict.fromkeys(normalised(one) for one in wanted):
        plugin = _plugin(registry, name)
        collector = Distribution.from_parent(
            session, name=f"oncoseg {name}", nodeid=f"oncoseg {name}", registry=registry, plugin=plugin, roots=roots
        )
        found = collector.collect()
        items.extend(found)
        # As for a file of tests, so that the number of collected tests that the terminal shows is right.
        config.hook.pytest_collectreport(report=pytest.CollectReport(collector.nodeid, "passed", None, [*found]))
    _require_known_datasets(registry, wanted, roots)


def _roots(given: list[str]) -> dict[str, Path]:
    roots = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder):
            raise pytest.UsageError(f"--oncoseg-data {text}: expected NAME=PATH, such as liverdemo=/data/liverdemo")
        if not Path(folder).exists():
            raise pytest.UsageError(f"--oncoseg-data {text}: no such file or folder")
        roots[name] = Path(folder)
    return roots


def _plugin(registry: Registry, name: str) -> Plugin:
    from oncoseg_core import close_matches

    usable = {plugin.name: plugin for plugin in registry.plugins if plugin.status == "ok" or plugin.failed}
    if name not in usable:
        disabled = any(plugin.name == name and plugin.status == "disabled" for plugin in registry.plugins)
        reason = "is disabled by the environment" if disabled else f"is not installed{close_matches(name, usable)}"
        raise pytest.UsageError(f"--oncoseg {name}: this plugin {reason}")
    return usable[name]


def _require_known_datasets(registry: Registry, wanted: list[str], roots: dict[str, Path]) -> None:
    from oncoseg_core import DatasetSpec, ReaderSpec, close_matches
    from oncoseg_core.plugins import normalised

    named = {normalised(one) for one in wanted}
    components = [
        c for c in registry.components if c.plugin.name in named and isinstance(c.spec, DatasetSpec | ReaderSpec)
    ]
    known = {component.spec.component_name for component in components}
    for name in sorted(roots.keys() - known):
        raise pytest.UsageError(
            f"--oncoseg-data {name}: no dataset or reader of {', '.join(sorted(named))}{close_matches(name, known)}"
        )


class Distribution(pytest.Collector):
    """The components of one plugin."""

    def __init__(self, *, registry: Registry, plugin: Plugin, roots: dict[str, Path], **parts: Any) -> None:
        super().__init__(**parts)
        self.registry, self.plugin, self.roots = registry, plugin, roots

    def collect(self) -> list[pytest.Item]:
        """One test per component; of a plugin that does not load, one that fails."""
        if self.plugin.failed:
            return [BrokenPlugin.from_parent(self, name="loads", plugin=self.plugin)]
        checks: list[pytest.Item] = [
            ComponentCheck.from_parent(
                self,
                name=f"{component.spec.kind} {component.spec.component_name}",
                registry=self.registry,
                component=component,
                root=self.roots.get(component.spec.component_name),
            )
            for component in self.registry.components
            if component.plugin == self.plugin
        ]
        return checks


class BrokenPlugin(pytest.Item):
    """Fails with the cause that ``oncoseg plugins`` shows."""

    def __init__(self, *, plugin: Plugin, **parts: Any) -> None:
        super().__init__(**parts)
        self.plugin = plugin

    def runtest(self) -> None:
        """Fail.

        Raises:
            pytest.fail.Exception: always.
        """
        pytest.fail(f"{self.plugin} is broken: {self.plugin.cause}", pytrace=False)

    def reportinfo(self) -> tuple[str, None, str]:
        """Where it stands, for the report."""
        return str(self.path), None, self.nodeid


class ComponentCheck(pytest.Item):
    """Runs the check of one component, with all that its record tells."""

    def __init__(self, *, registry: Registry, component: RegisteredComponent, root: Path | None, **parts: Any) -> None:
        super().__init__(**parts)
        self.registry, self.component, self.root = registry, component, root

    def runtest(self) -> None:
        """Run the check.

        Raises:
            AssertionError: a rule is broken.
        """
        from oncoseg_core import ConfigError
        from oncoseg_testing import check_component

        spec = self.component.spec
        if spec.kind == "dataset" and self.root is None:
            pytest.skip(f"say where the dataset is: --oncoseg-data {spec.component_name}=DIR")
        if spec.kind in NEED_TORCH and importlib.util.find_spec("torch") is None:
            pytest.skip(f"a {spec.kind} is checked with torch, which is not installed")
        try:
            check_component(self.registry, self.component, root=self.root)
        except ConfigError as error:
            check = f"check_{spec.kind.replace(' ', '_')}"
            pytest.skip(f"it needs settings ({error}); call oncoseg_testing.{check} in a test of your own")

    def repr_failure(self, excinfo: ExceptionInfo, style: Any = None) -> Any:
        """A broken rule in three lines, an error of OncoSeg in one; anything else with its traceback."""
        from oncoseg_core import OncoSegError

        error = excinfo.value
        if isinstance(error, OncoSegError):  # hypothesis may be what is missing, and rules need it
            return f"{type(error).__name__}: {error}"
        from oncoseg_testing.checks.rules import BrokenRuleError

        if isinstance(error, BrokenRuleError):
            return f"rule:    {error.rule}\nexample: {error.example}\nfound:   {error.found}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[str, None, str]:
        """Where it stands, for the report."""
        return str(self.path), None, self.nodeid
