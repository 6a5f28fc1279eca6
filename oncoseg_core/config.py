"""Strict configuration: every key is known, every value checked, and errors name the nearest key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from oncoseg_core.errors import ConfigError, close_matches

Model = TypeVar("Model", bound=BaseModel)


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice (plain YAML keeps the last one silently)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise ConfigError(f"{self.name}, line {line}: key {key!r} is given twice; keep one")
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping.

    Raises:
        ConfigError: the file is missing, unreadable, not YAML, or not a mapping.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            loaded = yaml.load(stream, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; expected a readable YAML file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not text in UTF-8; expected YAML") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected keys and values at the top level, found {type(loaded).__name__}")
    return loaded


def apply_overrides(values: Mapping[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Apply ``a.b=value`` overrides (the value is read as YAML) to nested mappings, without changing the input.

    Raises:
        ConfigError: an override has no ``=``, or goes through a value that is not a mapping.
    """
    result: dict[str, Any] = _deep_copy(values)
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError(f"--set {override}: expected KEY=VALUE, such as --set training.epochs=2")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {override}: the value is not valid YAML") from error
        level = result
        for key in keys[:-1]:
            below = level.setdefault(key, {})
            if not isinstance(below, dict):
                raise ConfigError(f"--set {override}: {key!r} holds {below!r}, not keys and values")
            level = below
        level[keys[-1]] = value
    return result


def _deep_copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _deep_copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def validate(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Check ``values`` against ``model`` and say what is wrong, one problem after the other.

    Args:
        model: the pydantic model.
        values: what the user gave.
        where: the file or place it came from, to begin the message with.

    Raises:
        ConfigError: naming every wrong key, with the nearest known one, and every wrong value.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        problems = [_explain(model, dict(problem)) for problem in error.errors(include_url=False)]
        raise ConfigError(f"{where}: " + "; ".join(problems)) from error


def _explain(model: type[BaseModel], problem: dict[str, Any]) -> str:
    location = [part for part in problem["loc"] if not isinstance(part, int)]
    dotted = ".".join(str(part) for part in problem["loc"]) or "the whole"
    if problem["type"] == "extra_forbidden":
        known = _fields_at(model, [str(part) for part in location[:-1]])
        return f"unknown key {dotted!r}{close_matches(str(location[-1]), known)}"
    if problem["type"] == "missing":
        return f"missing key {dotted!r}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{dotted} = {problem['input']!r}: {message[0].lower()}{message[1:]}"


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        field = model.model_fields.get(part)
        nested = _model_in(field.annotation) if field is not None else None
        if nested is None:
            return []
        model = nested
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    candidates = [annotation, *get_args(annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
