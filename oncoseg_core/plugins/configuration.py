"""Strict configuration: every key is known, every value checked, and errors name the nearest key."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from oncoseg_core.contract.errors import ConfigError, close_matches

Model = TypeVar("Model", bound=BaseModel)

LONGEST_VALUE = 100
"""Characters of a wrong value that a message shows."""


MOST_NODES = 100_000
"""Values of one YAML text, each alias counted as all that it stands for."""


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML without the readings of YAML 1.1 that its writer did not mean.

    A key given twice and a number with a leading zero (octal in YAML 1.1, decimal in 1.2) are refused. ``on``, ``yes``,
    ``1:30`` (in base 60) and dates stay text. Aliases are bounded.
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own; those below are added

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None and _expanded(node, {}) > MOST_NODES:
            raise ConfigError(f"its aliases stand for more than {MOST_NODES} values; write it out, or smaller")
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Checked here and not when the mapping is built: by then merged keys (<<) stand beside its own.
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # building the mapping refuses it
            if (key.tag, key.value) in seen:
                raise ConfigError(f"line {key.start_mark.line + 1}: key {key.value!r} is given twice; keep one")
            seen.add((key.tag, key.value))
        return node


def _refuse_octal(_: yaml.Loader, node: yaml.ScalarNode) -> Any:
    raise ConfigError(
        f"line {node.start_mark.line + 1}: {node.value} begins with a zero; write the number without it, text in quotes"
    )


# A subset of what YAML 1.1 resolves, so that whatever was written by a YAML 1.1 library comes back as it was.
for _tag, _pattern, _starts in (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("!octal", r"[-+]?0[0-7_]+", list("-+0")),
    ("tag:yaml.org,2002:int", r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+][0-9]+)?|\.[0-9][0-9_]*([eE][-+][0-9]+)?|\.(inf|Inf|INF))|\.(nan|NaN|NAN)",
        list("-+0123456789."),
    ),
    ("tag:yaml.org,2002:merge", r"<<", ["<"]),
):
    _StrictLoader.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern})$"), _starts)
_StrictLoader.add_constructor("!octal", _refuse_octal)


def _expanded(node: yaml.Node, sizes: dict[int, float]) -> float:
    """Values of a node with all that its aliases stand for; infinite where one stands for itself."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in sizes:
        sizes[id(node)] = math.inf
        pairs = isinstance(node, yaml.MappingNode)
        children = (part for each in node.value for part in (each if pairs else (each,)))
        sizes[id(node)] = 1 + sum(_expanded(child, sizes) for child in children)
    return sizes[id(node)]


def _parse(text: str) -> Any:
    """Read YAML.

    Raises:
        ConfigError: it is not valid, or a key is given twice; the message lacks the place, which the caller knows.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise ConfigError(f"not valid YAML{line}: {error.problem}") from error
    except yaml.YAMLError as error:  # a character that no text has
        raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}") from error
    except ValueError as error:  # 2024-13-45 looks like a date
        raise ConfigError(f"not valid YAML: {error}") from error
    except RecursionError as error:
        raise ConfigError("nested too deeply") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping; an empty file is an empty one.

    Raises:
        ConfigError: the file is missing, unreadable, not YAML, or not a mapping.
    """
    try:
        loaded = _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; expected a readable YAML file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not text in UTF-8; expected YAML") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected keys and values at the top level, found {type(loaded).__name__}")
    return loaded


def built_in_names(package: str) -> list[str]:
    """The configurations that come with a package, in its folder ``builtin``."""
    folder = resources.files(package) / "builtin"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def find_config(config: str, package: str, kind: str) -> tuple[Path, str]:
    """The path of a YAML file or of a package's built-in one by its name, and what messages call it.

    Raises:
        ConfigError: there is no such file or name.
    """
    names = built_in_names(package)
    if config in names:
        return Path(str(resources.files(package) / "builtin" / f"{config}.yaml")), f"{kind} {config!r}"
    if not Path(config).exists():
        raise ConfigError(f"{config}: no such file, and no built-in {kind} of that name{close_matches(config, names)}")
    return Path(config), config


