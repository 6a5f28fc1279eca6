"""The one error family of OncoSeg.

A message says what was found, what was expected, in which file, and what to do. It never carries a
patient's name, identifier or birth date. Commands print it as one line and exit with ``exit_code``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OncoSegError(Exception):
    """Base of every error OncoSeg raises on purpose; exit code 1."""

    exit_code = 1


class UsageError(OncoSegError):
    """The command or call was put wrongly (unknown option value, missing argument); exit code 2."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key or value is unknown, misspelt or out of range."""


class UnknownComponentError(UsageError):
    """No plugin provides a component of that kind and name."""


class PluginError(OncoSegError):
    """A plugin could not be loaded, or broke its side of the contract."""


class PluginConflictError(PluginError):
    """Two distributions provide a component of the same kind and name."""


class MissingDependencyError(OncoSegError):
    """A library that the asked-for part needs is not installed."""


class ImageReadError(OncoSegError):
    """An image or label file could not be read, or holds what the path cannot take."""


class GeometryError(OncoSegError):
    """Two grids that must agree do not, or a geometry is not a valid one."""


class DataError(OncoSegError):
    """A dataset, case or label is not what it was declared to be."""


class PromptError(UsageError):
    """A prompt lies outside the image, is empty, or is of a kind the model does not take."""


class WeightsError(OncoSegError):
    """Weights or an adapter are missing, altered, or belong to another model."""


class QualityError(OncoSegError):
    """What was made is not good enough to be exported, by the rules that the caller set."""


class StorageError(OncoSegError):
    """Something could not be written: no permission, no space, no such place."""


class RunError(OncoSegError):
    """A training run cannot start, go on or be resumed."""


def close_matches(name: str, known: Iterable[str]) -> str:
    """Say what the caller may have meant: ``; did you mean 'ct'?`` or the known names, or nothing.

    Args:
        name: what was asked for.
        known: what exists.
    """
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return "; did you mean " + " or ".join(repr(candidate) for candidate in near) + "?"
    if names:
        return "; known: " + ", ".join(names)
    return ""
