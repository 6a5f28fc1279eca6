"""Protocols as YAML: those that come with this package, and a clinic's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

from oncoseg_core import ConfigError
from oncoseg_core.plugins import built_in_names, find_config, read_yaml, validate
from oncoseg_structures.protocol import Protocol


def protocol_names() -> list[str]:
    """The protocols that come with this package, in alphabetic order."""
    return built_in_names("oncoseg_structures")


def read_protocol(name_or_path: str | Path) -> Protocol:
    """Read a protocol by the name of one that comes with this package, or from a YAML file.

    Raises:
        ConfigError: there is none, or it is wrong; the message names the file, the line and the field.
    """
    path, where = find_config(str(name_or_path), "oncoseg_structures", "protocol")
    values = read_yaml(path)
    try:
        return validate(Protocol, values, where)
    except ConfigError as error:
        cause = error.__cause__
        place = cause.errors(include_url=False)[0]["loc"] if isinstance(cause, ValidationError) else ()
        if not place:  # of the file as a whole
            raise
        line = _line(path, place)
        raise ConfigError(str(error).replace(where, f"{where}, line {line}", 1)) from cause


def _line(path: Path, place: Sequence[int | str]) -> int:
    """The line of a value, or of the nearest value around it that the file has."""
    node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    line = node.start_mark.line if node is not None else 0
    for part in place:
        if isinstance(node, yaml.MappingNode):
            pairs = {key.value: (key, value) for key, value in node.value}
            if part not in pairs:
                break
            key, node = pairs[part]
            line = key.start_mark.line
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
    return int(line) + 1