def apply_overrides(
    values: Mapping[str, Any], overrides: Sequence[str], option: str = "--set", example: str = "training.epochs=2"
) -> dict[str, Any]:
    """Apply ``a.b=value`` overrides (the value is read as YAML) to nested mappings, without changing the input.

    ``option`` and ``example`` are for messages.

    Raises:
        ConfigError: an override has no ``=``, or goes through a value that is not a mapping.
    """
    result: dict[str, Any] = _deep_copy(values)
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError(f"{option} {override}: expected KEY=VALUE, such as {option} {example}")
        try:
            value = _parse(text)
        except ConfigError as error:
            raise ConfigError(f"{option} {override}: {error}") from error
        level = result
        for key in keys[:-1]:
            if level.get(key) is None:  # absent, or a section that the file leaves empty
                level[key] = {}
            below = level[key]
            if not isinstance(below, dict):
                whole = "; a list is set as a whole" if isinstance(below, list) else ""
                raise ConfigError(f"{option} {override}: {key!r} holds {below!r}, not keys and values{whole}")
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
        checked = model.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(f"{where}: {validation_message(model, error)}") from error
    wrong = next(_truths_as_numbers(values, checked), None)
    if wrong is not None:
        raise ConfigError(f"{where}: {wrong} is true or false; expected a number")
    return checked


def _truths_as_numbers(given: Any, checked: Any, at: str = "") -> Iterator[str]:
    """The places where true or false was taken for 1 or 0, which pydantic does."""
    if isinstance(checked, BaseModel):
        checked = dict(checked)
    if isinstance(given, bool):
        if isinstance(checked, (int, float)) and not isinstance(checked, bool):
            yield at
    elif isinstance(given, Mapping) and isinstance(checked, Mapping):
        for key in given.keys() & checked.keys():
            yield from _truths_as_numbers(given[key], checked[key], f"{at}.{key}".lstrip("."))
    elif isinstance(given, (list, tuple)) and isinstance(checked, (list, tuple)) and len(given) == len(checked):
        for number, pair in enumerate(zip(given, checked, strict=True)):
            yield from _truths_as_numbers(*pair, f"{at}.{number}")
    elif isinstance(given, (list, tuple, set)) and isinstance(checked, (set, frozenset)):
        for one in given:
            yield from (place for each in checked if each == one for place in _truths_as_numbers(one, each, at))


def validation_message(model: type[BaseModel], error: ValidationError) -> str:
    """What is wrong with values given for ``model``, in one line; the nearest known key where one is unknown."""
    problems = error.errors(include_url=False)
    # Of a list with a wrong entry pydantic also says that it is too short: it counts the right ones.
    told = [
        each
        for each in problems
        if each["type"] != "too_short"
        or all(other is each or other["loc"][: len(each["loc"])] != each["loc"] for other in problems)
    ]
    return "; ".join(_explain_one(model, dict(problem)) for problem in told)


def _explain_one(model: type[BaseModel], problem: dict[str, Any]) -> str:
    # Of several kinds of value that a key may have, pydantic names each in the place: ``constrained-int``.
    location = tuple(part for part in problem["loc"] if not str(part).startswith(("constrained-", "literal[")))
    dotted = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        return f"unknown key {dotted!r}{close_matches(str(location[-1]), _keys_at(model, location[:-1]))}"
    if problem["type"] == "missing":
        return f"missing key {dotted!r}"
    if problem["type"] == "invalid_key":  # YAML reads a bare on, yes or 7 as no text
        return f"key {problem['input']!r} is not text; put it in quotes"
    message = " ".join(str(problem["msg"]).split())
    if problem["type"] == "string_pattern_mismatch" and problem["ctx"]["pattern"].startswith("^[a-z0-9][a-z0-9_."):
        message = "expected small letters, digits and any of _ . + -, such as ct or lung-ct"
    elif problem["type"] in {"value_error", "assertion_error"}:  # written by the model's author
        message = message.partition(", ")[2]
    else:
        message = message[0].lower() + message[1:]
    return f"{dotted} = {_shortened(repr(problem['input']))}: {message}" if dotted else message


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "…"


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> set[str]:
    """The keys known at a place. Parts that are no field (an index, a key of a mapping) do not change the models."""
    models = {model}
    for part in location:
        fields = [m.model_fields[part] for m in models if isinstance(part, str) and part in m.model_fields]
        if fields:
            models = {nested for field in fields for nested in _models_in(field.annotation)}
    return {key for m in models for key in m.model_fields}


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for argument in get_args(annotation) for model in _models_in(argument)}
